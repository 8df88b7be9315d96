"""Supervised contrastive losses with graded instead of binary positives."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from mlcore.protocols import InfluenceFunction
from mlcore_graded.rows import RowBlock, RowwiseLoss
from mlcore_graded.sorted_sums import sum_of_larger

SMALLEST_TOTAL_WEIGHT = 1e-6
"""Anchors whose weights add up to less have no real positive and are left out."""


class SoftSupConLoss(RowwiseLoss):
    """A softmax over all images, averaged by the influence w of each.

    Mean over anchors i of -sum_j (w_ij / W_i) l_ij with W_i = sum_k w_ik, where l_ij is

    - ``y-aware``: log softmax_k(s_ik / temperature)_j: Dufumier et al., MICCAI 2021.
    - ``threshold``: log [e^{s_ij / t} / (e^{s_ij / t} + sum_{k: w_ik < w_ij} e^{s_ik / t})]:
      each image against those of less weight; Barbano et al., ISBI 2023, with the positive
      kept in the denominator.
    - ``exponential``: s_ij / t - log sum_{k != j} e^{(s_ik / t)(1 - w_ik)}: the weight in the
      exponent, as in the soft contrastive loss; same source.

    Anchors whose weights add up to less than 1e-6 are left out. Time O(B^2), or
    O(B^2 log B) for ``threshold``, where rows are sorted.

    Args:
        influence: Weight w by distance.
        variant: See above.
        temperature: Divides the similarities.
    """

    def __init__(
        self,
        *,
        influence: InfluenceFunction,
        variant: Literal["y-aware", "threshold", "exponential"] = "y-aware",
        temperature: float = 0.1,
    ) -> None:
        super().__init__(influence)
        self.temperature = temperature
        self.variant = variant
        self._log_denominator = {
            "y-aware": _of_all,
            "threshold": _of_less_weight,
            "exponential": _of_others,
        }[variant]

    def num_terms(self, rows: RowBlock) -> Tensor:
        """Return 1 for each anchor with enough weight."""
        return rows.weight.sum(dim=1) >= SMALLEST_TOTAL_WEIGHT

    def sum_terms(self, similarity: Tensor, rows: RowBlock) -> Tensor:
        """Return each anchor's weighted mean; 0 for those left out."""
        logits = similarity / self.temperature
        terms = self._log_denominator(logits, rows.weight) - logits
        total = rows.weight.sum(dim=1, keepdim=True)
        counts = total >= SMALLEST_TOTAL_WEIGHT
        share = torch.where(counts, rows.weight / total.masked_fill(~counts, 1.0), 0.0)
        return (share * terms).sum(dim=1)


def _of_all(logits: Tensor, weight: Tensor) -> Tensor:
    del weight
    return logits.logsumexp(dim=1, keepdim=True)


def _of_less_weight(logits: Tensor, weight: Tensor) -> Tensor:
    # Logits span 200 at most, as the temperature is at least 0.01: no sum underflows.
    shift = logits.detach().amax(dim=1, keepdim=True)
    e = torch.exp(logits - shift)
    return shift + torch.log(e + sum_of_larger(-weight, e, ties=False))


def _of_others(logits: Tensor, weight: Tensor) -> Tensor:
    exponent = logits * (1.0 - weight)
    if exponent.shape[1] == 1:
        return logits  # nothing to compare with: the term is 0
    shift = exponent.detach().amax(dim=1, keepdim=True)
    e = torch.exp(exponent - shift)
    # Taking e_j off the whole sum cancels where it is most of it, which only the largest can
    # be: for that one, the others are added up.
    largest = e.detach().argmax(dim=1, keepdim=True)
    smaller = e.scatter(1, largest, 0.0).sum(dim=1, keepdim=True)
    others = smaller + e.gather(1, largest) - e
    return shift + others.scatter(1, largest, smaller).log()
