"""CoSENT: all pairs of a batch ordered by similarity as they are by distance."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mlcore.geometry import between_m
from mlcore.protocols import Batch, LossOutput, Pairs, Triplets
from mlcore_graded.rows import (
    BLOCK_PAIRS,
    at_least_float32,
    normalized,
    require_finite_positions,
)
from mlcore_graded.sorted_sums import sum_before


class CosentLoss(nn.Module):
    """Every pair of images more similar than every pair that is farther apart.

    log(1 + sum over unordered pairs P, Q with d_P < d_Q of exp(scale (s_Q - s_P))), one value
    per batch: Huang et al., CoSENT, TASLP 2024.

    Time O(B^2 log B): pairs are sorted by distance. Memory: some 50 bytes per pair, of which
    there are B^2 / 2.

    Args:
        scale: Sharpness; multiplies cosine similarities. At most 100.
    """

    def __init__(self, *, scale: float = 20.0) -> None:
        super().__init__()
        self.scale = scale

    def forward(
        self, embeddings: Tensor, batch: Batch, tuples: Pairs | Triplets | None = None
    ) -> LossOutput:
        """Return the loss of ``embeddings`` ``(B, D)``, normalised here; 0 without two pairs.

        Raises:
            DataError: A position is not finite.
        """
        require_finite_positions(batch)
        with torch.autocast(embeddings.device.type, enabled=False):
            loss = _Cosent.apply(normalized(embeddings), batch, self.scale)
        return LossOutput(loss.to(at_least_float32(embeddings)))


class _Cosent(torch.autograd.Function):
    """The loss and its gradient, by two running sums over the sorted pairs.

    With the largest and smallest similarity as shifts, f = exp(scale (s - max)) of the
    farther pair times n = exp(scale (min - s)) of the nearer one is exp(scale (s_Q - s_P))
    over exp(scale (max - min)). Both are at least exp(-2 scale), their product and the common
    factor within exp(4 scale): float64 has room for scale <= 100.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, batch: Batch, scale: float) -> Tensor:
        if len(x) < 3:
            ctx.save_for_backward(torch.zeros_like(x))
            return x.new_zeros(())
        every = torch.arange(len(batch), device=batch.positions_m.device)
        distance_m = _packed(
            every, lambda rows, columns: between_m(batch, rows[:, None], columns)
        )
        distance_m, order = distance_m.sort(descending=True)
        similarity = _packed(x, lambda rows, columns: rows @ columns.T)[order]
        low, high = similarity.min(), similarity.max()
        factor = math.exp(scale * float(high - low))
        far = similarity.sub(high).mul_(scale).exp_()
        near = similarity.sub_(low).mul_(-scale).exp_()
        del similarity
        farther = sum_before(far, distance_m).mul_(near)
        total = farther.sum() * factor
        # One list at a time: each is 64 MiB for 4,096 images.
        near = near.flip(0)
        distance_m = distance_m.flip(0)
        nearer = sum_before(near, distance_m)
        del near, distance_m
        nearer = nearer.flip(0).mul_(far)
        del far
        of_similarity = nearer.sub_(farther).mul_(scale * factor / (1.0 + total))
        of_similarity = farther.scatter_(0, order, of_similarity)
        ctx.save_for_backward(_unpacked_product(of_similarity, x))
        return torch.log1p(total)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_loss: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * of_loss, None, None


def _packed(values: Tensor, of: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return ``of`` all unordered pairs of rows, ``(B (B - 1) / 2,)``, row after row."""
    size, used = len(values), 0
    packed = torch.empty(size * (size - 1) // 2, dtype=torch.float64, device=values.device)
    for start in range(0, size, height := max(1, BLOCK_PAIRS // size)):
        block = of(values[start : start + height], values[start:])
        above = block[_above_diagonal(block)]
        packed[used : used + len(above)] = above
        used += len(above)
    return packed


def _unpacked_product(packed: Tensor, x: Tensor) -> Tensor:
    """Return H x ``(B, D)`` with the symmetric H that has ``packed`` above its diagonal."""
    size, used = len(x), 0
    product = torch.zeros_like(x)
    for start in range(0, size, height := max(1, BLOCK_PAIRS // size)):
        block = packed.new_zeros(min(height, size - start), size - start)
        above = _above_diagonal(block)
        number = int(above.sum())
        block[above] = packed[used : used + number]
        used += number
        product[start : start + height] += block @ x[start:]
        product[start:] += block.T @ x[start : start + height]
    return product


def _above_diagonal(block: Tensor) -> Tensor:
    return torch.ones_like(block, dtype=torch.bool).triu_(1)
