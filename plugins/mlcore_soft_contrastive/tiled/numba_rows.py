"""Work on each image, compiled for the CPU by numba: its place on the curve, its length.

One pass over a row where a chain of torch operations makes one per operation.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlcore_soft_contrastive.tiled.numba_pairs import compiled


@compiled()
def curve_index(cells: Any, bits: int, index: Any) -> None:
    """Fill ``index`` with the place of ``cells`` ``(N, 2)`` int64 along a Hilbert curve."""
    for i in range(len(cells)):
        x, y, place = cells[i, 0], cells[i, 1], 0
        for bit in range(bits - 1, -1, -1):
            right, upper = (x >> bit) & 1, (y >> bit) & 1
            place = (place << 2) | ((3 * right) ^ upper)
            # Turn the quadrant so that the curve enters and leaves it at the same corners.
            side = (1 << bit) - 1
            # By arithmetic: a branch would be mispredicted every other time.
            flip = -(right & ~upper & 1)
            swap = upper - 1
            x, y = (x ^ flip) & side, (y ^ flip) & side
            difference = (x ^ y) & swap
            x, y = x ^ difference, y ^ difference
        index[i] = place


@compiled("contract", "reassoc")
def _dot(a: Any, b: Any) -> Any:
    total = a[0] * a.dtype.type(0)
    for k in range(len(a)):
        total += a[k] * b[k]
    return total


@compiled("contract")
def normalise(
    embeddings: Any, order: Any, values: Any, norm: Any, start: int, stop: int
) -> None:
    """Fill rows ``start:stop`` of ``values``, sorted and divided by ``norm`` ``(N, 1)``."""
    for i in range(start, stop):
        source, row = embeddings[order[i]], values[i]
        norm[i, 0] = np.sqrt(_dot(source, source))
        for k in range(len(row)):
            row[k] = source[k] / norm[i, 0]


@compiled("contract")
def chain(
    by_unit: Any, unit: Any, scale: Any, order: Any, out: Any, start: int, stop: int
) -> None:
    """Fill the rows ``order[start:stop]`` of ``out`` with the gradient by the embeddings.

    Args:
        by_unit: ``(N, D)``, sorted, the gradient by the unit rows.
        unit: ``(N, D)``, the unit rows.
        scale: ``(2, N)``, both of which each row was divided by.
        order: ``(N,)``, the row of ``out`` of each sorted row.
        out: ``(N, D)``.
        start: The first sorted row.
        stop: The one after the last.
    """
    for i in range(start, stop):
        gradient, row, to = by_unit[i], unit[i], out[order[i]]
        along = _dot(gradient, row)
        for k in range(len(row)):
            to[k] = (gradient[k] - along * row[k]) / scale[0, i] / scale[1, i]


@compiled("contract")
def lengths_across(by_unit: Any, unit: Any, lengths: Any, start: int, stop: int) -> None:
    """Fill ``lengths[start:stop]`` with those of ``by_unit`` across the unit rows."""
    for i in range(start, stop):
        gradient, row = by_unit[i], unit[i]
        along = _dot(gradient, row)
        lengths[i] = _length_of_difference(gradient, row, along)


@compiled("contract", "reassoc")
def _length_of_difference(a: Any, b: Any, factor: Any) -> Any:
    total = a[0] * a.dtype.type(0)
    for k in range(len(a)):
        difference = a[k] - factor * b[k]
        total += difference * difference
    return np.sqrt(total)
