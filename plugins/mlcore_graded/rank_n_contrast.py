"""Rank-N-Contrast: an anchor's images ordered in the embedding as they are on the ground."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from mlcore_graded.rows import RowBlock, RowwiseLoss, embedding_distance
from mlcore_graded.sorted_sums import sum_of_larger


class RankNContrastLoss(RowwiseLoss):
    """Each image of an anchor against all that are at least as far away.

    Mean over anchors i and images j of -[z_ij - log sum_{k: d_ik >= d_ij} exp z_ik], with
    z = -D / temperature or s / temperature: Zha et al., Rank-N-Contrast, NeurIPS 2023. With
    a limit, only images nearer than it are positives j, and all images beyond it count as
    equally far. Anchors without a positive are left out.

    Time O(B^2 log B): rows are sorted by distance.

    Args:
        temperature: Divides the logits.
        logits: Negative embedding distance D, or cosine similarity s.
        limit_m: Distance (metres) that positives are within; None takes all images.
    """

    def __init__(
        self,
        *,
        temperature: float,
        logits: Literal["distance", "similarity"] = "distance",
        limit_m: float | None = None,
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.logits = logits
        self.limit_m = math.inf if limit_m is None else limit_m

    def num_terms(self, rows: RowBlock) -> Tensor:
        """Return 1 for each anchor with a positive."""
        return self._positive(rows).any(dim=1)

    def sum_terms(self, similarity: Tensor, rows: RowBlock) -> Tensor:
        """Return each anchor's mean over its positives; 0 without any."""
        by_distance = self.logits == "distance"
        z = (-embedding_distance(similarity) if by_distance else similarity) / self.temperature
        # z spans 200 at most, the temperature being at least 0.01: exp(-200) is far above
        # float64's smallest number.
        shift = z.detach().amax(dim=1, keepdim=True)
        distance_m = rows.distance_m.clamp(max=self.limit_m)
        at_least_as_far = sum_of_larger(distance_m, torch.exp(z - shift), ties=True)
        terms = shift + at_least_as_far.log() - z
        positive = self._positive(rows)
        return (terms * positive).sum(dim=1) / positive.sum(dim=1).clamp(min=1)

    def _positive(self, rows: RowBlock) -> Tensor:
        return rows.distance_m < self.limit_m
