"""The order in which a batch is walked: along a space-filling curve, in blocks.

Sorted by place, the images of a block lie together, and most pairs of blocks lie farther
apart than any pair attracts: their tiles need no distance.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_CURVE_BITS = 16


@dataclass(frozen=True)
class Blocks:
    """Images in blocks along the curve.

    Attributes:
        order: ``(N,)`` int64, the batch row of each sorted row.
        spans: Sorted rows of each block.
        lower_m: ``(blocks, 2 or 3)`` float64 on the CPU, corner of each bounding box.
        upper_m: The other corner.
    """

    order: Tensor
    spans: tuple[slice, ...]
    lower_m: Tensor
    upper_m: Tensor


@dataclass(frozen=True)
class TilePair:
    """One tile of the matrix.

    Attributes:
        rows: Sorted rows.
        columns: Sorted columns.
        gap_m: No pair of the tile is closer than this.
        symmetric: Whether rows and columns are the same images, so that a pair counts in
            the sums of both.
    """

    rows: slice
    columns: slice
    gap_m: float
    symmetric: bool

    @property
    def size(self) -> int:
        """Number of pairs."""
        height: int = self.rows.stop - self.rows.start
        width: int = self.columns.stop - self.columns.start
        return height * width

    @property
    def mirrored(self) -> bool:
        """Whether the tile also stands for its transpose, which is not walked."""
        return self.symmetric and self.rows != self.columns


def blocks(positions_m: Tensor, tile: int) -> Blocks:
    """Sort images along a Hilbert curve and cut them into blocks.

    Args:
        positions_m: ``(N, 2)`` or ``(N, 3)`` float64, N > 0; the curve runs through the
            first two coordinates.
        tile: Rows of a block.
    """
    size = len(positions_m)
    one_block = size <= tile
    order = (
        torch.arange(size, device=positions_m.device)
        if one_block
        else torch.argsort(hilbert_index(positions_m[:, :2]), stable=True)
    )
    spans = tuple(slice(k, min(k + tile, size)) for k in range(0, size, tile))
    sorted_m = positions_m[order]
    lower = torch.stack([sorted_m[span].amin(dim=0) for span in spans])
    upper = torch.stack([sorted_m[span].amax(dim=0) for span in spans])
    return Blocks(order, spans, lower.cpu(), upper.cpu())


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
    gaps_m = sum(squared[1:], squared[0]).sqrt().tolist()
    return [
        TilePair(rows.spans[i], columns.spans[j], gaps_m[i][j], symmetric)
        for i, j in _in_rounds(len(rows.spans), len(columns.spans), symmetric)
    ]


def _in_rounds(rows: int, columns: int, symmetric: bool) -> list[tuple[int, int]]:
    numbers = [(i, j) for i in range(rows) for j in range(i if symmetric else 0, columns)]
    return sorted(numbers, key=lambda ij: (sum(ij) % max(rows, columns), ij))


def hilbert_index(points: Tensor) -> Tensor:
    """Return each point's place along a Hilbert curve through all of them, int64.

    Args:
        points: ``(N, 2)`` float64.
    """
    lower = points.amin(dim=0)
    extent = (points.amax(dim=0) - lower).max().clamp_(min=1e-9)
    cells = ((points - lower) / extent * (2**_CURVE_BITS - 1)).long()
    x, y = cells[:, 0].clone(), cells[:, 1].clone()
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
