"""The tiled loss as a function that autograd and ``torch.func`` differentiate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from mlcore_soft_contrastive.dense import RowTerms
from mlcore_soft_contrastive.geometry import Geometry
from mlcore_soft_contrastive.tiled.unit_rows import UnitRows
from mlcore_soft_contrastive.tiled.walk import Plan, Walk, unsorted


def tiled_row_terms(
    embeddings: Tensor,
    references: Tensor | None,
    geometry: Geometry,
    make_plan: Callable[[Tensor, Geometry], Plan],
) -> RowTerms:
    """Return the loss terms of each row, in the order of the batch.

    Args:
        embeddings: ``(B, D)``, not normalised; finite.
        references: ``(R, D)``; None in the square form.
        geometry: Where the images of both are.
        make_plan: Called with embeddings and geometry as plain tensors, which they are not
            where ``torch.func`` transforms the caller; returns what to walk over.
    """
    evaluation = _Evaluation(geometry, make_plan)
    terms: tuple[Tensor, Tensor] = _TiledLoss.apply(
        embeddings, references, evaluation, *geometry.tensors()
    )
    return RowTerms(*terms)


class _Evaluation:
    """What forward leaves for backward of one evaluation.

    Args:
        geometry: Of the caller.
        make_plan: See :func:`tiled_row_terms`.
    """

    plan: Plan
    walk: Walk
    x: UnitRows
    y: UnitRows

    def __init__(
        self, geometry: Geometry, make_plan: Callable[[Tensor, Geometry], Plan]
    ) -> None:
        self._geometry, self._make_plan = geometry, make_plan

    def forward(
        self, embeddings: Tensor, references: Tensor | None, tensors: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """Return the terms of each row."""
        plan = self._make_plan(embeddings, self._geometry.with_tensors(tensors))
        self.plan = plan
        self.x = UnitRows.of(embeddings, plan.rows)
        self.y = self.x if references is None else UnitRows.of(references, plan.columns)
        self.walk = Walk(plan, self.x.values, self.y.values)
        with plan.products.rounding():
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
        attraction, repulsion = (g.double()[plan.rows.order] for g in (attraction, repulsion))
        plan.state.start_gradient(attraction, repulsion)
        # Also if backward is called inside autocast, products are as configured.
        with torch.autocast(x.values.device.type, enabled=False), plan.products.rounding():
            by_x, by_y = self.walk.differentiate(
                repulsion.abs().amax(), needs_columns=needs_columns
            )
            return (
                unsorted(x.chain(by_x), plan.rows).to(x.dtype),
                None if by_y is None else unsorted(y.chain(by_y), plan.columns).to(y.dtype),
            )


class _TiledLoss(torch.autograd.Function):
    """Terms of the rows; in the form that ``torch.func`` can transform."""

    @staticmethod
    def forward(
        embeddings: Tensor,
        references: Tensor | None,
        evaluation: _Evaluation,
        *tensors: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        return evaluation.forward(embeddings, references, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: object) -> None:
        del output
        embeddings, references, ctx.evaluation, *tensors = inputs
        ctx.num_tensors = len(tensors)
        ctx.save_for_backward(embeddings, references)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        # Saved, these are what torch's check of a graph that was freed looks at.
        embeddings, references = ctx.saved_tensors
        needs_columns = references is not None and ctx.needs_input_grad[1]
        by_x, by_y = _TiledGradient.apply(
            embeddings, references, *gradients, ctx.evaluation, needs_columns
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
        evaluation: _Evaluation,
        needs_columns: bool,
    ) -> tuple[Tensor, Tensor | None]:
        del embeddings, references  # arguments, since the gradient depends on them
        return evaluation.backward(attraction, repulsion, needs_columns=needs_columns)

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
