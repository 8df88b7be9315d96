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
from mlcore_soft_contrastive.tiled.numba_pieces import FAR, NEAR, UNDER, cut, piece

CALLED = "1913d2c2b62cd10d 649ca16ffa49b061"
"""Digests of the two modules above. numba keeps compiled code on disk until the file of a
function changes, not those of functions it calls; so this one changes with them, by a test."""


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
    t_rows = rows.attraction[span.row : span.row + bi]
    t_columns = columns.attraction[span.column : span.column + bj]
    column_bars = t_columns if span.mirrored else np.full(bj, np.float32(np.inf))
    pieces = cut(span, bi, bj, rows, columns, rule, t_rows, column_bars)
    scratch = np.empty(5 * bj, np.float32)
    for k in range(len(pieces)):
        first, last, left, right, kind = piece(pieces, k)
        if kind < NEAR:
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
        _raise(t_columns, by_column)


@compiled("contract", "nsz")
def mining_extrema(
    tile: Floats,
    span: Span,
    rows: Side,
    columns: Side,
    self_column: Any,
    rule: Rule,
) -> None:
    """Find the largest n, and the largest (t - s) w+; ``attraction`` holds t by now.

    As s >= 0, the second is below ``t w+``: a piece whose w+ are too small to raise it, of its
    rows and of its columns, is looked at only where ``n <= s`` may raise the first.
    """
    bi, bj = tile.shape
    here, there = slice(span.row, span.row + bi), slice(span.column, span.column + bj)
    t_columns = columns.attraction[there]
    by_column = np.full((2, bj), np.float32(np.inf))
    if span.mirrored:
        by_column[0], by_column[1] = columns.below[there], columns.above[there]
    row_bars = _least_weights(rows.above[here], rows.attraction[here])
    column_bars = _least_weights(by_column[1], t_columns)
    pieces = cut(span, bi, bj, rows, columns, rule, row_bars, column_bars)
    scratch = np.empty(5 * bj, np.float32)
    n, shortfall = np.empty(bj, np.float32), np.zeros(bj, np.float32)
    for k in range(len(pieces)):
        first, last, left, right, kind = piece(pieces, k)
        out = scratch[: 5 * (right - left)].reshape(5, right - left)
        largest, lacking = by_column[0, left:right], by_column[1, left:right]
        for i in range(first, last):
            row, similarity = span.row + i, tile[i, left:right]
            if kind == UNDER and not _any_above(similarity, rows.below[row], largest):
                continue
            if kind != FAR:
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
        _raise(columns.below[there], by_column[0])
        _raise(columns.above[there], by_column[1])


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
    none = np.empty(0, np.float32)
    pieces = cut(span, bi, bj, rows, columns, rule, none, none)
    scratch = np.empty(5 * bj, np.float32)
    for k in range(len(pieces)):
        first, last, left, right, kind = piece(pieces, k)
        out = scratch[: 5 * (right - left)].reshape(5, right - left)
        largest, n = by_column[left:right], out[2]
        out[1] = ONE
        for i in range(first, last):
            row, similarity = span.row + i, tile[i, left:right]
            if kind != FAR:
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
    none = np.empty(0, np.float32)
    pieces = cut(span, bi, bj, rows, columns, rule, none, none)
    scratch, of_piece = np.empty(5 * bj, np.float32), np.empty((2, bj), np.float32)
    for k in range(len(pieces)):
        first, last, left, right, kind = piece(pieces, k)
        out = scratch[: 5 * (right - left)].reshape(5, right - left)
        attraction, repulsion = of_piece[0, : right - left], of_piece[1, : right - left]
        attraction[:], repulsion[:] = ZERO, ZERO
        below = columns.below[span.column + left : span.column + right]
        above = columns.above[span.column + left : span.column + right]
        for i in range(first, last):
            row, similarity = span.row + i, tile[i, left:right]
            row_below, row_above = rows.below[row], rows.above[row]
            if kind != FAR:
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
    none = np.empty(0, np.float32)
    pieces = cut(span, bi, bj, rows, columns, rule, none, none)
    scratch = np.empty(5 * bj, np.float32)
    for k in range(len(pieces)):
        first, last, left, right, kind = piece(pieces, k)
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
            if kind != FAR:
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
def _least_weights(lacking: Floats, t: Floats) -> Any:
    """Return, of each image, the w+ up to which ``t w+`` cannot raise what is lacking."""
    bars = np.full(len(t), np.float32(np.inf))
    for j in range(len(t)):
        if t[j] > ZERO:
            bars[j] = lacking[j] / t[j]
    return bars


@compiled()
def _any_above(values: Floats, bar: Any, bars: Floats) -> Any:
    """Return whether any value is above ``bar``, or above its own of ``bars``."""
    found = np.int32(0)
    for j in range(len(values)):
        found |= np.int32(values[j] > min(bar, bars[j]))
    return found > 0


@compiled()
def _raise(values: Floats, found: Floats) -> None:
    """Raise each value to what was found."""
    for j in range(len(values)):
        values[j] = max(values[j], found[j])
