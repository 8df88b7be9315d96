"""The soft contrastive loss as a module, for a training loop of one's own."""

from __future__ import annotations

from dataclasses import asdict

from numpy.typing import ArrayLike
from torch import Tensor, nn

from mlcore.protocols import InfluenceFunction
from mlcore_soft_contrastive.config import (
    Aggregation,
    Implementation,
    SoftContrastiveConfig,
    TilePrecision,
)
from mlcore_soft_contrastive.dispatch import not_compiled
from mlcore_soft_contrastive.functional import soft_contrastive_loss
from mlcore_soft_contrastive.influence import Sigmoid

_NOT_OF_THE_FUNCTION = "heading_limit_deg"
"""An option of runs; the function and this module take radians."""


class SoftContrastiveLoss(nn.Module):
    """The soft contrastive loss (Thoma et al., NeurIPS 2020) with its options; no parameters.

    Called as ``loss(embeddings, positions_m, headings_rad, region)``, it returns a scalar:
    :func:`mlcore_soft_contrastive.soft_contrastive_loss` has the formula.

    Safe under ``torch.compile`` (the loss itself is left as it is), ``torch.func.grad`` and
    autocast, also where backward is called inside it. Under DDP, pass the embeddings of all
    processes as ``references``: the gradient is then that of the joint batch.

    Args:
        influence: Attraction weight by distance.
        alpha: Sharpness of the sum over attracting pairs.
        beta: Sharpness of the sum over repelling pairs.
        base: The lambda of the formula, a similarity.
        mining: Whether pairs that are easy already are dropped.
        epsilon: Mining margin, a similarity.
        aggregation: "log-sum-exp" or "plain".
        heading_limit_rad: Pairs inside the support whose headings differ by more neither
            attract nor repel; None for no limit, in which case headings have no effect.
        implementation: "auto", "dense", "tiled", "cupy" or "fused".
        save_similarity: Whether "tiled" keeps every similarity from pass to pass.
        gradient_filter: Similarity below which "tiled" leaves far tiles out of the gradient.
        tile_precision: Of the factors of products in "cupy" and "fused".

    Raises:
        ConfigError: An option is out of its range, or ``influence`` is no influence function
            (when the loss is called).
    """

    def __init__(
        self,
        influence: InfluenceFunction = Sigmoid(steepness_per_m=0.8, cutoff_m=15.0),  # noqa: B008 - frozen
        *,
        alpha: float = 2.0,
        beta: float = 50.0,
        base: float = 1.0,
        mining: bool = True,
        epsilon: float = 0.1,
        aggregation: Aggregation = "log-sum-exp",
        heading_limit_rad: float | None = None,
        implementation: Implementation = "auto",
        save_similarity: bool = False,
        gradient_filter: float = 0.0,
        tile_precision: TilePrecision = "float32",
    ) -> None:
        super().__init__()
        config = SoftContrastiveConfig(
            alpha=alpha,
            beta=beta,
            base=base,
            mining=mining,
            epsilon=epsilon,
            aggregation=aggregation,
            implementation=implementation,
            save_similarity=save_similarity,
            gradient_filter=gradient_filter,
            tile_precision=tile_precision,
        )
        options = asdict(config)
        del options[_NOT_OF_THE_FUNCTION]
        self.influence = influence
        self.heading_limit_rad = heading_limit_rad
        self.options = options

    @not_compiled
    def forward(
        self,
        embeddings: Tensor,
        positions_m: ArrayLike,
        headings_rad: ArrayLike | None = None,
        region: ArrayLike | None = None,
        *,
        references: Tensor | None = None,
        reference_positions_m: ArrayLike | None = None,
        reference_headings_rad: ArrayLike | None = None,
        reference_region: ArrayLike | None = None,
        self_index: ArrayLike | None = None,
    ) -> Tensor:
        """Return the mean loss of the images.

        Args:
            embeddings: ``(B, D)``; need not be normalised.
            positions_m: ``(B, 2)`` or ``(B, 3)``, metres; float64 for UTM.
            headings_rad: ``(B,)``, radians.
            region: ``(B,)`` integer codes; different regions are infinitely far apart.
            references: ``(R, D)`` embeddings to compare with instead of the batch itself.
            reference_positions_m: ``(R, 2)`` or ``(R, 3)``, metres.
            reference_headings_rad: ``(R,)``, radians.
            reference_region: ``(R,)``, given if and only if ``region`` is.
            self_index: ``(B,)`` int64, the column of ``references`` that is row i itself.

        Raises:
            ValueError: Shapes, dtypes or devices do not match; or embeddings, positions or
                headings are not finite, which names the rows and is a ``DataError`` as well.
        """
        loss: Tensor = soft_contrastive_loss(
            embeddings,
            positions_m,
            influence=self.influence,
            headings_rad=headings_rad,
            heading_limit_rad=self.heading_limit_rad,
            references=references,
            reference_positions_m=reference_positions_m,
            reference_headings_rad=reference_headings_rad,
            region=region,
            reference_region=reference_region,
            self_index=self_index,
            **self.options,
        )
        return loss

    def extra_repr(self) -> str:
        """Return the options that differ from their defaults."""
        defaults = asdict(SoftContrastiveConfig())
        changed = [f"{k}={v!r}" for k, v in self.options.items() if v != defaults[k]]
        if self.heading_limit_rad is not None:
            changed.append(f"heading_limit_rad={self.heading_limit_rad!r}")
        return ", ".join([f"{self.influence!r}", *changed])
