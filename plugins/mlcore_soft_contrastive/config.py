"""Options of the soft contrastive loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal, get_args

from mlcore.errors import ConfigError
from mlcore.option_types import FRACTION, POSITIVE, Range, check_ranges

Aggregation = Literal["log-sum-exp", "plain"]
Implementation = Literal["auto", "dense", "tiled", "cupy", "fused"]
TilePrecision = Literal["float32", "tf32", "bfloat16"]

LARGEST_EXPONENT = 60.0
"""Exponents up to this need no shift: e^60 times a million pairs fits in float32."""


@dataclass(frozen=True, kw_only=True)
class SoftContrastiveConfig:
    """Options of the soft contrastive loss; the defaults are the paper's.

    Attributes:
        alpha: Sharpness of the log-sum-exp over attracting pairs.
        beta: Sharpness of the log-sum-exp over repelling pairs.
        base: Lambda of the formula, a similarity: attracting pairs below it and repelling
            pairs above it dominate the sums.
        mining: Drop pairs that are already easy (multi-similarity mining).
        epsilon: Mining margin, as a similarity; a larger margin keeps more pairs.
        aggregation: How the pairs of an image are combined: log-sum-exp or a plain sum.
        heading_limit_deg: Ignore pairs within the support whose headings differ by more
            than this many degrees. auto uses 60 if a batch has several tuples and the
            images have headings, unless the influence function weighs headings itself;
            otherwise none.
        implementation: How to compute the loss. dense stores all pair matrices; tiled
            needs memory for a few copies of the embeddings; cupy is tiled with CUDA
            kernels; fused computes similarities and the work on them in one Triton kernel
            (at most 256 dimensions, compute capability 8.0 or later). auto uses dense for
            small batches, cupy on a GPU with CuPy installed, and tiled otherwise.
        save_similarity: With tiled, store all similarities between passes. Faster, but
            memory grows with the square of the batch size.
        gradient_filter: With tiled, skip the gradient of tiles beyond the support in which
            no similarity reaches this value; 0 skips none. The error of the gradient with
            respect to a unit embedding is below 2 exp(beta (gradient_filter - base)).
        tile_precision: With cupy and fused, precision of the factors of matrix products; sums
            are float32. tf32 changes a similarity by about 1e-4, bfloat16 by about 1e-3, and
            an exponent by beta times that. Does nothing where auto chooses another.
    """

    alpha: Annotated[float, POSITIVE] = 2.0
    beta: Annotated[float, POSITIVE] = 50.0
    base: Annotated[float, Range(at_least=-2, at_most=2)] = 1.0
    mining: bool = True
    epsilon: Annotated[float, Range(at_least=-2, at_most=2)] = 0.1
    aggregation: Aggregation = "log-sum-exp"
    heading_limit_deg: Annotated[
        float | Literal["auto", "none"], Range(at_least=0, at_most=180)
    ] = "auto"
    implementation: Implementation = "auto"
    save_similarity: bool = False
    gradient_filter: Annotated[float, FRACTION] = 0.0
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
        try:
            check_ranges(self)
        except ValueError as error:
            raise ConfigError(f"loss: {error}") from error
        self._require_effect()
        if self.gradient_filter > 0.0 and self.aggregation == "plain":
            raise ConfigError(
                "loss: gradient_filter needs aggregation log-sum-exp, because no similarity is "
                "negligible in a plain sum; set gradient_filter to 0"
            )

    def _require_effect(self) -> None:
        """Raise ConfigError for an option that the chosen implementation does not have."""
        for name, idle, users in (
            ("save_similarity", False, ("tiled", "cupy")),
            ("gradient_filter", 0.0, ("tiled", "cupy", "fused")),
            ("tile_precision", "float32", ("cupy", "fused")),
        ):
            value = getattr(self, name)
            if value != idle and self.implementation not in ("auto", *users):
                raise ConfigError(
                    f"loss: {name} {value} has no effect with implementation "
                    f"{self.implementation}; choose auto or {' or '.join(users)}"
                )

    @property
    def largest_exponent(self) -> float:
        """Upper bound of the exponents in both sums."""
        return max(self.alpha * self.base, self.beta * (1.0 - self.base))
