"""Which columns of a tile may be near some of its rows, compiled for the CPU by numba.

A near tile of a batch along a route is 512 images of some kilometre by 512 images: most of
its pairs lie beyond the support too. Bounding boxes of 32 images tell which, so that these
need neither distance nor weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlcore_soft_contrastive.numba_weights import Rule, Side, Span, compiled

CHUNK = 32
"""Rows of a piece, and columns of a box."""
_SHORTEST_FAR = 64
"""Fewer far columns between near ones are treated as near: short loops are slow ones."""


@compiled()
def cut(
    span: Span, height: int, width: int, rows: Side, columns: Side, rule: Rule, chunks: Any
) -> Any:
    """Cut a tile into pieces that are near, or far as a whole.

    Args:
        span: Where the tile lies.
        height: Rows of the tile.
        width: Columns of the tile.
        rows: The rows of the matrix.
        columns: The columns of the matrix.
        rule: For the support.
        chunks: First chunk of rows, and the chunk after the last one.

    Returns:
        ``(pieces, 6)`` int64, chunk by chunk and from left to right: number of the chunk,
        first row in the tile, row after the last, first column, column after the last,
        whether it is near. See :func:`piece`.
    """
    groups = -(-width // CHUNK)
    pieces = np.empty((max(0, chunks[1] - chunks[0]) * groups, 6), np.int64)
    boxes, box, count = np.empty((groups, 6)), np.empty(6), 0
    if span.near:
        for group in range(groups):
            start, stop = group * CHUNK, min(width, (group + 1) * CHUNK)
            _bound(columns, span.column + start, span.column + stop, boxes[group])
    for chunk in range(chunks[0], chunks[1]):
        first, last, begin = chunk * CHUNK, min(height, (chunk + 1) * CHUNK), count
        if span.near:
            _bound(rows, span.row + first, span.row + last, box)
        for group in range(groups):
            near = np.int64(span.near and _gap_m(box, boxes[group]) < rule.support_m)
            left, right = group * CHUNK, min(width, (group + 1) * CHUNK)
            if count > begin and pieces[count - 1, 5] == near:
                pieces[count - 1, 4] = right
            elif count > begin + 1 and near and left - pieces[count - 1, 3] < _SHORTEST_FAR:
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
                    near,
                )
                count += 1
    return pieces[:count]


@compiled()
def piece(pieces: Any, k: int) -> Any:
    """Return chunk, rows, columns and nearness of a piece, to be unpacked."""
    at = pieces[k]
    return at[0], at[1], at[2], at[3], at[4], at[5] > 0


@compiled()
def _bound(side: Side, first: int, last: int, box: Any) -> None:
    """Fill ``box`` (6,) with the lower and the upper corner of some images."""
    for axis in range(3):
        lower = upper = side.exact[axis, first]
        for k in range(first + 1, last):
            lower = min(lower, side.exact[axis, k])
            upper = max(upper, side.exact[axis, k])
        box[axis], box[3 + axis] = lower, upper


@compiled()
def _gap_m(a: Any, b: Any) -> Any:
    """Return the distance of two boxes."""
    squared = 0.0
    for axis in range(3):
        squared += max(a[axis] - b[3 + axis], b[axis] - a[3 + axis], 0.0) ** 2
    return np.sqrt(squared)
