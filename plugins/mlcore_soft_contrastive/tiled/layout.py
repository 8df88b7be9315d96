"""The order in which a batch is walked: along a space-filling curve, in blocks.

Sorted by place, the images of a block lie together, and most pairs of blocks lie farther
apart than any pair attracts: their tiles need no distance. No block has images of two regions,
so that a tile is far as a whole where its regions differ.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from mlcore_soft_contrastive.geometry import Places
from mlcore_soft_contrastive.tiled.numba_rows import curve_index

_CURVE_BITS = 16


class Ordered(Protocol):
    """Images along the curve; :class:`Blocks`, and the fused kernels' own blocks."""

    @property
    def order(self) -> Tensor:
        """``(N,)`` int64, the batch row of each sorted row."""


@dataclass(frozen=True)
class Blocks:
    """Images in blocks along the curve.

    Attributes:
        order: ``(N,)`` int64, the batch row of each sorted row.
        spans: Sorted rows of each block.
        lower_m: ``(blocks, 2 or 3)`` float64 on the CPU, corner of each bounding box.
        upper_m: The other corner.
        region: ``(blocks,)`` int64 on the CPU, the region of each block; 0 for one region.
    """

    order: Tensor
    spans: tuple[slice, ...]
    lower_m: Tensor
    upper_m: Tensor
    region: Tensor


@dataclass(frozen=True)
class TilePair:
    """One tile of the matrix.

    Attributes:
        rows: Sorted rows.
        columns: Sorted columns.
        gap_m: No pair of the tile is closer than this; infinite between regions.
        symmetric: Whether rows and columns are the same images, so that a pair counts in
            the sums of both.
    """

    rows: slice
    columns: slice
    gap_m: float
    symmetric: bool

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Number of rows and of columns."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    @cached_property
    def size(self) -> int:
        """Number of pairs."""
        return self.shape[0] * self.shape[1]

    @cached_property
    def mirrored(self) -> bool:
        """Whether the tile also stands for its transpose, which is not walked."""
        return self.symmetric and self.rows != self.columns


def blocks(places: Places, tile: int) -> Blocks:
    """Sort images along a Hilbert curve, region after region, and cut them into blocks.

    Args:
        places: N > 0 images; the curve runs through the first two coordinates.
        tile: Largest number of rows of a block.
    """
    orders: list[Tensor] = []
    spans: list[slice] = []
    regions: list[int] = []
    start = 0
    for region, rows in _by_region(places):
        one_block = len(rows) <= tile
        order = (
            rows
            if one_block
            else rows[torch.argsort(hilbert_index(places.positions_m[rows, :2]), stable=True)]
        )
        orders.append(order)
        stop = start + len(order)
        spans += [slice(k, min(k + tile, stop)) for k in range(start, stop, tile)]
        regions += [region] * (len(spans) - len(regions))
        start = stop
    order = torch.cat(orders)
    sorted_m = places.positions_m[order]
    lower = torch.stack([sorted_m[span].amin(dim=0) for span in spans])
    upper = torch.stack([sorted_m[span].amax(dim=0) for span in spans])
    return Blocks(order, tuple(spans), lower.cpu(), upper.cpu(), torch.tensor(regions))


def _by_region(places: Places) -> list[tuple[int, Tensor]]:
    """Return each region and its rows ``(n,)`` int64, ascending."""
    if places.region is None:
        return [(0, torch.arange(len(places), device=places.positions_m.device))]
    codes, sizes = torch.unique(places.region, return_counts=True)
    order = torch.argsort(places.region, stable=True)
    return list(zip(codes.tolist(), torch.split(order, sizes.tolist()), strict=True))


def tile_pairs(rows: Blocks, columns: Blocks, *, symmetric: bool) -> list[TilePair]:
    """Return the tiles that cover the matrix; of a symmetric one, the upper triangle.

    In rounds: blocks i and j meet in round ``(i + j) mod n``. Given the round, i determines
    j, so that the tiles of a round have no rows and no columns in common, and threads may
    take any of them at once.
    """
    apart = torch.maximum(
        rows.lower_m[:, None] - columns.upper_m[None],
        columns.lower_m[None] - rows.upper_m[:, None],
    )
    # Added up in the order of geometry.distances_m, so that rounding, which is monotonic,
    # makes no gap larger than a distance in its tile.
    squared = apart.clamp_(min=0.0).square_().unbind(dim=2)
    gaps_m = sum(squared[1:], squared[0]).sqrt()
    gaps_m.masked_fill_(rows.region[:, None] != columns.region, torch.inf)
    gap_m = gaps_m.tolist()
    return [
        TilePair(rows.spans[i], columns.spans[j], gap_m[i][j], symmetric)
        for i, j in _in_rounds(len(rows.spans), len(columns.spans), symmetric)
    ]


def share_of(pairs: list[TilePair], rank: int, count: int) -> list[TilePair]:
    """Return the tiles that process ``rank`` of ``count`` takes, in the order of ``pairs``.

    Dealt out by gap: a tile costs the more, the nearer it is, so that all get as much work.
    """
    by_gap = sorted(range(len(pairs)), key=lambda k: pairs[k].gap_m)
    return [pairs[k] for k in sorted(by_gap[rank::count])]


def _in_rounds(rows: int, columns: int, symmetric: bool) -> list[tuple[int, int]]:
    numbers = [(i, j) for i in range(rows) for j in range(i if symmetric else 0, columns)]
    return sorted(numbers, key=lambda ij: (sum(ij) % max(rows, columns), ij))


def hilbert_index(points: Tensor) -> Tensor:
    """Return each point's place along a Hilbert curve through all of them, int64.

    Args:
        points: ``(N, 2)`` float64.
    """
    cells = _cells(points)
    if cells.device.type != "cpu":
        return _index_by_operations(cells)
    index = torch.empty(len(cells), dtype=torch.int64)
    curve_index(cells.numpy(), _CURVE_BITS, index.numpy())
    return index


def _cells(points: Tensor) -> Tensor:
    """Return the cell of a square grid in which each point lies."""
    lower = points.amin(dim=0)
    extent = (points.amax(dim=0) - lower).max().clamp_(min=1e-9)
    cells: Tensor = ((points - lower) / extent * (2**_CURVE_BITS - 1)).long()
    return cells


def _index_by_operations(cells: Tensor) -> Tensor:
    """Do as :func:`curve_index` does, where the cells are not in the CPU's memory."""
    x, y = cells.unbind(dim=1)
    index = torch.zeros_like(x)
    for bit in range(_CURVE_BITS - 1, -1, -1):
        right, upper = (x >> bit) & 1, (y >> bit) & 1
        index = (index << 2) | ((3 * right) ^ upper)
        # Turn the quadrant so that the curve enters and leaves it at the same corners.
        flip, swap = (upper == 0) & (right == 1), upper == 0
        side = (1 << bit) - 1
        x, y = (
            torch.where(flip, side - (x & side), x & side),
            torch.where(flip, side - (y & side), y & side),
        )
        x, y = torch.where(swap, y, x), torch.where(swap, x, y)
    return index
