"""Weights of the pairs of one row of a tile, compiled for the CPU by numba.

Fused multiply-add is allowed to the compiler, reordering of sums is not, except where a
function says so: positions are held as a sum of two floats, which reordering would undo.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

SIGMOID, LINEAR, TANH, STEP = range(4)

_LOG2_E = np.float32(1.4426950408889634)
ZERO, _HALF, ONE = np.float32(0.0), np.float32(0.5), np.float32(1.0)
_LARGEST_EXPONENT = np.float32(80.0)
"""Of two. A million of 2^-80 do not change a one; and what they are multiplied by, weights and
gradients, leaves no number too small to be normal, with which products take five times as
long."""
# 2^f for |f| <= 1/2, interpolated at Chebyshev points: relative error below 3e-9.
_C1, _C2, _C3, _C4, _C5, _C6 = (
    np.float32(c)
    for c in (
        6.93147207e-1,
        2.40226509e-1,
        5.55032723e-2,
        9.61805668e-3,
        1.34004282e-3,
        1.54614447e-4,
    )
)


class Side(NamedTuple):
    """The rows, or the columns, of the whole matrix, along the space-filling curve.

    Attributes:
        high: ``(3, N)`` float32 coordinates in metres, centred.
        low: ``(3, N)`` float32, what is missing in ``high``.
        exact: ``(3, N)`` float64, as given: centring would round them.
        headings: ``(N,)`` float64 in [0, 2 pi); empty if they do not matter.
        below: ``(N,)`` float32, as in :class:`mlcore_soft_contrastive.tiled.state.Side`;
            ``above``, ``attraction``, ``repulsion`` and ``sums`` likewise.
    """

    high: Floats
    low: Floats
    exact: Doubles
    headings: Doubles
    below: Floats
    above: Floats
    attraction: Floats
    repulsion: Floats
    sums: Doubles


class Rule(NamedTuple):
    """How distance becomes weight, and weights a loss; compiled in as arguments.

    Attributes:
        kind: Which influence function.
        steepness: Of a sigmoid, times log2(e).
        cutoff_m: Cutoff of the influence function.
        support_m: A pair attracts if closer.
        repulsion_start_m: A pair repels if farther.
        heading_limit_rad: Largest heading difference inside the support.
        view_rad: Field of view, whose shared part is a factor of the weight; 0 for none.
        support_rad: A pair attracts only if its headings differ by less.
        edge_m: Within this of support or repulsion start, float64 decides.
        alpha: Times log2(e).
        beta: Times log2(e).
        base: The lambda of the formula.
        epsilon: Mining margin.
        plain: Whether pairs are summed without exponential.
    """

    kind: int
    steepness: np.float32
    cutoff_m: float
    support_m: float
    repulsion_start_m: float
    heading_limit_rad: float
    view_rad: float
    support_rad: float
    edge_m: float
    alpha: np.float32
    beta: np.float32
    base: np.float32
    epsilon: float
    plain: bool


class Span(NamedTuple):
    """Where a tile lies in the matrix, and what kind of tile it is.

    Attributes:
        row: First row.
        column: First column.
        near: Whether some pair may lie inside the support.
        symmetric: Whether rows and columns are the same images.
        mirrored: Whether the tile also stands for its transpose.
    """

    row: int
    column: int
    near: bool
    symmetric: bool
    mirrored: bool


def compiled(*flags: str) -> Callable[[F], F]:
    """Return numba's decorator with a type that keeps the function's own."""
    # With Python's error model, every division tests for zero, one number at a time.
    decorate = numba.njit(cache=True, error_model="numpy", fastmath=set(flags), nogil=True)
    return cast("Callable[[F], F]", decorate)


@compiled("contract", "nsz")
def exp2(z: np.float32) -> Any:
    """Return 2^z for z <= 126; below -80, 2^-80."""
    z = max(z, -_LARGEST_EXPONENT)
    whole = np.floor(z + _HALF)
    f = z - whole
    fraction = (((((_C6 * f + _C5) * f + _C4) * f + _C3) * f + _C2) * f + _C1) * f + ONE
    bits = (np.int32(whole) + np.int32(127)) << np.int32(23)
    return fraction * np.int32(bits).view(np.float32)


@compiled("reassoc", "contract", "nsz")
def total(values: Floats) -> Any:
    """Return the sum, added up in whatever order is fastest."""
    result = ZERO
    for j in range(len(values)):
        result += values[j]
    return result


@compiled()
def largest_of(values: Floats) -> Any:
    """Return the largest value, or 0."""
    # As integers, floats above 0 keep their order and those below stay below; and LLVM
    # makes vector instructions of an integer maximum only.
    result, bits = np.int32(0), values.view(np.int32)
    for j in range(len(bits)):
        result = max(result, bits[j])
    return np.int32(result).view(np.float32)


@compiled("contract", "nsz")
def _weigh(d: Floats, w: Floats, rule: Rule) -> None:
    """Fill ``w`` with the attraction weight of the distances ``d``."""
    cutoff, steepness = np.float32(rule.cutoff_m), rule.steepness
    if rule.kind == SIGMOID:
        for j in range(len(d)):
            z = min((d[j] - cutoff) * steepness, _LARGEST_EXPONENT)
            w[j] = ONE / (ONE + exp2(z))
    elif rule.kind == LINEAR:
        for j in range(len(d)):
            w[j] = max(ZERO, ONE - d[j] / cutoff)
    elif rule.kind == TANH:
        # 1 - tanh(u) = 2 / (1 + e^2u), without the cancellation.
        scale = (_LOG2_E + _LOG2_E) / cutoff
        for j in range(len(d)):
            w[j] = (ONE + ONE) / (ONE + exp2(min(d[j] * scale, _LARGEST_EXPONENT)))
    else:
        for j in range(len(d)):
            w[j] = ONE if d[j] < cutoff else ZERO


@compiled()
def weigh_exactly(d: float, rule: Rule) -> Any:
    """Return the attraction weight of one float64 distance."""
    if rule.kind == SIGMOID:
        z = min((d - rule.cutoff_m) * np.float64(rule.steepness), np.float64(_LARGEST_EXPONENT))
        return 1.0 / (1.0 + 2.0**z)
    if rule.kind == LINEAR:
        return max(0.0, 1.0 - d / rule.cutoff_m)
    if rule.kind == TANH:
        return 1.0 - np.tanh(d / rule.cutoff_m)
    return 1.0 if d < rule.cutoff_m else 0.0


@compiled("contract", "nsz")
def pair_weights(
    i: int, first: int, rows: Side, columns: Side, self_column: int, rule: Rule, out: Floats
) -> None:
    """Fill ``out`` (5, bj): w+, w-, attracts, repels (0 or 1), scratch, of row ``i``."""
    w_plus, w_minus, attracts, repels, d = out[0], out[1], out[2], out[3], out[4]
    size = len(d)
    support, start = np.float32(rule.support_m), np.float32(rule.repulsion_start_m)
    xh, yh, zh = columns.high[0, first:], columns.high[1, first:], columns.high[2, first:]
    xl, yl, zl = columns.low[0, first:], columns.low[1, first:], columns.low[2, first:]
    x, y, z = rows.high[0, i], rows.high[1, i], rows.high[2, i]
    x_rest, y_rest, z_rest = rows.low[0, i], rows.low[1, i], rows.low[2, i]
    for j in range(size):
        dx = (x - xh[j]) + (x_rest - xl[j])
        dy = (y - yh[j]) + (y_rest - yl[j])
        dz = (z - zh[j]) + (z_rest - zl[j])
        d[j] = np.sqrt(dx * dx + dy * dy + dz * dz)
    _weigh(d, w_plus, rule)
    edge = np.float32(rule.edge_m)
    on_edge = np.int32(0)
    for j in range(size):
        near = d[j] < support
        w_plus[j] = w_plus[j] if near else ZERO
        attracts[j] = ONE if near else ZERO
        repels[j] = ONE if (d[j] > start) | (d[j] >= support) else ZERO
        on_edge |= np.int32((abs(d[j] - support) < edge) | (abs(d[j] - start) < edge))
    if on_edge > 0:
        for j in range(size):
            if abs(d[j] - support) < edge or abs(d[j] - start) < edge:
                _decide_exactly(i, first + j, j, rows, columns, rule, out)
    if rule.view_rad > 0.0:
        _share_view(i, first, rows, columns, rule, out)
    for j in range(size):
        w_minus[j] = ONE - w_plus[j]
    if len(rows.headings) > 0:
        _exclude_by_heading(i, first, rows, columns, rule, out)
    if 0 <= self_column < size:
        w_plus[self_column] -= ONE
        attracts[self_column] = ZERO


@compiled()
def _decide_exactly(
    i: int, column: int, j: int, rows: Side, columns: Side, rule: Rule, out: Floats
) -> None:
    """Recompute pair (i, column) from the float64 positions."""
    dx = rows.exact[0, i] - columns.exact[0, column]
    dy = rows.exact[1, i] - columns.exact[1, column]
    dz = rows.exact[2, i] - columns.exact[2, column]
    d = np.sqrt(dx * dx + dy * dy + dz * dz)
    near = d < rule.support_m
    out[0, j] = np.float32(weigh_exactly(d, rule)) if near else ZERO
    out[2, j] = ONE if near else ZERO
    out[3, j] = ONE if d > rule.repulsion_start_m or not near else ZERO


@compiled()
def _share_view(i: int, first: int, rows: Side, columns: Side, rule: Rule, out: Floats) -> None:
    """Multiply by the shared part of the field of view; without any, pairs repel wholly."""
    heading = rows.headings[i]
    for j in range(out.shape[1]):
        turn = abs(heading - columns.headings[first + j])
        turn = min(turn, 2.0 * np.pi - turn)
        shared = turn < rule.support_rad
        out[0, j] *= np.float32(1.0 - turn / rule.view_rad) if shared else ZERO
        out[2, j] = out[2, j] if shared else ZERO
        out[3, j] = out[3, j] if shared else ONE


@compiled()
def _exclude_by_heading(
    i: int, first: int, rows: Side, columns: Side, rule: Rule, out: Floats
) -> None:
    """Give pairs inside the support that look different ways no weight at all."""
    heading = rows.headings[i]
    for j in range(out.shape[1]):
        turn = abs(heading - columns.headings[first + j])
        differs = min(turn, 2.0 * np.pi - turn) > rule.heading_limit_rad
        keep = ZERO if differs and out[2, j] > ZERO else ONE
        for k in range(4):
            out[k, j] *= keep
