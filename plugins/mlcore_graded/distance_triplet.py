"""A triplet loss over all ordered pairs of an anchor's images, its margin in metres."""

from __future__ import annotations

import torch
from torch import Tensor

from mlcore_graded.rows import BLOCK_PAIRS, RowBlock, RowwiseLoss, recomputed


class DistanceTripletLoss(RowwiseLoss):
    """Of two images, the farther one farther in the embedding too, by a growing margin.

    Mean over all triples of an anchor i, an image p nearer than range_m and an image n
    farther than p of max(0, margin min(1, (d_in - d_ip) / range_m) + D_ip^2 - D_in^2), with
    geometric distances d and embedding distances D.

    Time O(B^2 m) with m images per anchor within the range.

    Args:
        margin: Largest margin, a squared embedding distance.
        range_m: Difference of distances (metres) from which on the margin is the largest.
    """

    def __init__(self, *, margin: float = 0.3, range_m: float = 25.0) -> None:
        super().__init__()
        self.margin = margin
        self.range_m = range_m

    def num_terms(self, rows: RowBlock) -> Tensor:
        """Return the number of triples of each anchor."""
        distance_m = rows.distance_m.sort(dim=1).values
        not_farther = torch.searchsorted(distance_m, distance_m, right=True)
        farther = distance_m.shape[1] - not_farther
        return (farther * (distance_m < self.range_m)).sum(dim=1)

    def sum_terms(self, similarity: Tensor, rows: RowBlock) -> Tensor:
        """Return the sum over the triples of each anchor."""
        most = int((rows.distance_m < self.range_m).sum(dim=1).max())
        near = rows.distance_m.topk(most, dim=1, largest=False)
        width = max(1, BLOCK_PAIRS // similarity.numel())
        total = similarity.sum(dim=1) * 0.0
        columns, distances = (
            torch.split(near.indices, width, 1),
            torch.split(near.values, width, 1),
        )
        for column, own_distance_m in zip(columns, distances, strict=True):
            own = similarity.gather(1, column)
            total = total + recomputed(
                self._sum, similarity, own, rows.distance_m, own_distance_m
            )
        return total

    def _sum(
        self, similarity: Tensor, own: Tensor, distance_m: Tensor, own_distance_m: Tensor
    ) -> Tensor:
        """Return the sums ``(b,)`` over the triples of ``c`` images p per anchor.

        Args:
            similarity: ``(b, n)``.
            own: ``(b, c)``, similarities of the images p.
            distance_m: ``(b, n)``.
            own_distance_m: ``(b, c)``, distances of the images p.
        """
        ahead_m = distance_m[:, None, :] - own_distance_m[:, :, None]
        margin = self.margin * (ahead_m / self.range_m).clamp(max=1.0)
        # D_ip^2 - D_in^2, as D^2 = 2 - 2 s for unit embeddings.
        excess = 2.0 * (similarity[:, None, :] - own[:, :, None])
        inside = (own_distance_m < self.range_m)[:, :, None]
        # "Farther" is a comparison, as in num_terms, not the sign of a difference.
        triple = (distance_m[:, None, :] > own_distance_m[:, :, None]) & inside
        return torch.where(triple, torch.relu(margin + excess), 0.0).sum(dim=(1, 2))
