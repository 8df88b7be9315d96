"""Smooth ranking measures as losses: average precision and recall at k.

The rank of an image among all of its anchor's is a sum of sigmoids, one per other image:
cubic time over all images, so ranks are computed for images of positive weight only.

Shapes: as in ``rows``; ``m`` is the largest number of such images an anchor of a block has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlcore.protocols import InfluenceFunction
from mlcore_graded.rows import BLOCK_PAIRS, RowBlock, RowwiseLoss
from mlcore_graded.soft_supcon import SMALLEST_TOTAL_WEIGHT


class Relevant(NamedTuple):
    """The images of positive weight of each anchor, heaviest first, padded with weight 0.

    Attributes:
        column: ``(b, m)`` int64, places among the anchor's others.
        weight: ``(b, m)``.
    """

    column: Tensor
    weight: Tensor

    @classmethod
    def of(cls, weight: Tensor) -> Relevant:
        """Return the images that have a positive ``weight`` ``(b, n)``."""
        most = int((weight > 0).sum(dim=1).max())
        found = weight.topk(most, dim=1)
        return cls(found.indices, found.values)


class GradedApLoss(RowwiseLoss):
    """Smooth average precision with relevance graded by the influence.

    Mean over anchors i of 1 - (1 / W_i) sum_j [w_ij + sum_k min(w_ij, w_ik) u_jk] /
    [1 + sum_k u_jk], where u_jk = sigmoid((s_ik - s_ij) / temperature) says whether k is
    ranked before j, k != j, and W_i = sum_j w_ij: after Ramzi et al., HAPPIER, ECCV 2022, and
    SupRank, TPAMI 2025. Anchors whose weights add up to less than 1e-6 are left out.

    Time O(B^2 m) with m images per anchor inside the support.

    Args:
        influence: Weight w by distance.
        temperature: Width of the sigmoid, a cosine similarity.
    """

    def __init__(self, *, influence: InfluenceFunction, temperature: float = 0.01) -> None:
        super().__init__(influence)
        self.temperature = temperature

    def num_terms(self, rows: RowBlock) -> Tensor:
        """Return 1 for each anchor with enough weight."""
        return self._weight(rows).sum(dim=1) >= SMALLEST_TOTAL_WEIGHT

    def sum_terms(self, similarity: Tensor, rows: RowBlock) -> Tensor:
        """Return 1 - average precision of each anchor; 0 for those left out."""
        weight = self._weight(rows)
        relevant = Relevant.of(weight)
        rank, graded = smooth_ranks(similarity, relevant, self.temperature, weight)
        precision = graded / rank
        total = relevant.weight.sum(dim=1)
        counts = total >= SMALLEST_TOTAL_WEIGHT
        lost = 1.0 - precision.sum(dim=1) / total.masked_fill(~counts, 1.0)
        return torch.where(counts, lost, 0.0)

    def _weight(self, rows: RowBlock) -> Tensor:
        return rows.weight


class SmoothApLoss(GradedApLoss):
    """Smooth average precision: ``graded-ap`` with relevance 1 within a radius and 0 beyond.

    Brown et al., Smooth-AP, ECCV 2020. Anchors without a near image are left out.

    Time O(B^2 m) with m images per anchor within the radius.

    Args:
        near_radius_m: Images nearer than this (metres) are relevant.
        temperature: Width of the sigmoid, a cosine similarity.
    """

    def __init__(self, *, near_radius_m: float, temperature: float = 0.01) -> None:
        RowwiseLoss.__init__(self)
        self.near_radius_m = near_radius_m
        self.temperature = temperature

    def _weight(self, rows: RowBlock) -> Tensor:
        return (rows.distance_m < self.near_radius_m).double()


class RecallAtKLoss(RowwiseLoss):
    """Smooth recall at several k.

    Mean over anchors i of 1 - mean_k min(1, sum_p sigmoid((k - 1 - r_p) / rank_temperature) /
    min(k, P_i)) over the P_i near images p, where r_p = sum_j sigmoid((s_ij - s_ip) /
    similarity_temperature), j != p, is the number of images ranked before p: Patel et al.,
    Recall@k Surrogate Loss, CVPR 2022. Anchors without a near image are left out.

    Time O(B^2 m) with m near images per anchor.

    Args:
        near_radius_m: Images nearer than this (metres) are near.
        k: Numbers of retrieved images.
        rank_temperature: Width of the sigmoid of ranks.
        similarity_temperature: Width of the sigmoid of cosine similarities.
    """

    def __init__(
        self,
        *,
        near_radius_m: float,
        k: Sequence[int] = (1, 2, 4),
        rank_temperature: float = 1.0,
        similarity_temperature: float = 0.01,
    ) -> None:
        super().__init__()
        self.near_radius_m = near_radius_m
        self.k = tuple(k)
        self.rank_temperature = rank_temperature
        self.similarity_temperature = similarity_temperature

    def num_terms(self, rows: RowBlock) -> Tensor:
        """Return 1 for each anchor with a near image."""
        return self._near(rows).any(dim=1)

    def sum_terms(self, similarity: Tensor, rows: RowBlock) -> Tensor:
        """Return 1 - recall of each anchor, the mean over k; 0 for those left out."""
        near = self._near(rows)
        weight = near.double()
        relevant = Relevant.of(weight)
        rank, _ = smooth_ranks(similarity, relevant, self.similarity_temperature, weight)
        number = near.sum(dim=1)
        recalls = []
        for k in self.k:
            retrieved = torch.sigmoid((k - rank) / self.rank_temperature) * relevant.weight
            possible = number.clamp(min=1, max=k)
            recalls.append((retrieved.sum(dim=1) / possible).clamp(max=1.0))
        return torch.where(number > 0, 1.0 - torch.stack(recalls).mean(dim=0), 0.0)

    def _near(self, rows: RowBlock) -> Tensor:
        return rows.distance_m < self.near_radius_m


def smooth_ranks(
    similarity: Tensor, relevant: Relevant, temperature: float, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the smooth rank of each relevant image and how much of it is relevant.

    A rank is 1 + sum_k u_k, u_k = sigmoid((s_k - s_j) / temperature), over k != j. How much
    of it is relevant is w_j + sum_k min(w_j, w_k) u_k.

    Args:
        similarity: ``(b, n)``.
        relevant: ``(b, m)``, the images to rank.
        temperature: Width of the sigmoid.
        weight: ``(b, n)``, weights that ``relevant`` refers to.

    Returns:
        Two tensors ``(b, m)``. Their memory and that of their gradient is ``b m`` and
        blocks: sigmoids are computed a second time to be differentiated.
    """
    own = similarity.gather(1, relevant.column)
    before, graded = _SumsOfSigmoids.apply(
        similarity, own, weight, relevant.weight, temperature
    )
    # u_j itself is sigmoid(0) = 1/2 and constant: replaced by the 1 of the rank.
    return before + 0.5, graded + 0.5 * relevant.weight


class _SumsOfSigmoids(torch.autograd.Function):
    """sum_k u_jk and sum_k min(w_j, w_k) u_jk, ``(b, m)`` each.

    Both passes take a few images j at a time and write into whole results: a small result
    per step, kept among the freed large ones, would let the heap grow with m.
    """

    @staticmethod
    def forward(
        ctx: Any,
        similarity: Tensor,
        own: Tensor,
        weight: Tensor,
        own_weight: Tensor,
        temperature: float,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(similarity, own, weight, own_weight)
        ctx.temperature = temperature
        before, graded = torch.empty_like(own), torch.empty_like(own)
        for columns in _chunks(similarity, own):
            u = _sigmoids(similarity, own[:, columns], temperature)
            before[:, columns] = u.sum(dim=2)
            graded[:, columns] = u.mul_(_smaller(weight, own_weight[:, columns])).sum(dim=2)
        return before, graded

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, of_before: Tensor, of_graded: Tensor
    ) -> tuple[Tensor, Tensor, None, None, None]:
        similarity, own, weight, own_weight = ctx.saved_tensors
        of_similarity, of_own = torch.zeros_like(similarity), torch.empty_like(own)
        for columns in _chunks(similarity, own):
            u = _sigmoids(similarity, own[:, columns], ctx.temperature)
            of_u = _smaller(weight, own_weight[:, columns]).mul_(of_graded[:, columns, None])
            of_u += of_before[:, columns, None]
            # of_u u (1 - u), the derivative of a sigmoid
            of_difference = of_u.mul_(u).mul_(u.neg_().add_(1.0)).div_(ctx.temperature)
            of_similarity += of_difference.sum(dim=1)
            of_own[:, columns] = -of_difference.sum(dim=2)
        return of_similarity, of_own, None, None, None


def _chunks(similarity: Tensor, own: Tensor) -> Iterator[slice]:
    width = max(1, BLOCK_PAIRS // similarity.numel())
    return (slice(start, start + width) for start in range(0, own.shape[1], width))


def _sigmoids(similarity: Tensor, own: Tensor, temperature: float) -> Tensor:
    """Return u_jk of ``c`` images j per row, ``(b, c, n)``."""
    return (similarity[:, None, :] - own[:, :, None]).div_(temperature).sigmoid_()


def _smaller(weight: Tensor, own_weight: Tensor) -> Tensor:
    """Return min(w_j, w_k), ``(b, c, n)``."""
    return torch.minimum(weight[:, None, :], own_weight[:, :, None])
