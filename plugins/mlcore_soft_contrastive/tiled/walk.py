"""The loss tile by tile: exact, in memory proportional to the embeddings.

No B x B matrix is ever there. The matrix of similarities is walked in tiles, each computed
by one matrix product, used, and overwritten by the next; backward walks it again. With
``A_i`` and ``R_i`` the two terms of row i, every quantity of a pair is symmetric but for a
factor of its row, so that the upper triangle suffices::

    dL/ds_ij = [ w- e^(beta (n - base)) (r_i + r_j) - w+ e^(-alpha (p - base)) (a_i + a_j) ]
    a_i = dL/dA_i e^(-alpha A_i),   r_i = dL/dR_i e^(-beta R_i),   dL/dx = (dL/ds) x
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import compress

import torch
from torch import Tensor

from mlcore.protocols import ProcessGroup
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.geometry import Geometry
from mlcore_soft_contrastive.tiled.layout import Blocks, Ordered, TilePair
from mlcore_soft_contrastive.tiled.memory import TileMemory, most_kept
from mlcore_soft_contrastive.tiled.products import Products
from mlcore_soft_contrastive.tiled.state import TileState
from mlcore_soft_contrastive.tiled.threads import in_turns, mean
from mlcore_soft_contrastive.tiled.unit_rows import UnitRows

ROUNDING = 1e-5
"""Relative margin of bounds on what back ends compute in float32: some 100 of its units."""

SHORTEST_SHARE = 1e-3
"""Gradients shorter than this share of the root mean square need no higher accuracy.

Otherwise a single image without near pairs after mining would make all far tiles significant.
"""


@dataclass(frozen=True)
class Plan:
    """What one evaluation walks over.

    Attributes:
        geometry: In the order of the batch.
        config: The formula's options.
        rows: Blocks of the rows.
        columns: Blocks of the columns; the same object in the square form.
        pairs: The tiles; of several processes, this one's.
        state: State of each image, and the back end; serves one evaluation.
        products: The matrix products.
        threads: How many threads take tiles, while torch computes single-threaded in each;
            None leaves threads to torch.
        group: The processes that share the tiles. What decides about a pair (extrema,
            thresholds, lengths of gradients) is joined before it is used, so that each
            decides as one process would that has all tiles.
    """

    geometry: Geometry
    config: SoftContrastiveConfig
    rows: Blocks
    columns: Blocks
    pairs: list[TilePair]
    state: TileState
    products: Products
    threads: int | None = None
    group: ProcessGroup | None = None

    @property
    def square(self) -> bool:
        """Whether the embeddings are compared with each other."""
        return self.columns is self.rows

    def is_near(self, pair: TilePair) -> bool:
        """Return whether some pair of the tile may attract."""
        return pair.gap_m < self.geometry.influence.support_m


class Walk:
    """Goes over the tiles: similarities, elementwise work, gradient products."""

    def __init__(self, plan: Plan, x: UnitRows, y: UnitRows) -> None:
        self.plan = plan
        self._units = x, y
        self.x = plan.products.factor(x.values)
        self.y = self.x if y is x else plan.products.factor(y.values)
        self._dtype = x.values.dtype
        floats = self.x.numel() + (0 if plan.square else self.y.numel())
        sizes = [pair.size for pair in plan.pairs]
        self._memory = TileMemory(
            x.values,
            sizes=sizes,
            largest=max(sizes, default=0),
            threads=plan.threads or 1,
            most=None
            if plan.config.save_similarity
            else most_kept(floats, mining=plan.config.mining),
        )
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
        """Find the extrema that decide which pairs are kept, from the near tiles.

        A far tile has ``w+ = 0``: its p are 0 and its ``(s - t) w+`` too, so that it changes
        neither t nor ``least``. A near tile whose turn comes late may be *weak*, see
        :meth:`mlcore_soft_contrastive.tiled.state.TileState.is_weak`, and is walked once like a
        far one. Its n do count in ``below``, which near tiles are summed with: weak and far
        tiles are visited before them, see :meth:`sum`.
        """
        plan, state = self.plan, self.plan.state
        if not plan.config.mining:
            return
        gaps_m = torch.tensor([pair.gap_m for pair in plan.pairs], dtype=torch.float64)
        # Influence never rises with distance: this is the most that a pair of a tile has,
        # and, since s <= 1 but for rounding, the most that its p can be. A distance in float32
        # is off by less than 1e-6 of it.
        most = plan.geometry.influence(gaps_m * (1.0 - 1e-6)) * (1.0 + ROUNDING)
        weights: list[float] = most.tolist()
        # Nearest first: they raise t most, and spare farther tiles the visit. Those of about
        # the same weight stay in rounds, in which threads need not wait for each other.
        nearest_first = sorted(self._near, key=lambda k: (-int(4.0 * weights[k]), k))
        self._visit(
            nearest_first,
            lambda k, tile: state.most_attracting(tile, plan.pairs[k]),
            wanted=lambda k: weights[k] > state.least_most_attracting(plan.pairs[k]),
        )
        state.join_most_attracting()
        weak = dict.fromkeys(nearest_first, False)

        def is_strong(k: int) -> bool:
            weak[k] = state.is_weak(plan.pairs[k], weights[k])
            return not weak[k]

        self._visit(nearest_first, partial(self._on, state.mining_extrema), wanted=is_strong)
        state.join_extrema()
        self._weak = [k for k in nearest_first if weak[k]]
        self._near = [k for k in self._near if not weak[k]]

    def sum(self) -> None:
        """Accumulate the sums of every row.

        Far and weak tiles first, in one pass: which of their pairs are kept is known from
        near tiles; which attracting pairs of near tiles are, only after them.
        """
        state = self.plan.state
        state.start_sums()
        self._visit(self._weak, self._sum_weak)
        # Most are left out of the gradient; memory for kept tiles serves near ones better.
        self._visit(self._far, self._sum_far, keep=self.plan.config.save_similarity)
        if self.plan.config.mining:
            state.join_extrema()
        self._visit(self._near, partial(self._on, state.sums))
        state.join_sums()

    def _on(self, step: Callable[[Tensor, TilePair], None], k: int, tile: Tensor) -> None:
        step(tile, self.plan.pairs[k])

    def _sum_weak(self, k: int, tile: Tensor) -> None:
        self.plan.state.most_repelling(tile, self.plan.pairs[k])
        self.plan.state.sums(tile, self.plan.pairs[k])

    def _sum_far(self, k: int, tile: Tensor) -> None:
        state, config, pair = self.plan.state, self.plan.config, self.plan.pairs[k]
        if config.aggregation == "log-sum-exp":
            self._largest[k] = tile.amax()
        if config.mining:
            self._kept_any[k] = state.most_repelling(tile, pair)
            # A GPU would have to be waited for, tile by tile.
            if tile.device.type == "cpu" and not self._kept_any[k]:
                return
        state.sums(tile, pair)

    def _visit(
        self,
        numbers: list[int],
        work: Callable[[int, Tensor], None],
        *,
        keep: bool = True,
        wanted: Callable[[int], bool] = lambda _: True,
    ) -> None:
        """Call ``work`` with the number and the similarities of each tile.

        Tiles with rows or columns in common come in the order of ``numbers``, others at the
        same time: see :func:`mlcore_soft_contrastive.tiled.threads.in_turns`.

        Args:
            numbers: Of the tiles.
            work: What to do; it may change a tile that is not kept.
            keep: Whether similarities are kept for later visits while there is room.
            wanted: Asked when a tile's turn has come, before anything is computed.
        """

        def visit(k: int) -> None:
            if wanted(k):
                with self._memory.scratch() as scratch:
                    work(k, self._similarities(k, scratch, keep=keep))

        in_turns(visit, numbers, self._touched, self.plan.threads or 1)

    def _touched(self, k: int) -> list[tuple[str, int]]:
        """Return the blocks whose state and gradient tile ``k`` changes."""
        pair = self.plan.pairs[k]
        columns = "rows" if self.plan.square else "columns"
        return [("rows", pair.rows.start), (columns, pair.columns.start)]

    def differentiate(
        self, steepest: Tensor, *, needs_columns: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradients by the unit rows and, if wanted, by the unit columns.

        Args:
            steepest: Scalar, the largest gradient by a row's repulsion term.
            needs_columns: In the rectangular form, whether the columns are differentiated.
        """
        by_x = torch.zeros_like(self.x, dtype=self._dtype)
        by_y: Tensor | None = by_x
        if not self.plan.square:
            by_y = torch.zeros_like(self.y, dtype=self._dtype) if needs_columns else None
        add = partial(self._add_tile, by_x=by_x, by_y=by_y)
        first = [k for k in range(len(self.plan.pairs)) if k not in self._largest]
        self._visit(first, add, keep=False)
        self._visit(self._significant(by_x, by_y, steepest), add, keep=False)
        self._memory.close()
        return by_x, None if self.plan.square else by_y

    def _add_tile(self, k: int, tile: Tensor, by_x: Tensor, by_y: Tensor | None) -> None:
        plan, pair = self.plan, self.plan.pairs[k]
        self._memory.forget(k)  # what is kept is overwritten now
        plan.state.gradient(tile, pair)
        plan.products.add(by_x[pair.rows], tile, self.y[pair.columns])
        if by_y is not None and (pair.mirrored or not plan.square):
            plan.products.add(by_y[pair.columns], tile.T, self.x[pair.rows])

    def _significant(self, by_x: Tensor, by_y: Tensor | None, steepest: Tensor) -> list[int]:
        """Return the far tiles whose gradient changes a digit of the near tiles' sum.

        A pair beyond the support has ``w- = 1``, and its gradient is
        ``e^(beta (s - base)) (r_i + r_j)`` times a unit vector, where
        ``r = dL/dR e^(-beta R) <= steepest``, as ``R >= 0``: at most
        ``2 steepest e^(beta (s - base))``. A row has at most ``count`` such pairs in all its
        tiles. So if ``count`` times that, s being the largest in the tile, is less than half
        a unit in the last place of the length of the row's gradient so far, then all tiles
        left out for this reason add less than that half unit together: no more than a
        rounding of the same gradient. A row whose gradient is below :data:`SHORTEST_SHARE`
        of the root mean square over all rows counts as that long. Columns likewise.
        """
        largest_of = {k: self._largest[k] for k in self._far if k in self._largest}
        if largest_of and self._kept_any:
            kept = torch.stack([self._kept_any[k] for k in largest_of]).tolist()
            largest_of = dict(compress(largest_of.items(), kept))
        config, plan = self.plan.config, self.plan
        if plan.group is not None and config.aggregation == "log-sum-exp":
            by_x = by_y = plan.group.add_up(by_x)
        if not largest_of:
            return []
        largest = torch.stack(list(largest_of.values())).double().cpu()
        count = max(len(self.x), len(self.y))
        most = 2 * count * float(steepest) * torch.exp(config.beta * (largest - config.base))
        x, y = self._units
        rows = _shortest(by_x, x, plan.rows)
        columns = rows
        if not plan.square:
            columns = {} if by_y is None else _shortest(by_y, y, plan.columns)
        digit = torch.finfo(by_x.dtype).eps / 2
        significant = []
        for k, similarity, bound in zip(
            largest_of, largest.tolist(), most.tolist(), strict=True
        ):
            pair = plan.pairs[k]
            length = min(
                rows[pair.rows.start], columns.get(pair.columns.start, rows[pair.rows.start])
            )
            if similarity >= config.gradient_filter and bound > digit * length:
                significant.append(k)
        return significant

    def _similarities(self, k: int, scratch: Tensor, *, keep: bool) -> Tensor:
        """Return ``x_I x_J^T`` of tile ``k``, in ``scratch`` unless kept."""
        pair = self.plan.pairs[k]
        kept = self._memory.kept(k)
        if kept is not None:
            return kept[: pair.size].view(pair.shape)
        target = self._memory.keep(k) if keep else None
        if target is None:
            target = scratch
        return self.plan.products.similarities(
            self.x[pair.rows], self.y[pair.columns], target[: pair.size].view(pair.shape)
        )


def _shortest(gradient: Tensor, unit: UnitRows, order: Blocks) -> dict[int, float]:
    """Return, by a block's first row, the least length across ``unit`` of its gradients.

    Never less than :data:`SHORTEST_SHARE` of the root mean square over all rows.
    """
    lengths = unit.lengths_across(gradient)
    usual = mean(lengths.double().square()).sqrt()  # squares that float32 might not hold
    return _least(lengths.clamp_(min=SHORTEST_SHARE * float(usual)), order)


def _least(values: Tensor, order: Blocks) -> dict[int, float]:
    """Return, by a block's first row, the least of its ``values``."""
    least = torch.stack([values[span].amin() for span in order.spans]).tolist()
    return dict(zip((span.start for span in order.spans), least, strict=True))


def unsorted(values: Tensor, order: Ordered) -> Tensor:
    """Return rows along the curve in the order of the batch."""
    return torch.empty_like(values).index_copy_(0, order.order, values)
