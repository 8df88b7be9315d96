"""One evaluation on a GPU: products by cuBLAS, all else by kernels, no waiting in between.

As :mod:`mlcore_soft_contrastive.tiled.walk`, which has the formulas, but in tiles so large
that launching costs less than computing, and without a look at any value inside a loop: which
128 x 128 pairs are near is decided in the kernels. The host reads two things: before the
loops, the boxes of the blocks; and if there are tiles without near pairs, in backward their
largest similarities.

Memory beyond the embeddings' own (unit rows, gradient): one tile of float32, half as much
again with bfloat16 factors, and some 200 bytes per image. See :func:`tile_width`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mlcore.geometry import takes_headings
from mlcore.protocols import ProcessGroup
from mlcore_soft_contrastive.config import LARGEST_EXPONENT, SoftContrastiveConfig
from mlcore_soft_contrastive.cuda import arguments
from mlcore_soft_contrastive.cuda.sides import (
    BLOCK,
    Side,
    gaps_m,
    own_columns,
    tile_boxes,
    variant_of,
)
from mlcore_soft_contrastive.cuda.unit_rows import UnitRows
from mlcore_soft_contrastive.geometry import Geometry, has_device_code
from mlcore_soft_contrastive.tiled.cupy_launch import Launch, on_device
from mlcore_soft_contrastive.tiled.kernel_source import tiles_source
from mlcore_soft_contrastive.tiled.products import Products

_TILE_THREADS = (32, 8)
_DIAGONAL, _MIRRORED = 1, 2
_TAKE_ATTRACTING, _TAKE_EXTREMA, _ADD_SUMS, _ADD_FAR = range(4)
"""As in ``kernels/rows.cu``."""


def tile_width(size: int, usual: int) -> int:
    """Return the width of tiles, a multiple of :data:`BLOCK`.

    Half of a small batch, so that no matrix of all pairs is ever there; twice ``usual`` from
    16 times that on, where fewer launches are worth more than a smaller scratch tile.
    """
    wanted = min(-(-size // 2), usual if size <= 16 * usual else 2 * usual)
    return -(-wanted // BLOCK) * BLOCK


class _Tile(NamedTuple):
    """One tile: blocks of rows and columns by number, their first rows and their sizes."""

    row_block: int
    column_block: int
    first_row: int
    first_column: int
    num_rows: int
    num_columns: int
    flags: int


@dataclass(frozen=True)
class CudaKernels:
    """Starts evaluations in kernels.

    Attributes:
        compiled: Returns the kernels of a source.
    """

    compiled: Callable[[str], Launch]

    @staticmethod
    def covers(geometry: Geometry, config: SoftContrastiveConfig, embeddings: Tensor) -> bool:
        """Return whether the kernels support this configuration, on any device."""
        return (
            embeddings.dtype != torch.float64
            and has_device_code(geometry.influence)
            and config.largest_exponent <= LARGEST_EXPONENT
        )

    def start(
        self,
        geometry: Geometry,
        config: SoftContrastiveConfig,
        tile: int,
        group: ProcessGroup | None = None,
    ) -> CudaEvaluation:
        """Return an evaluation; see there."""
        assert has_device_code(geometry.influence)
        turns = geometry.influence_turns if takes_headings(geometry.influence) else None
        variant = variant_of(geometry, plain=config.aggregation == "plain")
        source = tiles_source(geometry.influence.device_code(), variant, turns=turns)
        products = Products(config.tile_precision)
        launch = self.compiled(source)
        return CudaEvaluation(geometry, config, launch, tile, products, group)


class CudaEvaluation:
    """See :class:`mlcore_soft_contrastive.autograd.Evaluation`.

    Args:
        geometry: Where the images are; its influence function has ``device_code``.
        config: The formula's options.
        launch: Runs kernels of this influence function, compiled for the variant of
            ``geometry`` and ``config``.
        tile: Largest width of tiles, a multiple of :data:`BLOCK`.
        products: The matrix products.
        group: Processes that each take a share of the tiles of a square matrix.
    """

    def __init__(
        self,
        geometry: Geometry,
        config: SoftContrastiveConfig,
        launch: Launch,
        tile: int,
        products: Products,
        group: ProcessGroup | None = None,
    ) -> None:
        self._geometry, self._config, self._launch = geometry, config, launch
        self._tile, self._products, self._group = tile, products, group
        self._square = geometry.columns is geometry.rows
        self._mined = int(config.mining)
        # The tile visited last, whose similarities still lie in the scratch tile.
        self._held: int | None = None
        self._saved: dict[int, Tensor] = {}

    def forward(self, embeddings: Tensor, references: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the terms of each row, in the order of the batch."""
        with self._on(embeddings):
            self._sort()
            self._x = UnitRows(embeddings, self._rows, self._tile, self._launch, self._products)
            self._y = self._x
            if references is not None:
                self._y = UnitRows(
                    references, self._columns, self._tile, self._launch, self._products
                )
            self._cut()
            if self._mined:
                self._mine()
            self._sum()
            rows, config = self._rows, self._config
            terms = torch.empty(2, rows.size, dtype=torch.float32, device=embeddings.device)
            self._each_row(
                "row_terms", rows.sums, rows.order, terms, config.alpha, config.beta, rows.size
            )
        return terms[0], terms[1]

    def _sort(self) -> None:
        """Sort rows and columns along the curve."""
        geometry, mined = self._geometry, self._config.mining
        variant = variant_of(geometry, plain=self._config.aggregation == "plain")
        bounds_m = torch.aminmax(geometry.columns.positions_m, dim=0)
        codes: list[Tensor | None] = [None, None]
        if variant.regions:
            sides = [geometry.rows.region, geometry.columns.region]
            _, numbers = torch.unique(torch.cat(sides), return_inverse=True)  # type: ignore[arg-type]
            codes = list(torch.split(numbers, [len(geometry.rows), len(geometry.columns)]))
        make = self._launch, variant
        self._rows = Side(geometry.rows, codes[0], tuple(bounds_m), *make)  # type: ignore[arg-type]
        self._rows.place(*((0.0, 0.0) if mined else (np.inf, -np.inf)))
        self._columns, self._own = self._rows, None
        if not self._square:
            self._columns = Side(geometry.columns, codes[1], tuple(bounds_m), *make)  # type: ignore[arg-type]
            self._columns.place(-np.inf, np.inf)  # no column keeps a pair of its own
            self._own = own_columns(geometry, self._rows, self._columns)
        for side in {id(side): side for side in (self._rows, self._columns)}.values():
            side.read_boxes()

    def _cut(self) -> None:
        """Cut the matrix into tiles, and take memory for one and what is found in it."""
        rows, columns, tile = self._rows, self._columns, self._tile
        device = rows.order.device
        row_boxes = tile_boxes(rows.boxes, tile)
        column_boxes = row_boxes if self._square else tile_boxes(columns.boxes, tile)
        gap_m = gaps_m(row_boxes, column_boxes)
        support_m = self._geometry.influence.support_m
        far = gap_m > support_m * (1.0 + arguments.FAR_MARGIN)
        numbers = [
            (i, j)
            for i in range(len(row_boxes))
            for j in range(i if self._square else 0, len(column_boxes))
        ]
        if self._group is not None:  # dealt out by gap, as in tiled.layout.share_of
            by_gap = sorted(range(len(numbers)), key=lambda k: float(gap_m[numbers[k]]))
            mine = sorted(by_gap[self._group.rank :: self._group.count])
            numbers = [numbers[k] for k in mine]
        self._tiles = [self._tile_at(i, j) for i, j in numbers]
        is_far = far[tuple(np.array(numbers, dtype=int).reshape(-1, 2).T)].tolist()
        self._near = [k for k, apart in enumerate(is_far) if not apart]
        self._far = [k for k, apart in enumerate(is_far) if apart]
        height, width = min(tile, rows.padded), min(tile, columns.padded)
        self._scratch = torch.empty(height * width, dtype=torch.float32, device=device)
        self._halves: Tensor | None = None
        if self._products.halves:
            self._halves = torch.empty(height * width, dtype=torch.bfloat16, device=device)
        # Two numbers per row and block of columns, and per column and block of rows.
        partial = self._scratch.new_empty(2, 2 * height * width // BLOCK)
        self._partial = partial
        row_words = rows.words(self._own)
        self._work = arguments.work(
            self._geometry,
            self._config,
            row_words,
            row_words if self._square else columns.words(None),
            partial[0],
            partial[1],
        )
        # Of each far tile, the largest similarity that each block of rows or columns keeps.
        self._largest = torch.empty(
            len(self._far), (height + width) // BLOCK, dtype=torch.float32, device=device
        ).fill_(-1.0)

    def _tile_at(self, i: int, j: int) -> _Tile:
        first_row, first_column = i * self._tile, j * self._tile
        num_rows = min(self._tile, self._rows.padded - first_row)
        num_columns = min(self._tile, self._columns.padded - first_column)
        flags = 0
        if self._square:
            flags = _DIAGONAL if i == j else _MIRRORED
        return _Tile(i, j, first_row, first_column, num_rows, num_columns, flags)

    def _mine(self) -> None:
        """Find the extrema that decide which pairs are kept, from the tiles with near pairs.

        A far tile has ``w+ = 0``: it changes neither t nor ``least``. Its n count in
        ``below``, which near tiles are summed with: far tiles are summed before them.
        """
        rows, group = self._rows, self._group
        self._visit(self._near, "most_attracting", _TAKE_ATTRACTING)
        if group is not None:
            rows.most_attracting.copy_(group.largest(rows.most_attracting))
        self._visit(self._near, "mining_extrema", _TAKE_EXTREMA)
        if group is not None:
            rows.keep.copy_(group.largest(rows.keep))
        self._each_row(
            "settle", rows.keep, rows.most_attracting, self._config.epsilon, rows.size
        )

    def _sum(self) -> None:
        prefix = "mined_" if self._mined else ""
        self._visit(self._far, f"{prefix}far_sums", _ADD_FAR)
        rows, group = self._rows, self._group
        if group is not None and self._mined:
            # `below` has risen, differently in each process; `above` has not changed.
            rows.keep.copy_(group.largest(rows.keep))
        self._visit(self._near, f"{prefix}sums", _ADD_SUMS)
        if group is not None:
            rows.sums.copy_(group.add_up(rows.sums))
        self._turn(self._near)

    def _turn(self, numbers: list[int]) -> None:
        """Go to and fro: begin with the tile that the pass before has ended with."""
        if numbers and self._held == numbers[-1]:
            numbers.reverse()

    def _visit(self, numbers: list[int], kernel: str, step: int) -> None:
        """Run a kernel on the similarities of some tiles, and take what it found."""
        self._turn(numbers)
        first_far = {k: n for n, k in enumerate(self._far)} if step == _ADD_FAR else {}
        launch, work, mined = self._launch, self._work, self._mined
        width = self._largest.shape[1]
        for k in numbers:
            tile = self._tiles[k]
            similarities = self._similarities(k)
            _, _, first_row, first_column, num_rows, num_columns, flags = tile
            place = work, similarities, first_row, first_column
            grid = (num_columns // BLOCK, num_rows // BLOCK)
            launch(kernel, grid, _TILE_THREADS, *place, num_columns, flags & _DIAGONAL)
            both = num_columns if flags & _MIRRORED else 0
            launch(
                "reduce",
                ((num_rows + both) // BLOCK, 1),
                (BLOCK, 1),
                *(work, first_row, first_column, num_rows, num_columns),
                *(step, flags, mined, self._largest, first_far.get(k, 0) * width),
            )

    def run(self, kernel: str, k: int) -> None:
        """Run one kernel of tiles on what lies in the scratch tile, for benchmarks."""
        _, _, first_row, first_column, num_rows, num_columns, _ = self._tiles[k]
        tile = self._scratch[: num_rows * num_columns]
        place: tuple[Tensor | int, ...] = first_row, first_column, num_columns
        halves, last = ((None,), ()) if "gradient" in kernel else ((), (0,))
        grid = (num_columns // BLOCK, num_rows // BLOCK)
        self._launch(kernel, grid, _TILE_THREADS, self._work, tile, *halves, *place, *last)

    def _similarities(self, k: int) -> Tensor:
        """Return ``x_I x_J^T`` of tile ``k``."""
        held, self._held = self._held, k
        saved = self._saved.get(k)
        if saved is not None:
            return saved
        tile = self._tiles[k]
        size = tile.num_rows * tile.num_columns
        if self._config.save_similarity:
            out = self._saved[k] = torch.empty(
                tile.num_rows,
                tile.num_columns,
                dtype=torch.float32,
                device=self._scratch.device,
            )
        else:
            out = self._scratch[:size].view(tile.num_rows, tile.num_columns)
            if held == k:
                return out
        x, y = self._x.factors[tile.row_block], self._y.factors[tile.column_block]
        return self._products.similarities(x, y, out)

    def backward(
        self, attraction: Tensor, repulsion: Tensor, *, needs_columns: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradients by embeddings and references, given those by the terms."""
        with self._on(attraction):
            rows = self._rows
            by_terms = attraction.float().contiguous(), repulsion.float().contiguous()
            arguments_ = rows.sums, rows.order, *by_terms, rows.factor, rows.size
            self._each_row("row_factors", *arguments_)
            by_x = torch.zeros_like(self._x.values)
            by_y: Tensor | None = by_x
            if not self._square:
                by_y = torch.zeros_like(self._y.values) if needs_columns else None
            bounded = self._config.aggregation == "log-sum-exp"
            self._differentiate(self._near if bounded else self._near + self._far, by_x, by_y)
            if bounded and (self._far or self._group is not None):
                steepest = by_terms[1].abs().amax()
                self._differentiate(self._significant(by_x, by_y, steepest), by_x, by_y)
            of_columns = None if self._square or by_y is None else self._y.chain(by_y)
            return self._x.chain(by_x), of_columns

    def _differentiate(self, numbers: Sequence[int], by_x: Tensor, by_y: Tensor | None) -> None:
        """Add the gradient by the similarities of some tiles, times the other side's rows."""
        kernel = "mined_gradient" if self._mined else "gradient"
        rows_of, columns_of = torch.split(by_x, self._tile), None
        if by_y is not None:
            columns_of = rows_of if self._square else torch.split(by_y, self._tile)
        add = self._products.add
        for k in numbers:
            i, j, first_row, first_column, num_rows, num_columns, flags = self._tiles[k]
            tile = self._similarities(k)
            # What lies in the tile is overwritten now.
            self._held = None
            self._saved.pop(k, None)
            halves = None
            if self._halves is not None:
                halves = self._halves[: num_rows * num_columns].view(num_rows, num_columns)
            grid = (num_columns // BLOCK, num_rows // BLOCK)
            place = self._work, tile, halves, first_row, first_column, num_columns
            self._launch(kernel, grid, _TILE_THREADS, *place)
            by_similarity = tile if halves is None else halves
            add(rows_of[i], by_similarity, self._y.factors[j])
            if columns_of is not None and (flags & _MIRRORED or not self._square):
                add(columns_of[j], by_similarity.T, self._x.factors[i])

    def _significant(self, by_x: Tensor, by_y: Tensor | None, steepest: Tensor) -> list[int]:
        """Return the far tiles whose gradient changes a digit of the near tiles' sum.

        By the bound that ``Walk._significant`` derives.
        """
        if self._group is not None:
            by_x = by_y = self._group.add_up(by_x)
        if not self._far:
            return []
        config = self._config
        parts = [self._largest.amax(dim=1), self._x.shortest(by_x)]
        if not self._square and by_y is not None:
            parts.append(self._y.shortest(by_y))
        read = torch.cat([*parts, steepest[None]]).double().cpu().numpy()
        largest, *lengths = np.split(read[:-1], np.cumsum([len(part) for part in parts])[:-1])
        count = max(self._rows.size, self._columns.size)
        most = 2.0 * count * read[-1] * np.exp(config.beta * (largest - config.base))
        tiles = np.array([self._tiles[k][:2] for k in self._far])
        least = lengths[0][tiles[:, 0]]
        if self._square or by_y is not None:
            least = np.minimum(least, lengths[-1][tiles[:, 1]])
        digit = torch.finfo(torch.float32).eps / 2
        # -1 stands for no pair that mining keeps.
        wanted = (largest >= max(config.gradient_filter, 0.0)) & (most > digit * least)
        return [k for k, wants in zip(self._far, wanted.tolist(), strict=True) if wants]

    def _each_row(self, name: str, *kernel_arguments: Tensor | float) -> None:
        grid = (self._rows.padded // BLOCK, 1)
        self._launch(name, grid, (BLOCK, 1), *kernel_arguments)

    def _on(self, tensor: Tensor) -> ExitStack:
        """Enter the device and leave autocast: also in backward, products are as configured."""
        with ExitStack() as entered:
            entered.enter_context(on_device(tensor))
            entered.enter_context(torch.autocast(tensor.device.type, enabled=False))
            entered.enter_context(self._products.rounding())
            return entered.pop_all()
