"""Options of the proposed loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from mlcore.errors import ConfigError

Aggregation = Literal["log-sum-exp", "plain"]
Implementation = Literal["auto", "dense", "tiled", "cupy"]
TilePrecision = Literal["float32", "tf32", "bfloat16"]

LARGEST_EXPONENT = 60.0
"""Exponents up to this need no shift: e^60 times a million pairs fits in float32."""


@dataclass(frozen=True, kw_only=True)
class SoftContrastiveConfig:
    """Options of the soft contrastive loss; the defaults are the paper's.

    Attributes:
        alpha: Sharpness of the sum over attracting pairs.
        beta: Sharpness of the sum over repelling pairs.
        base: The lambda of the formula, a similarity: attraction below and repulsion
            above it weigh more.
        mining: Drop the pairs that are easy already (multi-similarity mining).
        epsilon: Mining margin, a similarity: larger keeps more pairs.
        aggregation: Sum the pairs of a row in a log-sum-exp, or plainly.
        heading_limit_deg: Pairs inside the support whose headings differ by more degrees
            neither attract nor repel. auto: 60 where a batch has several tuples and the
            images have headings, otherwise none.
        implementation: How the loss is computed: dense writes all pair matrices out, tiled
            never does, cupy is tiled with CUDA kernels; auto takes dense for small batches,
            cupy on a GPU where CuPy is installed, and else tiled.
        save_similarity: tiled: keep every similarity from pass to pass: faster, for memory
            that grows with the square of the batch.
        gradient_filter: tiled: leave tiles beyond the support out of the gradient if no
            similarity in them reaches this; 0 leaves out none. The gradient by a unit
            embedding is then off by less than 2 exp(beta (gradient_filter - base)).
        tile_precision: cupy: how factors of matrix products are rounded; sums stay float32.
            A similarity is then off by some 1e-4 (tf32) or 1e-3 (bfloat16), and an exponent
            by beta times that. Others compute float32 whatever this says.
    """

    alpha: float = 2.0
    beta: float = 50.0
    base: float = 1.0
    mining: bool = True
    epsilon: float = 0.1
    aggregation: Aggregation = "log-sum-exp"
    heading_limit_deg: float | Literal["auto", "none"] = "auto"
    implementation: Implementation = "auto"
    save_similarity: bool = False
    gradient_filter: float = 0.0
    tile_precision: TilePrecision = "float32"

    def __post_init__(self) -> None:
        for name, choices in (
            ("aggregation", Aggregation),
            ("implementation", Implementation),
            ("tile_precision", TilePrecision),
        ):
            value = getattr(self, name)
            if value not in get_args(choices):
                known = ", ".join(get_args(choices))
                raise ConfigError(f"loss: {name} must be one of {known}, got {value!r}")
        for name in ("alpha", "beta"):
            value = getattr(self, name)
            if not 0.0 < value < math.inf:
                raise ConfigError(f"loss: {name} must be positive and finite, got {value}")
        for name in ("base", "epsilon"):
            value = getattr(self, name)
            if not math.isfinite(value):
                raise ConfigError(f"loss: {name} must be finite, got {value}")
        if not 0.0 <= self.gradient_filter <= 1.0:
            raise ConfigError(
                f"loss: gradient_filter must be in [0, 1], got {self.gradient_filter}"
            )
        if self.gradient_filter > 0.0 and self.aggregation == "plain":
            raise ConfigError(
                "loss: gradient_filter needs aggregation log-sum-exp; in a plain sum no "
                "similarity is negligible"
            )
        limit = self.heading_limit_deg
        if not isinstance(limit, str) and not 0.0 <= limit <= 180.0:
            raise ConfigError(
                f"loss: heading_limit_deg must be in [0, 180], auto or none, got {limit}"
            )

    @property
    def largest_exponent(self) -> float:
        """The largest exponent that the formula can come to."""
        return max(self.alpha * self.base, self.beta * (1.0 - self.base))
