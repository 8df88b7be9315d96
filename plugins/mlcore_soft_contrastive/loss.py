"""The proposed loss as a component of a training run."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from mlcore.errors import ConfigError
from mlcore.factories import BuildContext
from mlcore.geometry import takes_headings
from mlcore.protocols import (
    Batch,
    InfluenceFunction,
    LossOutput,
    Pairs,
    ProcessGroup,
    Triplets,
)
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.dispatch import evaluate, is_dense, not_compiled
from mlcore_soft_contrastive.geometry import Geometry
from mlcore_soft_contrastive.influence import Sigmoid
from mlcore_soft_contrastive.inputs import checked_geometry

AUTO_HEADING_LIMIT_RAD = math.radians(60.0)


class BatchLoss(nn.Module):
    """Soft contrastive loss over all pairs of a batch, as the engine calls losses.

    :class:`mlcore_soft_contrastive.SoftContrastiveLoss` is for loops of one's own.

    Args:
        config: The formula's options.
        influence: Attraction weight by distance.
        heading_limit_rad: Pairs inside the support whose headings differ by more neither
            attract nor repel; None for no limit. The config's ``heading_limit_deg`` is
            read by :meth:`for_run`, which alone knows what "auto" means.
    """

    def __init__(
        self,
        config: SoftContrastiveConfig,
        influence: InfluenceFunction,
        heading_limit_rad: float | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.influence = influence
        self.heading_limit_rad = heading_limit_rad

    @classmethod
    def for_run(cls, config: SoftContrastiveConfig, context: BuildContext) -> BatchLoss:
        """Return the loss as a run's options and its context make it.

        Raises:
            ConfigError: A heading limit is set and the data set has no headings.
        """
        influence = Sigmoid() if context.influence is None else context.influence
        return cls(config, influence, _heading_limit_rad(config, context))

    @not_compiled
    def forward(
        self, embeddings: Tensor, batch: Batch, tuples: Pairs | Triplets | None = None
    ) -> LossOutput:
        """Return the mean loss of the batch's images; ``embeddings`` is ``(B, D)``."""
        assert tuples is None, "this loss does its own mining"
        return evaluate(embeddings, None, self._geometry(embeddings, batch), self.config)

    @not_compiled
    def forward_shared(
        self, embeddings: Tensor, batch: Batch, group: ProcessGroup
    ) -> LossOutput | None:
        """Return the loss of the joint batch; each process takes a share of the tiles.

        The gradients of all processes add up to that of :meth:`forward`. None for a dense
        matrix and for "fused", which have no tiles to share.
        """
        geometry = self._geometry(embeddings, batch)
        if is_dense(geometry, self.config) or self.config.implementation == "fused":
            return None
        return evaluate(embeddings, None, geometry, self.config, group)

    @not_compiled
    def forward_rows(self, embeddings: Tensor, batch: Batch, rows: slice) -> LossOutput:
        """Return the share of ``rows`` in the loss of the joint batch.

        ``embeddings`` and ``batch`` are the whole joint batch. The shares of slices that
        partition it add up to :meth:`forward`, and so do their gradients.
        """
        whole = self._geometry(embeddings, batch)
        geometry = Geometry(
            rows=whole.rows.take(rows),
            columns=whole.columns,
            self_index=whole.self_index[rows],
            influence=whole.influence,
            heading_limit_rad=whole.heading_limit_rad,
        )
        loss, stats = evaluate(embeddings[rows], embeddings, geometry, self.config)
        share = len(geometry.rows) / max(len(embeddings), 1)
        shares = {
            name: value * share if isinstance(value, torch.Tensor) else value
            for name, value in stats.items()
        }
        return LossOutput(loss * share, shares)

    def _geometry(self, embeddings: Tensor, batch: Batch) -> Geometry:
        return checked_geometry(
            embeddings,
            batch.positions_m,
            batch.headings_rad,
            region=batch.region,
            influence=self.influence,
            heading_limit_rad=self.heading_limit_rad,
        )


def _heading_limit_rad(config: SoftContrastiveConfig, context: BuildContext) -> float | None:
    limit = config.heading_limit_deg
    if limit == "none":
        return None
    if limit == "auto":
        if context.influence is not None and takes_headings(context.influence):
            return None  # it weighs headings itself
        several_views = context.tuples_per_batch > 1 and context.has_headings
        return AUTO_HEADING_LIMIT_RAD if several_views else None
    if not context.has_headings:
        raise ConfigError(
            f"loss: heading_limit_deg is {limit}, but the data set has no headings; "
            "set it to auto or none"
        )
    return math.radians(limit)
