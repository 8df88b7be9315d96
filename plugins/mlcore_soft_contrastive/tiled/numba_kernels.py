"""Elementwise work on one tile of similarities, compiled for the CPU by numba.

Float32, one pass over the tile for each step, everything else in the first-level cache:
what a chain of torch operations spends on memory traffic is spent on arithmetic here.
numba compiles at first use (some seconds, then cached on disk) and needs no compiler.

A step takes what it finds into the state of the rows and, if the tile is mirrored, of the
columns: see :class:`mlcore_soft_contrastive.tiled.state.Backend`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mlcore_soft_contrastive.tiled.numba_pairs import (
    ONE,
    ZERO,
    Floats,
    Rule,
    Side,
    Span,
    compiled,
    exp2,
    largest_of,
    pair_weights,
    total,
)


@compiled("contract", "nsz")
def most_attracting(
    tile: Floats,
    span: Span,
    rows: Side,
    columns: Side,
    self_column: Any,
    rule: Rule,
) -> None:
    """Find the largest p."""
    bi, bj = tile.shape
    by_column = np.zeros(bj, np.float32)
    pieces = cut(span, bi, bj, rows, columns, rule)
    scratch = np.empty(5 * bj, np.float32)
    for k in range(len(pieces)):
        first, last, left, right, near = piece(pieces, k)
        if not near:
            continue
        out = scratch[: 5 * (right - left)].reshape(5, right - left)
        largest, p = by_column[left:right], out[1]
        for i in range(first, last):
            row, similarity = span.row + i, tile[i, left:right]
            own = self_column[row] - span.column - left
            pair_weights(row, span.column + left, rows, columns, own, rule, out)
            for j in range(len(p)):
                p[j] = out[0, j] * max(similarity[j], ZERO)
                largest[j] = max(largest[j], p[j])
            rows.attraction[row] = max(rows.attraction[row], largest_of(p))
    if span.mirrored:
        _raise(columns.attraction[span.column : span.column + bj], by_column)


@compiled("contract", "nsz")
def mining_extrema(
    tile: Floats,
    span: Span,
    rows: Side,
    columns: Side,
    self_column: Any,
    rule: Rule,
) -> None:
    """Find the largest n, and the largest (t - s) w+; ``attraction`` holds t by now."""
    bi, bj = tile.shape
    by_column = np.zeros((2, bj), np.float32)
    t_columns = columns.attraction[span.column : span.column + bj].astype(np.float32)
    pieces = cut(span, bi, bj, rows, columns, rule)
    scratch = np.empty(5 * bj, np.float32)
    n, shortfall = np.empty(bj, np.float32), np.zeros(bj, np.float32)
    for k in range(len(pieces)):
        first, last, left, right, near = piece(pieces, k)
        out = scratch[: 5 * (right - left)].reshape(5, right - left)
        largest, lacking = by_column[0, left:right], by_column[1, left:right]
        for i in range(first, last):
            row, similarity = span.row + i, tile[i, left:right]
            if near:
                own = self_column[row] - span.column - left
                pair_weights(row, span.column + left, rows, columns, own, rule, out)
                t, t_others = np.float32(rows.attraction[row]), t_columns[left:right]
                for j in range(len(similarity)):
                    s = max(similarity[j], ZERO)
                    n[j] = out[1, j] * s
                    shortfall[j] = (t - s) * out[0, j]
                    largest[j] = max(largest[j], n[j])
                    lacking[j] = max(lacking[j], (t_others[j] - s) * out[0, j])
                lacks = largest_of(shortfall[: right - left])
                rows.above[row] = max(rows.above[row], lacks)
            else:
                for j in range(len(similarity)):
                    n[j] = max(similarity[j], ZERO)
                    largest[j] = max(largest[j], n[j])
            rows.below[row] = max(rows.below[row], largest_of(n[: right - left]))
    if span.mirrored:
        _raise(columns.below[span.column : span.column + bj], by_column[0])
        _raise(columns.above[span.column : span.column + bj], by_column[1])


@compiled("contract", "nsz")
def most_repelling(
    tile: Floats,
    span: Span,
    rows: Side,
    columns: Side,
    self_column: Any,
    rule: Rule,
) -> Any:
    """Find the largest n; return whether any may be kept."""
    bi, bj = tile.shape
    by_row, by_column = np.zeros(bi, np.float32), np.zeros(bj, np.float32)
    pieces = cut(span, bi, bj, rows, columns, rule)
    scratch = np.empty(5 * bj, np.float32)
    for k in range(len(pieces)):
        first, last, left, right, near = piece(pieces, k)
        out = scratch[: 5 * (right - left)].reshape(5, right - left)
        largest, n = by_column[left:right], out[2]
        out[1] = ONE
        for i in range(first, last):
            row, similarity = span.row + i, tile[i, left:right]
            if near:
                own = self_column[row] - span.column - left
                pair_weights(row, span.column + left, rows, columns, own, rule, out)
            for j in range(len(n)):
                n[j] = out[1, j] * max(similarity[j], ZERO)
                largest[j] = max(largest[j], n[j])
            by_row[i] = max(by_row[i], largest_of(n))
    kept = _take_repelling(rows, span.row, by_row, rule)
    if span.mirrored:
        kept |= _take_repelling(columns, span.column, by_column, rule)
    return kept


@compiled()
def _take_repelling(side: Side, first: int, largest: Floats, rule: Rule) -> Any:
    """Raise the thresholds of attracting pairs; return whether a largest n may be kept."""
    kept = False
    for j in range(len(largest)):
        kept |= largest[j] > side.above[first + j]
        # In float64, so that a threshold is rounded once.
        below = np.float32(np.float64(largest[j]) + rule.epsilon)
        side.below[first + j] = max(side.below[first + j], below)
    return kept


@compiled("contract", "nsz")
def sums(
    tile: Floats,
    span: Span,
    rows: Side,
    columns: Side,
    self_column: Any,
    rule: Rule,
) -> None:
    """Sum over the kept attracting and over the kept repelling pairs."""
    bi, bj = tile.shape
    alpha, beta, base, plain = rule.alpha, rule.beta, rule.base, rule.plain
    pieces = cut(span, bi, bj, rows, columns, rule)
    scratch, of_piece = np.empty(5 * bj, np.float32), np.empty((2, bj), np.float32)
    for k in range(len(pieces)):
        first, last, left, right, near = piece(pieces, k)
        out = scratch[: 5 * (right - left)].reshape(5, right - left)
        attraction, repulsion = of_piece[0, : right - left], of_piece[1, : right - left]
        attraction[:], repulsion[:] = ZERO, ZERO
        below = columns.below[span.column + left : span.column + right]
        above = columns.above[span.column + left : span.column + right]
        for i in range(first, last):
            row, similarity = span.row + i, tile[i, left:right]
            row_below, row_above = rows.below[row], rows.above[row]
            if near:
                own = self_column[row] - span.column - left
                pair_weights(row, span.column + left, rows, columns, own, rule, out)
                if 0 <= own < len(similarity):
                    out[0, own] = ZERO  # its p < 0 is in no sum, and might overflow
                for j in range(len(similarity)):
                    s = max(similarity[j], ZERO)
                    p, n = out[0, j] * s, out[1, j] * s
                    attracting = p if plain else exp2(alpha * (base - p))
                    repelling = n if plain else exp2(beta * (n - base))
                    attracting *= out[2, j]
                    repelling *= out[3, j]
                    attraction[j] += attracting if p < below[j] else ZERO
                    repulsion[j] += repelling if n > above[j] else ZERO
                    out[2, j] = attracting if p < row_below else ZERO
                    out[3, j] = repelling if n > row_above else ZERO
                rows.sums[0, row] += total(out[2])
            else:
                for j in range(len(similarity)):
                    s = max(similarity[j], ZERO)
                    repelling = s if plain else exp2(beta * (s - base))
                    repulsion[j] += repelling if s > above[j] else ZERO
                    out[3, j] = repelling if s > row_above else ZERO
            rows.sums[1, row] += total(out[3])
        if span.mirrored:
            for j in range(len(repulsion)):
                columns.sums[0, span.column + left + j] += attraction[j]
                columns.sums[1, span.column + left + j] += repulsion[j]


@compiled("contract", "nsz")
def gradient(
    tile: Floats,
    span: Span,
    rows: Side,
    columns: Side,
    self_column: Any,
    rule: Rule,
) -> None:
    """Write the derivative by each similarity over the tile.

    ``attraction`` and ``repulsion`` hold each row's factors by now, see
    :meth:`mlcore_soft_contrastive.tiled.state.TileState.start_gradient`.
    """
    bi, bj = tile.shape
    both = ONE if span.symmetric else ZERO
    attractions = columns.attraction[span.column : span.column + bj].astype(np.float32) * both
    repulsions = columns.repulsion[span.column : span.column + bj].astype(np.float32) * both
    alpha, beta, base, plain = rule.alpha, rule.beta, rule.base, rule.plain
    pieces = cut(span, bi, bj, rows, columns, rule)
    scratch = np.empty(5 * bj, np.float32)
    for k in range(len(pieces)):
        first, last, left, right, near = piece(pieces, k)
        out = scratch[: 5 * (right - left)].reshape(5, right - left)
        attraction, repulsion = attractions[left:right], repulsions[left:right]
        below = columns.below[span.column + left : span.column + right]
        above = columns.above[span.column + left : span.column + right]
        for i in range(first, last):
            row, similarity = span.row + i, tile[i, left:right]
            row_below, row_above = rows.below[row], rows.above[row]
            row_attraction = np.float32(rows.attraction[row])
            row_repulsion = np.float32(rows.repulsion[row])
            own = self_column[row] - span.column - left
            if near:
                pair_weights(row, span.column + left, rows, columns, own, rule, out)
                if 0 <= own < len(similarity):
                    out[0, own] = ZERO  # its p < 0 is in no sum, and might overflow
                for j in range(len(similarity)):
                    s = max(similarity[j], ZERO)
                    p, n = out[0, j] * s, out[1, j] * s
                    factor_p = row_attraction if p < row_below else ZERO
                    factor_p += attraction[j] if p < below[j] else ZERO
                    factor_n = row_repulsion if n > row_above else ZERO
                    factor_n += repulsion[j] if n > above[j] else ZERO
                    attracting = out[0, j] * out[2, j] * factor_p
                    repelling = out[1, j] * out[3, j] * factor_n
                    if not plain:
                        attracting *= exp2(alpha * (base - p))
                        repelling *= exp2(beta * (n - base))
                    similarity[j] = repelling - attracting if s > ZERO else ZERO
            else:
                for j in range(len(similarity)):
                    s = max(similarity[j], ZERO)
                    factor = row_repulsion if s > row_above else ZERO
                    factor += repulsion[j] if s > above[j] else ZERO
                    if not plain:
                        factor *= exp2(beta * (s - base))
                    similarity[j] = factor if s > ZERO else ZERO
            if 0 <= own < len(similarity):
                similarity[own] = ZERO


@compiled()
def _raise(values: Floats, found: Floats) -> None:
    """Raise each value to what was found."""
    for j in range(len(values)):
        values[j] = max(values[j], found[j])


CHUNK = 32
"""Rows of a piece, and columns of a box."""
_SHORTEST_FAR = 64
"""Fewer far columns between near ones are treated as near: short loops are slow ones."""


@compiled()
def cut(span: Span, height: int, width: int, rows: Side, columns: Side, rule: Rule) -> Any:
    """Cut a tile into pieces that are near, or far as a whole.

    Args:
        span: Where the tile lies.
        height: Rows of the tile.
        width: Columns of the tile.
        rows: The rows of the matrix.
        columns: The columns of the matrix.
        rule: For the support.

    Returns:
        ``(pieces, 6)`` int64, chunk by chunk and from left to right: number of the chunk,
        first row in the tile, row after the last, first column, column after the last,
        whether it is near. See :func:`piece`.
    """
    chunks, groups = -(-height // CHUNK), -(-width // CHUNK)
    pieces = np.empty((chunks * groups, 6), np.int64)
    boxes, box, count = np.empty((groups, 6)), np.empty(6), 0
    if span.near:
        for group in range(groups):
            start, stop = group * CHUNK, min(width, (group + 1) * CHUNK)
            _bound(columns, span.column + start, span.column + stop, boxes[group])
    for chunk in range(chunks):
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
    """Return rows, columns and nearness of a piece, to be unpacked."""
    at = pieces[k]
    return at[1], at[2], at[3], at[4], at[5] > 0


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
