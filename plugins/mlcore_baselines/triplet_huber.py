"""The triplet loss with a Huber term that ties embedding distance to geometric distance."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlcore.geometry import between_m
from mlcore.protocols import Batch, LossOutput, Pairs, Triplets
from mlcore_baselines import tuples as terms


class TripletHuberLoss(nn.Module):
    """The triplet loss, and near images as far in the embedding as they are on the ground.

    The triplet loss + huber_weight * mean over near images of Huber_1(d^2 / near_radius_m^2,
    D(a, p) / embedding_scale), with d the geometric distance in metres: the term that the
    soft contrastive paper (NeurIPS 2020) compares with.

    Args:
        near_radius_m: Geometric distance that corresponds to an embedding distance of
            sqrt(embedding_scale).
        margin: Squared embedding distance.
        huber_weight: Weight of the Huber term.
        embedding_scale: Divides squared embedding distances in the Huber term.
    """

    def __init__(
        self,
        *,
        near_radius_m: float,
        margin: float = 0.1,
        huber_weight: float = 0.5,
        embedding_scale: float = 2.0,
    ) -> None:
        super().__init__()
        self.near_radius_m = near_radius_m
        self.margin = margin
        self.huber_weight = huber_weight
        self.embedding_scale = embedding_scale

    def forward(
        self,
        embeddings: Tensor,
        batch: Batch,
        tuples: Pairs | Triplets | None = None,
    ) -> LossOutput:
        """Return the loss of ``embeddings`` ``(B, D)``.

        A tuple without near images contributes 0, one without far images its Huber term.
        """
        rows = terms.TupleRows.of(batch)
        bound = terms.nearest(embeddings, rows)
        hinges = terms.anchor_hinges(embeddings, rows, bound, self.margin)
        triplet = terms.mean_of_sums(hinges, rows)
        near = terms.near_distance(embeddings, rows)
        huber = self.huber_weight * self._huber(near, batch, rows)
        stats = {
            "active_share": terms.share_above_zero(hinges),
            "triplet": triplet.detach(),
            "huber": huber.detach(),
        }
        return LossOutput(triplet + huber, stats)

    def _huber(self, near: Tensor, batch: Batch, rows: terms.TupleRows) -> Tensor:
        """Return the mean over near images, 0 if there are none."""
        anchors = rows.anchor[rows.near_tuple]
        ground = (between_m(batch, anchors, rows.near) / self.near_radius_m) ** 2
        errors = torch.nn.functional.huber_loss(
            near / self.embedding_scale, ground.to(near.dtype), reduction="none"
        )
        return errors.sum() / max(len(near), 1)
