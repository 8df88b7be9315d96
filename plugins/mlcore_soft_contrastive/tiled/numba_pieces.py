"""Pieces of a tile that are near, or far as a whole, compiled for the CPU by numba."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlcore_soft_contrastive.tiled.numba_pairs import (
    Floats,
    Rule,
    Side,
    Span,
    compiled,
    weigh_exactly,
)

CALLED = "1913d2c2b62cd10d"
"""Digest of the module above, as in :mod:`mlcore_soft_contrastive.tiled.numba_kernels`."""

CHUNK = 32
"""Rows of a piece, and columns of a box."""
_SHORTEST = 64
"""Fewer columns than this between nearer ones are treated like them: short loops are slow."""
FAR, UNDER, NEAR = 0, 1, 2


@compiled()
def cut(
    span: Span,
    height: int,
    width: int,
    rows: Side,
    columns: Side,
    rule: Rule,
    row_bars: Floats,
    column_bars: Floats,
) -> Any:
    """Cut a tile into pieces that are near, near but under a bar, or far as a whole.

    Args:
        span: Where the tile lies.
        height: Rows of the tile.
        width: Columns of the tile.
        rows: The rows of the matrix.
        columns: The columns of the matrix.
        rule: For the support.
        row_bars: Of each row, a w+ that matters only if exceeded. Empty if all matter; an
            image and itself do at any bar.
        column_bars: Of each column; infinite in a tile that is not mirrored.

    Returns:
        ``(pieces, 6)`` int64, chunk by chunk and from left to right: number of the chunk,
        first row in the tile, row after the last, first column, column after the last, and
        :data:`FAR`, :data:`UNDER` the bars, or :data:`NEAR`. See :func:`piece`.
    """
    chunks, groups = -(-height // CHUNK), -(-width // CHUNK)
    pieces = np.empty((chunks * groups, 6), np.int64)
    row_boxes = _boxes(rows, span.row, height, row_bars)
    column_boxes = _boxes(columns, span.column, width, column_bars)
    count = 0
    for chunk in range(chunks):
        first, last, begin = chunk * CHUNK, min(height, (chunk + 1) * CHUNK), count
        for group in range(groups):
            kind = np.int64(FAR)
            if span.near:
                kind = _kind(row_boxes[chunk], column_boxes[group], rule)
            left, right = group * CHUNK, min(width, (group + 1) * CHUNK)
            if count > begin and pieces[count - 1, 5] == kind:
                pieces[count - 1, 4] = right
            elif (
                count > begin + 1
                and pieces[count - 2, 5] == kind > pieces[count - 1, 5]
                and left - pieces[count - 1, 3] < _SHORTEST
            ):
                count -= 1
                pieces[count - 1, 4] = right
            else:
                new = pieces[count]
                new[0], new[1], new[2], new[3], new[4], new[5] = (
                    chunk,
                    first,
                    last,
                    left,
                    right,
                    kind,
                )
                count += 1
    return pieces[:count]


@compiled()
def _kind(a: Any, b: Any, rule: Rule) -> Any:
    """Return the kind of the pairs between two boxes.

    At the gap between them w+ is largest, as it never rises with distance, but for rounding:
    of a distance in float32, by less than 1e-6 of it, and of the exponent of a sigmoid, which
    is at most 80, by less than 1e-5 of w+.
    """
    gap_m = _gap_m(a, b)
    if gap_m >= rule.support_m:
        return np.int64(FAR)
    largest = weigh_exactly(gap_m * (1.0 - 1e-6), rule) * (1.0 + 1e-5)
    if gap_m <= 0.0 or largest > min(a[6], b[6]):
        return np.int64(NEAR)
    return np.int64(UNDER)


@compiled()
def piece(pieces: Any, k: int) -> Any:
    """Return rows, columns and kind of a piece, to be unpacked."""
    at = pieces[k]
    return at[1], at[2], at[3], at[4], at[5]


@compiled()
def _boxes(side: Side, start: int, size: int, bars: Floats) -> Any:
    """Return the lower and the upper corner and the lowest bar of each :data:`CHUNK` images."""
    boxes = np.empty((-(-size // CHUNK), 7))
    for k in range(len(boxes)):
        first, last = k * CHUNK, min(size, (k + 1) * CHUNK)
        for axis in range(3):
            lower = upper = side.exact[axis, start + first]
            for j in range(start + first + 1, start + last):
                lower = min(lower, side.exact[axis, j])
                upper = max(upper, side.exact[axis, j])
            boxes[k, axis], boxes[k, 3 + axis] = lower, upper
        boxes[k, 6] = bars[first:last].min() if len(bars) > 0 else -np.inf
    return boxes


@compiled()
def _gap_m(a: Any, b: Any) -> Any:
    """Return the distance of two boxes."""
    squared = 0.0
    for axis in range(3):
        squared += max(a[axis] - b[3 + axis], b[axis] - a[3 + axis], 0.0) ** 2
    return np.sqrt(squared)
