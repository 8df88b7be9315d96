"""The loss tile by tile: exact, in memory proportional to the embeddings.

No B x B matrix is ever there. The matrix of similarities is walked in tiles, each computed
by one matrix product, used, and overwritten by the next; backward walks it again. With
``A_i`` and ``R_i`` the two terms of row i, every quantity of a pair is symmetric but for a
factor of its row, so that the upper triangle suffices::

    dL/ds_ij = [ w- e^(beta (n - base)) (r_i + r_j) - w+ e^(-alpha (p - base)) (a_i + a_j) ]
    a_i = dL/dA_i e^(-alpha A_i),   r_i = dL/dR_i e^(-beta R_i),   dL/dx = (dL/ds) x
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import compress
from typing import Any

import torch
from torch import Tensor

from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.dense import RowTerms
from mlcore_soft_contrastive.geometry import Geometry
from mlcore_soft_contrastive.tiled.layout import Blocks, TilePair
from mlcore_soft_contrastive.tiled.products import Products
from mlcore_soft_contrastive.tiled.state import TileState
from mlcore_soft_contrastive.tiled.unit_rows import UnitRows

KEPT_SHARE, KEPT_SHARE_MINING, KEPT_FLOATS = 3, 5, 2**20
"""Similarities kept from pass to pass: multiples of the embeddings' own memory, and more.

Mining needs a near tile four times, not twice.
"""

ROUNDING = 1e-5
"""Bounds of what elementwise work finds leave this much for its float32."""

SHORTEST_SHARE = 1e-3
"""A row whose gradient is a smaller part of the usual one than this need not be more exact.

Without it one image that mining leaves no near pair would bring all far tiles back.
"""


@dataclass(frozen=True)
class Plan:
    """What one evaluation walks over.

    Attributes:
        geometry: In the order of the batch.
        config: The formula's options.
        rows: Blocks of the rows.
        columns: Blocks of the columns; the same object in the square form.
        pairs: The tiles.
        state: What is known of each image, and the back end; serves one evaluation.
        products: The matrix products.
    """

    geometry: Geometry
    config: SoftContrastiveConfig
    rows: Blocks
    columns: Blocks
    pairs: list[TilePair]
    state: TileState
    products: Products

    @property
    def square(self) -> bool:
        """Whether the embeddings are compared with each other."""
        return self.columns is self.rows

    def is_near(self, pair: TilePair) -> bool:
        """Return whether some pair of the tile may attract."""
        return pair.gap_m < self.geometry.influence.support_m


def tiled_row_terms(embeddings: Tensor, references: Tensor | None, plan: Plan) -> RowTerms:
    """Return the loss terms of each row, in the order of the batch.

    Args:
        embeddings: ``(B, D)``, not normalised; finite.
        references: ``(R, D)``; None in the square form.
        plan: What to walk over; serves one call.
    """
    terms: tuple[Tensor, Tensor] = _TiledLoss.apply(embeddings, references, plan)
    return RowTerms(*terms)


class _TiledLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, embeddings: Tensor, references: Tensor | None, plan: Plan
    ) -> tuple[Tensor, Tensor]:
        x = UnitRows.of(embeddings, plan.rows)
        y = x if references is None else UnitRows.of(references, plan.columns)
        walk = _Walk(plan, x.values, y.values)
        walk.mine()
        walk.sum()
        ctx.plan, ctx.walk, ctx.x, ctx.y = plan, walk, x, y
        # For torch's own check that no backward comes after the graph was freed.
        ctx.save_for_backward(embeddings.new_empty(0))
        attraction, repulsion = plan.state.terms()
        dtype = x.values.dtype
        return (
            _unsorted(attraction.to(dtype), plan.rows),
            _unsorted(repulsion.to(dtype), plan.rows),
        )

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        _ = ctx.saved_tensors
        if torch.is_grad_enabled():
            raise RuntimeError(
                "the tiled soft contrastive loss has no second derivatives (create_graph); "
                "use implementation='dense'"
            )
        plan: Plan = ctx.plan
        x, y = ctx.x, ctx.y
        attraction, repulsion = (g.double()[plan.rows.order] for g in gradients)
        plan.state.start_gradient(attraction, repulsion)
        by_x, by_y = ctx.walk.differentiate(
            repulsion.abs().amax(), needs_columns=ctx.needs_input_grad[1]
        )
        return (
            _unsorted(x.chain(by_x), plan.rows).to(x.dtype),
            None if by_y is None else _unsorted(y.chain(by_y), plan.columns).to(y.dtype),
            None,
        )


class _Walk:
    """Goes over the tiles: similarities, elementwise work, gradient products."""

    def __init__(self, plan: Plan, x: Tensor, y: Tensor) -> None:
        self.plan = plan
        self.x = plan.products.factor(x)
        self.y = self.x if y is x else plan.products.factor(y)
        rows, columns = plan.rows.spans[0], plan.columns.spans[0]
        self._scratch = x.new_empty((rows.stop - rows.start) * (columns.stop - columns.start))
        self._kept: dict[int, Tensor] = {}
        room = sum(pair.size for pair in plan.pairs)
        if not plan.config.save_similarity:
            share = KEPT_SHARE_MINING if plan.config.mining else KEPT_SHARE
            floats = x.numel() + (0 if plan.square else y.numel())
            room = min(room, share * floats + KEPT_FLOATS)
        # One piece, which goes back to the system as a whole; the heap may keep tiles.
        self._room = x.new_empty(room)
        numbers = range(len(plan.pairs))
        self._near = [k for k in numbers if plan.is_near(plan.pairs[k])]
        # What mining decides without: far tiles, and near ones that attract too weakly.
        self._far = [k for k in numbers if not plan.is_near(plan.pairs[k])]
        self._weak: list[int] = []
        # The largest similarity of each far tile, for its part in the gradient.
        self._largest: dict[int, Tensor] = {}
        # Whether mining keeps any pair of each far tile.
        self._kept_any: dict[int, Tensor] = {}

    def mine(self) -> None:
        """Find the extrema that decide which pairs are kept, as far as near tiles tell."""
        plan = self.plan
        if not plan.config.mining:
            return
        gaps_m = torch.tensor([pair.gap_m for pair in plan.pairs], dtype=torch.float64)
        # Influence never rises with distance: this is the most that a pair of a tile has.
        weights = (plan.geometry.influence(gaps_m) * (1.0 + ROUNDING)).tolist()
        nearest_first = sorted(self._near, key=lambda k: plan.pairs[k].gap_m)
        for k in nearest_first:
            pair = plan.pairs[k]
            if weights[k] > plan.state.least_most_attracting(pair):
                plan.state.most_attracting(self._similarities(k), pair)
        self._near = []
        candidates: list[int] = []
        for k in nearest_first:
            # An attraction below epsilon is kept whatever the largest n.
            (candidates if weights[k] < plan.config.epsilon else self._near).append(k)
        for k in self._near:
            plan.state.mining_extrema(self._similarities(k), plan.pairs[k])
        settled = _least(plan.state.settled_weights(), plan.rows) if candidates else {}
        for k in candidates:
            pair = plan.pairs[k]
            spans = [pair.rows, *([pair.columns] if pair.mirrored else [])]
            if all(weights[k] <= settled[span.start] for span in spans):
                self._weak.append(k)
            else:
                self._near.append(k)
                plan.state.mining_extrema(self._similarities(k), pair)

    def sum(self) -> None:
        """Accumulate the sums of every row.

        Far and weak tiles first, in one pass: which of their pairs are kept is known from
        near tiles; which attracting pairs of near tiles are, only after them.
        """
        plan, config = self.plan, self.plan.config
        plan.state.start_sums()
        for k in self._weak:
            tile = self._similarities(k)
            plan.state.most_repelling(tile, plan.pairs[k])
            plan.state.sums(tile, plan.pairs[k])
        for k in self._far:
            pair = plan.pairs[k]
            # Most are left out of the gradient: what room there is, is for near tiles.
            tile = self._similarities(k, keep=config.save_similarity)
            if config.aggregation == "log-sum-exp":
                self._largest[k] = tile.amax()
            if config.mining:
                self._kept_any[k] = plan.state.most_repelling(tile, pair)
                # A GPU would have to be waited for, tile by tile.
                if tile.device.type == "cpu" and not self._kept_any[k]:
                    continue
            plan.state.sums(tile, pair)
        for k in self._near:
            plan.state.sums(self._similarities(k), plan.pairs[k])

    def differentiate(
        self, steepest: Tensor, *, needs_columns: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradients by the unit rows and, if wanted, by the unit columns.

        Args:
            steepest: Scalar, the largest gradient by a row's repulsion term.
            needs_columns: In the rectangular form, whether the columns are differentiated.
        """
        dtype = self._scratch.dtype
        by_x = torch.zeros_like(self.x, dtype=dtype)
        by_y: Tensor | None = by_x
        if not self.plan.square:
            by_y = torch.zeros_like(self.y, dtype=dtype) if needs_columns else None
        for k in range(len(self.plan.pairs)):
            if k not in self._largest:
                self._add_tile(k, by_x, by_y)
        for k in self._felt(by_x, by_y, steepest):
            self._add_tile(k, by_x, by_y)
        self._room = self._room.new_empty(0)
        return by_x, None if self.plan.square else by_y

    def _add_tile(self, k: int, by_x: Tensor, by_y: Tensor | None) -> None:
        plan, pair = self.plan, self.plan.pairs[k]
        tile = self._similarities(k, keep=False)
        self._kept.pop(k, None)  # what is kept is overwritten now
        plan.state.gradient(tile, pair)
        plan.products.add(by_x[pair.rows], tile, self.y[pair.columns])
        if by_y is not None and (pair.mirrored or not plan.square):
            plan.products.add(by_y[pair.columns], tile.T, self.x[pair.rows])

    def _felt(self, by_x: Tensor, by_y: Tensor | None, steepest: Tensor) -> list[int]:
        """Return the far tiles whose gradient changes a digit of the near tiles' sum.

        A pair beyond the support adds at most ``2 steepest e^(beta (s - base))`` times a
        unit vector. A tile is left out if all pairs of a row, were they as similar as its
        most similar, would add less than half a unit in the last place of the length that
        the row's gradient has so far, or of :data:`SHORTEST_SHARE` of the root mean square
        over all rows if that is more; and likewise for a column.
        """
        largest_of = self._largest
        if largest_of and self._kept_any:
            kept = torch.stack(list(self._kept_any.values())).tolist()
            largest_of = dict(compress(largest_of.items(), kept))
        if not largest_of:
            return []
        config, plan = self.plan.config, self.plan
        largest = torch.stack(list(largest_of.values())).double().cpu()
        count = max(len(self.x), len(self.y))
        most = 2 * count * float(steepest) * torch.exp(config.beta * (largest - config.base))
        rows = _shortest(by_x, self.x, plan.rows)
        columns = rows
        if not plan.square:
            columns = {} if by_y is None else _shortest(by_y, self.y, plan.columns)
        digit = torch.finfo(by_x.dtype).eps / 2
        felt = []
        for k, similarity, bound in zip(
            largest_of, largest.tolist(), most.tolist(), strict=True
        ):
            pair = plan.pairs[k]
            length = min(
                rows[pair.rows.start], columns.get(pair.columns.start, rows[pair.rows.start])
            )
            if similarity >= config.gradient_filter and bound > digit * length:
                felt.append(k)
        return felt

    def _similarities(self, k: int, *, keep: bool = True) -> Tensor:
        """Return ``x_I x_J^T`` of tile ``k``; valid until the next call, unless kept."""
        if k in self._kept:
            return self._kept[k]
        pair = self.plan.pairs[k]
        x, y = self.x[pair.rows], self.y[pair.columns]
        keep = keep and pair.size <= len(self._room)
        target = (self._room if keep else self._scratch)[: pair.size].view(len(x), len(y))
        if keep:
            self._room = self._room[pair.size :]
            self._kept[k] = target
        return self.plan.products.similarities(x, y, target)


def _shortest(gradient: Tensor, unit: Tensor, order: Blocks) -> dict[int, float]:
    """Return, by a block's first row, the least length across ``unit`` of its gradients.

    Never less than :data:`SHORTEST_SHARE` of the root mean square over all rows.
    """
    lengths = gradient.new_empty(len(gradient))
    for span in order.spans:  # a block at a time: no temporary of the embeddings' size
        rows, units = gradient[span], unit[span].to(gradient.dtype)
        along = (rows * units).sum(dim=1, keepdim=True)
        lengths[span] = torch.linalg.vector_norm(rows - along * units, dim=1)
    usual = lengths.double().square().mean().sqrt()  # squares that float32 might not hold
    return _least(lengths.clamp_(min=SHORTEST_SHARE * float(usual)), order)


def _least(values: Tensor, order: Blocks) -> dict[int, float]:
    """Return, by a block's first row, the least of its ``values``."""
    least = torch.stack([values[span].amin() for span in order.spans]).tolist()
    return dict(zip((span.start for span in order.spans), least, strict=True))


def _unsorted(values: Tensor, order: Blocks) -> Tensor:
    return torch.empty_like(values).index_copy_(0, order.order, values)
