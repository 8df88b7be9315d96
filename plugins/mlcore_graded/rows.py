"""Losses that are a mean over terms of rows, computed and differentiated in blocks of rows.

A row is an image as anchor, compared with the ``B - 1`` others of the batch. Everything is
float64: the embedding distance of a similar pair, sqrt(2 - 2 s), loses all its digits in
float32, and sums over ranked pairs span many orders of magnitude.

Shapes: ``B`` images, ``b`` rows of a block, ``n = B - 1`` others, ``D`` dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from mlcore.errors import DataError
from mlcore.geometry import attraction, between_m
from mlcore.protocols import Batch, InfluenceFunction, LossOutput, Pairs, Triplets

BLOCK_PAIRS = 2**18
"""Pairs per block: a float64 per pair is 2 MiB, which stays in a core's cache."""


@dataclass(frozen=True, eq=False)
class RowBlock:
    """Some anchors and their geometry; computed when first read, never differentiated.

    Attributes:
        anchors: ``(b,)`` int64, rows of the batch.
        batch: The whole batch; its positions are finite.
        influence: Attraction weight by distance, for a loss that has one.
    """

    anchors: Tensor
    batch: Batch
    influence: InfluenceFunction | None = None

    @cached_property
    def others(self) -> Tensor:
        """Rows of the batch that each anchor is compared with, ``(b, n)`` int64."""
        columns = torch.arange(len(self.batch) - 1, device=self.anchors.device)
        return columns + (columns >= self.anchors[:, None])

    @cached_property
    def distance_m(self) -> Tensor:
        """Geometric distances, ``(b, n)`` float64; infinite across regions."""
        whole = between_m(self.batch, self.anchors[:, None])
        return whole.gather(1, self.others)

    @cached_property
    def weight(self) -> Tensor:
        """Influence of each pair, ``(b, n)`` float64; 0 from the support on."""
        assert self.influence is not None
        return attraction(
            self.influence, self.batch, self.distance_m, self.anchors[:, None], self.others
        )

    def similarity(self, x: Tensor) -> Tensor:
        """Return cosine similarities ``(b, n)`` of unit embeddings ``(B, D)``."""
        return (x[self.anchors] @ x.T).gather(1, self.others)

    def add_gradient(self, gradient: Tensor, of_similarity: Tensor, x: Tensor) -> None:
        """Add to ``gradient`` ``(B, D)`` what ``of_similarity`` ``(b, n)`` makes of it."""
        shape = (len(self.anchors), len(x))
        whole = of_similarity.new_zeros(shape).scatter_(1, self.others, of_similarity)
        gradient[self.anchors] += whole @ x
        gradient += whole.T @ x[self.anchors]


class RowwiseLoss(nn.Module):
    """The mean of terms that each belong to one anchor; a subclass says which terms.

    Time is that of the terms; memory grows with ``B D`` only, since each block of rows is
    differentiated as soon as it is computed.

    Args:
        influence: Attraction weight by distance, for a loss that has one.
    """

    def __init__(self, influence: InfluenceFunction | None = None) -> None:
        super().__init__()
        self.influence = influence

    def num_terms(self, rows: RowBlock) -> Tensor:
        """Return how many terms of the mean each anchor has, ``(b,)``, by geometry alone."""
        raise NotImplementedError

    def sum_terms(self, similarity: Tensor, rows: RowBlock) -> Tensor:
        """Return the sum of each anchor's terms, ``(b,)``.

        Args:
            similarity: ``(b, n)`` cosine similarities; what is differentiated.
            rows: The anchors; at least one, with at least one other.
        """
        raise NotImplementedError

    def forward(
        self, embeddings: Tensor, batch: Batch, tuples: Pairs | Triplets | None = None
    ) -> LossOutput:
        """Return the loss of ``embeddings`` ``(B, D)``, normalised here.

        0 if the mean has no term. A zero embedding has similarity 0 to all others and no
        gradient.

        Raises:
            DataError: A position is not finite.
        """
        return self.forward_rows(embeddings, batch, slice(None))

    def forward_rows(self, embeddings: Tensor, batch: Batch, rows: slice) -> LossOutput:
        """Return the share of the anchors ``rows`` in the loss of the joint batch."""
        require_finite_positions(batch)
        size = len(batch)
        mine = torch.arange(size, device=batch.positions_m.device)[rows]
        rest = torch.ones(size, dtype=torch.bool, device=mine.device)
        rest[mine] = False
        with torch.autocast(embeddings.device.type, enabled=False):
            x = normalized(embeddings)
            total, num_mine = _Sum.apply(x, self, self._blocks(mine, batch))
            num_rest = sum(
                float(self.num_terms(block).sum())
                for block in self._blocks(rest.nonzero()[:, 0], batch)
            )
            loss = total / max(float(num_mine) + num_rest, 1.0)
        return LossOutput(loss.to(at_least_float32(embeddings)), {"terms": float(num_mine)})

    def _blocks(self, anchors: Tensor, batch: Batch) -> Iterator[RowBlock]:
        size = len(batch)
        if size > 1:
            num_rows = max(1, BLOCK_PAIRS // size)
            for start in range(0, len(anchors), num_rows):
                part = anchors[start : start + num_rows]
                yield RowBlock(part, batch, self.influence)


class _Sum(torch.autograd.Function):
    """The sum of the terms of some blocks, each differentiated as soon as it is computed."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, loss: RowwiseLoss, blocks: Iterator[RowBlock]
    ) -> tuple[Tensor, Tensor]:
        total, number = x.new_zeros(()), x.new_zeros(())
        gradient = torch.zeros_like(x)
        for rows in blocks:
            number += loss.num_terms(rows).sum()
            with torch.enable_grad():
                similarity = rows.similarity(x).requires_grad_()
                part = loss.sum_terms(similarity, rows).sum()
            total += part.detach()
            if ctx.needs_input_grad[0]:
                (of_similarity,) = torch.autograd.grad(part, similarity)
                rows.add_gradient(gradient, of_similarity, x)
        ctx.save_for_backward(gradient)
        ctx.mark_non_differentiable(number)
        return total, number

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_total: Tensor, _: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * of_total, None, None


def recomputed(function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    """Return ``function(*inputs)``, computed once more when it is differentiated.

    Only the inputs are kept in between, not what is as large as the function's insides.
    (torch's own checkpoint imports the compiler, which takes seconds.)
    """
    result: Tensor = _Recomputed.apply(function, *inputs)
    return result


class _Recomputed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(*inputs)
        return function(*inputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_result: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        inputs = [
            tensor.detach().requires_grad_(wanted)
            for tensor, wanted in zip(ctx.saved_tensors, needed, strict=True)
        ]
        with torch.enable_grad():
            result = ctx.function(*inputs)
        wanted = [tensor for tensor in inputs if tensor.requires_grad]
        gradients = iter(torch.autograd.grad(result, wanted, of_result))
        return (None, *(next(gradients) if need else None for need in needed))


def normalized(embeddings: Tensor) -> Tensor:
    """Return unit embeddings ``(B, D)`` in float64; zero rows stay zero, without gradient."""
    x = embeddings.double()
    # Divided by its largest entry first, no row over- or underflows when squared.
    largest = torch.linalg.vector_norm(x.detach(), ord=torch.inf, dim=1, keepdim=True)
    zero = largest == 0
    scaled = x / largest.masked_fill(zero, 1.0)
    squared = scaled.square().sum(dim=1, keepdim=True).masked_fill(zero, 1.0)
    unit: Tensor = (scaled / squared.sqrt()).masked_fill(zero, 0.0)
    return unit


def embedding_distance(similarity: Tensor) -> Tensor:
    """Return |x - y| of unit embeddings; where they coincide, 0 with gradient 0."""
    distance: Tensor = _Distance.apply(similarity)
    return distance


class _Distance(torch.autograd.Function):
    """sqrt(2 - 2 s), whose derivative is -1 over itself; as one operation, and so in place."""

    @staticmethod
    def forward(ctx: Any, similarity: Tensor) -> Tensor:
        # Rounding makes s > 1 of coincident embeddings now and then.
        distance = similarity.mul(-2.0).add_(2.0).clamp_(min=0.0).sqrt_()
        ctx.save_for_backward(distance)
        return distance

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_distance: Tensor) -> Tensor:
        (distance,) = ctx.saved_tensors
        return of_distance.div(distance).neg_().masked_fill_(distance == 0, 0.0)


def require_finite_positions(batch: Batch) -> None:
    """Raise DataError that names the rows of positions that are not finite."""
    bad = (~torch.isfinite(batch.positions_m)).any(dim=1).nonzero()[:, 0].tolist()
    if bad:
        listed = ", ".join(map(str, bad[:10])) + (", ..." if len(bad) > 10 else "")
        raise DataError(
            f"positions_m is not finite in {len(bad)} of {len(batch)} rows: {listed}"
        )


def at_least_float32(embeddings: Tensor) -> torch.dtype:
    """Return the dtype of the loss: that of the embeddings, float32 for half precision."""
    half = embeddings.dtype in (torch.float16, torch.bfloat16)
    return torch.float32 if half else embeddings.dtype
