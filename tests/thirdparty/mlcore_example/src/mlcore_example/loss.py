"""A loss that uses an influence function and can be shared among processes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlcore import Batch, LossOutput, Pairs, Triplets
from mlcore.geometry import between_m
from mlcore.protocols import InfluenceFunction


class SimilarityRegression(nn.Module):
    """Mean over all pairs of ``|s - w(d)|^power``, s their similarity, w their influence.

    Args:
        power: At least 1.
        influence: What the similarity at a distance should be.
    """

    def __init__(self, *, power: float, influence: InfluenceFunction) -> None:
        super().__init__()
        self.power = power
        self.influence = influence

    def forward(
        self, embeddings: Tensor, batch: Batch, tuples: Pairs | Triplets | None = None
    ) -> LossOutput:
        """Return the loss of normalised ``embeddings`` (B, D)."""
        return self.forward_rows(embeddings, batch, slice(None))

    def forward_rows(self, embeddings: Tensor, batch: Batch, rows: slice) -> LossOutput:
        """Return the share of ``rows`` in the loss of the joint batch."""
        mine = torch.arange(len(batch), device=embeddings.device)[rows]
        apart_m = between_m(batch, mine[:, None])
        wanted = torch.where(apart_m < self.influence.support_m, self.influence(apart_m), 0.0)
        similarity = embeddings[rows] @ embeddings.T
        cost = (similarity - wanted.to(similarity.dtype)).abs().pow(self.power)
        return LossOutput(cost.sum() / len(embeddings) ** 2)
