"""Elementwise work on one tile of similarities, compiled for the CPU by numba.

Float32, one pass over the tile for each step, everything else in the first-level cache:
what a chain of torch operations spends on memory traffic is spent on arithmetic here.
numba compiles at first use (some seconds, then cached on disk) and needs no compiler.

Arrays that a parallel loop writes to are bound to local names: numba 0.68 loses ``+=`` on
an element of an attribute there.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from mlcore_soft_contrastive.numba_weights import (
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

_CHUNK = 32  # rows that one thread takes at a time; fixed, so that sums are reproducible


@compiled("contract", "nsz", parallel=True)
def most_attracting(
    tile: Floats, span: Span, rows: Side, columns: Side, self_column: Any, rule: Rule
) -> None:
    """Raise ``attraction`` of rows (and columns) to the largest p of the tile."""
    bi, bj = tile.shape
    chunks = (bi + _CHUNK - 1) // _CHUNK
    row_t, column_t = rows.attraction, columns.attraction
    by_column = np.zeros((chunks, bj), np.float32)
    for chunk in numba.prange(chunks):
        out, p = np.empty((5, bj), np.float32), np.empty(bj, np.float32)
        for i in range(chunk * _CHUNK, min(bi, chunk * _CHUNK + _CHUNK)):
            row = span.row + i
            own = self_column[row] - span.column
            pair_weights(row, span.column, rows, columns, own, rule, out)
            for j in range(bj):
                p[j] = out[0, j] * max(tile[i, j], ZERO)
                by_column[chunk, j] = max(by_column[chunk, j], p[j])
            row_t[row] = max(row_t[row], largest_of(p))
    if span.mirrored:
        for chunk in range(chunks):
            for j in range(bj):
                column = span.column + j
                column_t[column] = max(column_t[column], by_column[chunk, j])


@compiled("contract", "nsz", parallel=True)
def mining_extrema(
    tile: Floats, span: Span, rows: Side, columns: Side, self_column: Any, rule: Rule
) -> None:
    """Raise ``below`` to the largest n, lower ``above`` to the least ``(s - t) w+``.

    ``attraction`` holds t, the row's largest p, by now.
    """
    bi, bj = tile.shape
    chunks = (bi + _CHUNK - 1) // _CHUNK
    row_t, row_below, row_above = rows.attraction, rows.below, rows.above
    largest, least = np.zeros((chunks, bj), np.float32), np.zeros((chunks, bj), np.float32)
    t_columns = columns.attraction[span.column : span.column + bj].astype(np.float32)
    for chunk in numba.prange(chunks):
        out = np.empty((5, bj), np.float32)
        n, shortfall = np.empty(bj, np.float32), np.zeros(bj, np.float32)
        for i in range(chunk * _CHUNK, min(bi, chunk * _CHUNK + _CHUNK)):
            row = span.row + i
            if span.near:
                own = self_column[row] - span.column
                pair_weights(row, span.column, rows, columns, own, rule, out)
                t = np.float32(row_t[row])
                for j in range(bj):
                    s = max(tile[i, j], ZERO)
                    n[j] = out[1, j] * s
                    shortfall[j] = (t - s) * out[0, j]
                    largest[chunk, j] = max(largest[chunk, j], n[j])
                    least[chunk, j] = max(least[chunk, j], (t_columns[j] - s) * out[0, j])
                row_above[row] = min(row_above[row], -largest_of(shortfall))
            else:
                for j in range(bj):
                    n[j] = max(tile[i, j], ZERO)
                    largest[chunk, j] = max(largest[chunk, j], n[j])
            row_below[row] = max(row_below[row], largest_of(n))
    if span.mirrored:
        for chunk in range(chunks):
            for j in range(bj):
                column = span.column + j
                columns.below[column] = max(columns.below[column], largest[chunk, j])
                columns.above[column] = min(columns.above[column], -least[chunk, j])


@compiled("contract", "nsz", parallel=True)
def sums(
    tile: Floats, span: Span, rows: Side, columns: Side, self_column: Any, rule: Rule
) -> None:
    """Add the tile's pairs to ``attraction`` and ``repulsion``."""
    bi, bj = tile.shape
    chunks = (bi + _CHUNK - 1) // _CHUNK
    row_attraction, row_repulsion = rows.attraction, rows.repulsion
    attraction, repulsion = (
        np.zeros((chunks, bj), np.float32),
        np.zeros((chunks, bj), np.float32),
    )
    below = columns.below[span.column : span.column + bj]
    above = columns.above[span.column : span.column + bj]
    alpha, beta, base, plain = rule.alpha, rule.beta, rule.base, rule.plain
    for chunk in numba.prange(chunks):
        out = np.empty((5, bj), np.float32)
        for i in range(chunk * _CHUNK, min(bi, chunk * _CHUNK + _CHUNK)):
            row = span.row + i
            row_below, row_above = rows.below[row], rows.above[row]
            if span.near:
                own = self_column[row] - span.column
                pair_weights(row, span.column, rows, columns, own, rule, out)
                for j in range(bj):
                    s = max(tile[i, j], ZERO)
                    p, n = out[0, j] * s, out[1, j] * s
                    attracting = p if plain else exp2(alpha * (base - p))
                    repelling = n if plain else exp2(beta * (n - base))
                    attracting *= out[2, j]
                    repelling *= out[3, j]
                    attraction[chunk, j] += attracting if p < below[j] else ZERO
                    repulsion[chunk, j] += repelling if n > above[j] else ZERO
                    out[2, j] = attracting if p < row_below else ZERO
                    out[3, j] = repelling if n > row_above else ZERO
                row_attraction[row] += total(out[2])
            else:
                for j in range(bj):
                    s = max(tile[i, j], ZERO)
                    repelling = s if plain else exp2(beta * (s - base))
                    repulsion[chunk, j] += repelling if s > above[j] else ZERO
                    out[3, j] = repelling if s > row_above else ZERO
            row_repulsion[row] += total(out[3])
    if span.mirrored:
        for chunk in range(chunks):
            for j in range(bj):
                columns.attraction[span.column + j] += attraction[chunk, j]
                columns.repulsion[span.column + j] += repulsion[chunk, j]


@compiled("contract", "nsz", parallel=True)
def gradient(
    tile: Floats, span: Span, rows: Side, columns: Side, self_column: Any, rule: Rule
) -> None:
    """Write H, the loss's derivative by each similarity, over the tile.

    ``attraction`` and ``repulsion`` hold each row's factors ``dL/dA exp(-alpha A)`` and
    ``dL/dR exp(-beta R)`` by now (plain: ``dL/dA`` and ``dL/dR``).
    """
    bi, bj = tile.shape
    chunks = (bi + _CHUNK - 1) // _CHUNK
    last = span.column + bj
    below, above = columns.below[span.column : last], columns.above[span.column : last]
    both = ONE if span.symmetric else ZERO
    attraction = columns.attraction[span.column : last].astype(np.float32) * both
    repulsion = columns.repulsion[span.column : last].astype(np.float32) * both
    alpha, beta, base, plain = rule.alpha, rule.beta, rule.base, rule.plain
    for chunk in numba.prange(chunks):
        out = np.empty((5, bj), np.float32)
        for i in range(chunk * _CHUNK, min(bi, chunk * _CHUNK + _CHUNK)):
            row = span.row + i
            row_below, row_above = rows.below[row], rows.above[row]
            row_attraction = np.float32(rows.attraction[row])
            row_repulsion = np.float32(rows.repulsion[row])
            own = self_column[row] - span.column
            if span.near:
                pair_weights(row, span.column, rows, columns, own, rule, out)
                for j in range(bj):
                    s = max(tile[i, j], ZERO)
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
                    tile[i, j] = repelling - attracting if s > ZERO else ZERO
            else:
                for j in range(bj):
                    s = max(tile[i, j], ZERO)
                    factor = row_repulsion if s > row_above else ZERO
                    factor += repulsion[j] if s > above[j] else ZERO
                    if not plain:
                        factor *= exp2(beta * (s - base))
                    tile[i, j] = factor if s > ZERO else ZERO
            if 0 <= own < bj:
                tile[i, own] = ZERO
