"""The tiled loss as a function that autograd and ``torch.func`` differentiate."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from mlcore_soft_contrastive.dense import RowTerms
from mlcore_soft_contrastive.geometry import Geometry
from mlcore_soft_contrastive.tiled.threads import own_threads
from mlcore_soft_contrastive.tiled.unit_rows import UnitRows
from mlcore_soft_contrastive.tiled.walk import Plan, Walk, unsorted


class Evaluation(Protocol):
    """One evaluation of the loss over tiles; on plain tensors, outside autograd."""

    def forward(self, embeddings: Tensor, references: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the terms of each row, ``(B,)`` each, in the order of the batch."""

    def backward(
        self, attraction: Tensor, repulsion: Tensor, *, needs_columns: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradients by embeddings and references, given those by the terms."""


def tiled_row_terms(
    embeddings: Tensor,
    references: Tensor | None,
    geometry: Geometry,
    start: Callable[[Tensor, Geometry], Evaluation],
) -> RowTerms:
    """Return the loss terms of each row, in the order of the batch.

    Args:
        embeddings: ``(B, D)``, not normalised; finite.
        references: ``(R, D)``; None in the square form.
        geometry: Where the images of both are.
        start: Called with embeddings and geometry as plain tensors, which they are not where
            ``torch.func`` transforms the caller; returns the evaluation.
    """
    terms: tuple[Tensor, Tensor] = _TiledLoss.apply(
        embeddings, references, _Started(geometry, start), *geometry.tensors()
    )
    return RowTerms(*terms)


class _Started:
    """Starts an evaluation in forward and keeps it for backward.

    Args:
        geometry: Of the caller.
        start: See :func:`tiled_row_terms`.
    """

    evaluation: Evaluation

    def __init__(
        self, geometry: Geometry, start: Callable[[Tensor, Geometry], Evaluation]
    ) -> None:
        self._geometry, self._start = geometry, start

    def forward(
        self, embeddings: Tensor, references: Tensor | None, tensors: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        self.evaluation = self._start(embeddings, self._geometry.with_tensors(tensors))
        return self.evaluation.forward(embeddings, references)


class TileEvaluation:
    """The walk over tiles of the CPU, and of any device in torch's own operations.

    Args:
        plan: What to walk over; serves one evaluation.
    """

    walk: Walk
    x: UnitRows
    y: UnitRows

    def __init__(self, plan: Plan) -> None:
        self.plan = plan

    def forward(self, embeddings: Tensor, references: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the terms of each row."""
        with own_threads(self.plan.threads), self.plan.products.rounding():
            return self._forward(embeddings, references)

    def _forward(self, embeddings: Tensor, references: Tensor | None) -> tuple[Tensor, Tensor]:
        plan = self.plan
        self.x = UnitRows.of(embeddings, plan.rows, plan.threads or 1)
        self.y = self.x
        if references is not None:
            self.y = UnitRows.of(references, plan.columns, plan.threads or 1)
        self.walk = Walk(plan, self.x, self.y)
        self.walk.mine()
        self.walk.sum()
        attraction, repulsion = plan.state.terms()
        dtype = self.x.values.dtype
        return (
            unsorted(attraction.to(dtype), plan.rows),
            unsorted(repulsion.to(dtype), plan.rows),
        )

    def backward(
        self, attraction: Tensor, repulsion: Tensor, *, needs_columns: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradients by embeddings and references, given those by the terms."""
        plan, x, y = self.plan, self.x, self.y
        # Also if backward is called inside autocast, products are as configured.
        exact = torch.autocast(x.values.device.type, enabled=False)
        with own_threads(plan.threads), exact, plan.products.rounding():
            attraction, repulsion = (
                g.double()[plan.rows.order] for g in (attraction, repulsion)
            )
            plan.state.start_gradient(attraction, repulsion)
            by_x, by_y = self.walk.differentiate(
                repulsion.abs().amax(), needs_columns=needs_columns
            )
            return (
                x.chain(by_x),
                None if by_y is None else y.chain(by_y),
            )


class _TiledLoss(torch.autograd.Function):
    """Terms of the rows; in the form that ``torch.func`` can transform."""

    @staticmethod
    def forward(
        embeddings: Tensor,
        references: Tensor | None,
        started: _Started,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        return started.forward(embeddings, references, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:
        del output
        embeddings, references, ctx.started, *tensors = inputs
        ctx.num_tensors = len(tensors)
        ctx.save_for_backward(embeddings, references)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # Saved, these are what torch's check of a graph that was freed looks at.
        embeddings, references = ctx.saved_tensors
        needs_columns = references is not None and ctx.needs_input_grad[1]
        by_x, by_y = _TiledGradient.apply(
            embeddings, references, *gradients, ctx.started, needs_columns
        )
        return by_x, by_y, None, *[None] * ctx.num_tensors


class _TiledGradient(torch.autograd.Function):
    """The gradient as a function of its own, so that differentiating it is an error."""

    @staticmethod
    def forward(
        embeddings: Tensor,
        references: Tensor | None,
        attraction: Tensor,
        repulsion: Tensor,
        started: _Started,
        needs_columns: bool,
    ) -> tuple[Tensor, Tensor | None]:
        del embeddings, references  # arguments, since the gradient depends on them
        return started.evaluation.backward(attraction, repulsion, needs_columns=needs_columns)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:
        """Keep nothing."""

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        del ctx, gradients
        raise RuntimeError(
            "the tiled soft contrastive loss has no second derivatives (create_graph); use "
            "implementation='dense'"
        )


for _function in (_TiledLoss.forward, _TiledGradient.forward):
    # torch asks for it at every call; to make it anew takes as long as ten launches.
    vars(_function)["__signature__"] = inspect.signature(_function)
