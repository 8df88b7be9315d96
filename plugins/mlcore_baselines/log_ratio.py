"""The log-ratio loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlcore.geometry import between_m
from mlcore.protocols import Batch, LossOutput, Pairs, Triplets
from mlcore_baselines import tuples as terms


class LogRatioLoss(nn.Module):
    """Ratios of embedding distances as the ratios of geometric distances.

    Mean over all near and far images p, n of one tuple of
    [log(D(a, p) / D(a, n)) - log(d_ap^2 / d_an^2)]^2, d in metres: Kim et al., Deep Metric
    Learning Beyond Binary Supervision, CVPR 2019. The code published with the soft
    contrastive paper pairs other indices than this definition. Distances below a floor
    count as the floor, since the logarithm of 0 is infinite. A far image of another region is
    in no pair: it is infinitely far, and no finite embedding distance has that ratio.

    Args:
        position_floor_m: Smallest geometric distance.
        embedding_floor: Smallest embedding distance; nearer pairs have no gradient.
    """

    def __init__(self, *, position_floor_m: float = 1.0, embedding_floor: float = 1e-3) -> None:
        super().__init__()
        self.position_floor_m = position_floor_m
        self.embedding_floor = embedding_floor

    def forward(
        self,
        embeddings: Tensor,
        batch: Batch,
        tuples: Pairs | Triplets | None = None,
    ) -> LossOutput:
        """Return the loss of ``embeddings`` ``(B, D)``; 0 for tuples without near or far."""
        rows = terms.TupleRows.of(batch)
        near = self._log_scale(
            terms.near_distance(embeddings, rows),
            batch,
            rows.near,
            rows.anchor[rows.near_tuple],
        )
        far = self._log_scale(
            terms.far_distance(embeddings, rows), batch, rows.far, rows.anchor[rows.far_tuple]
        )
        same_tuple = rows.near_tuple[:, None] == rows.far_tuple[None]
        p, n = (same_tuple & torch.isfinite(far)).nonzero(as_tuple=True)
        errors = (near[p] - far[n]).square()
        return LossOutput(errors.sum() / max(len(errors), 1), {"ratios": len(errors)})

    def _log_scale(
        self, distance: Tensor, batch: Batch, images: Tensor, anchors: Tensor
    ) -> Tensor:
        """Return log(D(a, x) / d_ax^2) of each image x; equal for all if the loss is 0."""
        ground_m = between_m(batch, anchors, images)
        ground = 2 * ground_m.clamp(min=self.position_floor_m).log()
        return distance.clamp(min=self.embedding_floor**2).log() - ground.to(distance.dtype)
