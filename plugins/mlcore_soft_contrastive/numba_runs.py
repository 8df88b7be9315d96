"""Which columns of a tile may be near some of its rows, compiled for the CPU by numba.

A near tile of a batch along a route is 512 images of some kilometre by 512 images: most of
its pairs lie beyond the support too. Bounding boxes of 32 images tell which, so that these
need neither distance nor weight.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlcore_soft_contrastive.numba_weights import Doubles, Rule, Side, Span, compiled

GROUP = 32
"""Columns of a box."""
_SHORTEST_FAR = 64
"""Fewer far columns between near ones are treated as near: short loops are slow ones."""


@compiled()
def column_boxes(span: Span, size: int, columns: Side) -> Any:
    """Return ``(6, groups)`` float64, the bounding boxes of the tile's columns."""
    boxes = np.empty((6, -(-size // GROUP)))
    if span.near:
        for group in range(boxes.shape[1]):
            first = span.column + group * GROUP
            last = span.column + min(size, (group + 1) * GROUP)
            _bound(columns, first, last, boxes[:, group])
    return boxes


@compiled()
def find_runs(
    span: Span,
    first: int,
    last: int,
    size: int,
    rows: Side,
    boxes: Doubles,
    rule: Rule,
    runs: Any,
) -> int:
    """Cut the columns into runs that may be near one of the rows ``first:last``, or are far.

    Args:
        span: The tile.
        first: First row, counted in the tile.
        last: Row after the last one.
        size: Columns of the tile.
        rows: The rows of the matrix.
        boxes: From :func:`column_boxes`.
        rule: For the support.
        runs: ``(groups, 3)`` int64, filled with first column, column after the last, and
            whether the run is near.

    Returns:
        How many runs there are.
    """
    runs[0, 0], runs[0, 1], runs[0, 2] = 0, size, 0
    if not span.near:
        return 1
    box = np.empty(6)
    _bound(rows, span.row + first, span.row + last, box)
    count = 0
    for group in range(boxes.shape[1]):
        squared = 0.0
        for axis in range(3):
            gap = max(box[axis] - boxes[3 + axis, group], boxes[axis, group] - box[3 + axis])
            squared += max(gap, 0.0) ** 2
        near = np.int64(np.sqrt(squared) < rule.support_m)
        left, right = group * GROUP, min(size, (group + 1) * GROUP)
        if count > 0 and runs[count - 1, 2] == near:
            runs[count - 1, 1] = right
        elif count > 1 and near and left - runs[count - 1, 0] < _SHORTEST_FAR:
            count -= 1
            runs[count - 1, 1] = right
        else:
            runs[count, 0], runs[count, 1], runs[count, 2] = left, right, near
            count += 1
    return count


@compiled()
def _bound(side: Side, first: int, last: int, box: Any) -> None:
    """Fill ``box`` (6,) with the lower and the upper corner of some images."""
    for axis in range(3):
        lower = upper = side.exact[axis, first]
        for k in range(first + 1, last):
            lower = min(lower, side.exact[axis, k])
            upper = max(upper, side.exact[axis, k])
        box[axis], box[3 + axis] = lower, upper
