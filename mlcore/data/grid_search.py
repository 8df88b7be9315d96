"""Searches in the slices of a grid and in groups of images, compiled for the CPU by numba.

Without ``fastmath``, so that every sum and product is rounded as numpy rounds it: whether an
image exactly at a radius is near must not depend on who asks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar, cast

import numba
import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])

_TURN = 2 * math.pi


def _compiled(function: F) -> F:
    """Return numba's decorator with a type that keeps the function's own.

    Without a folder that numba can write to, each process compiles anew.
    """
    decorate = partial(numba.njit, error_model="numpy", nogil=True)
    try:
        return cast("F", decorate(cache=True)(function))
    except RuntimeError:  # no folder for the cache
        return cast("F", decorate()(function))


@_compiled
def _square(positions_m: NDArray[np.float64], k: int, point_m: NDArray[np.float64]) -> Any:
    """Return the squared distance of column ``k``, added up axis by axis."""
    x, y = positions_m[0, k] - point_m[0], positions_m[1, k] - point_m[1]
    total = x * x + y * y
    for axis in range(2, len(positions_m)):
        z = positions_m[axis, k] - point_m[axis]
        total += z * z
    return total


@_compiled
def _turned(first_rad: float, second_rad: float) -> Any:
    """Do as :func:`mlcore.data.positions.heading_difference_rad`, of two numbers."""
    turn = first_rad - second_rad
    if not -_TURN <= turn <= _TURN:
        turn %= _TURN
    turn += _TURN * (turn < 0)  # no branch: signs alternate
    return min(turn, _TURN - turn)


@_compiled
def within(
    slices: NDArray[np.int64],
    order: NDArray[np.integer],
    sorted_m: NDArray[np.float64],
    sorted_rad: NDArray[np.float64] | None,
    point_m: NDArray[np.float64],
    largest_square: float,
    heading_rad: float,
    limit_rad: float,
) -> NDArray[np.integer]:
    """Return ``order`` where images are near a point and, given headings, look its way.

    Args:
        slices: ``(C, 4)`` bounds, all within the radius between the second and the third.
        order: ``(N,)`` rows.
        sorted_m: ``(2 or more, N)`` coordinates of those rows.
        sorted_rad: ``(N,)`` headings of those rows; None for images of any heading, for which
            numba compiles a version without the comparison.
        point_m: As many coordinates.
        largest_square: Near up to this squared distance, in square metres.
        heading_rad: Heading to look for.
        limit_rad: Largest difference from it.
    """
    found = np.empty((slices[:, 3] - slices[:, 0]).sum(), order.dtype)
    count = 0
    for c in range(len(slices)):
        for edge in (0, 2):
            for k in range(slices[c, edge], slices[c, edge + 1]):
                found[count] = order[k]
                # All tests of every row: no branch that the processor may guess wrong.
                near = _square(sorted_m, k, point_m) <= largest_square
                if sorted_rad is not None:
                    near &= _turned(sorted_rad[k], heading_rad) <= limit_rad
                count += near
        for k in range(slices[c, 1], slices[c, 2]):
            found[count] = order[k]
            if sorted_rad is not None:
                count += _turned(sorted_rad[k], heading_rad) <= limit_rad
            else:
                count += 1
    return found[:count]


@_compiled
def have_near(
    starts: NDArray[np.int64],
    grouped_m: NDArray[np.float64],
    grouped_rad: NDArray[np.float64],
    largest_square: float,
    limit_rad: float,
    num: int,
) -> NDArray[np.bool_]:
    """Return which images have ``num`` others of their group near them that look alike.

    An image is compared with others only until as many are found.

    Args:
        starts: ``(G + 1,)`` where each group starts, and the last one ends.
        grouped_m: ``(2 or more, N)`` coordinates, group by group.
        grouped_rad: ``(N,)`` headings.
        largest_square: Near up to this squared distance.
        limit_rad: Largest heading difference.
        num: Near images wanted.
    """
    enough = np.zeros(grouped_m.shape[1], np.bool_)
    for g in range(len(starts) - 1):
        for k in range(starts[g], starts[g + 1]):
            missing = num + 1  # it finds itself too
            for other in range(starts[g], starts[g + 1]):
                near = _square(grouped_m, other, grouped_m[:, k]) <= largest_square
                missing -= near & (_turned(grouped_rad[other], grouped_rad[k]) <= limit_rad)
                if not missing:
                    enough[k] = True
                    break
    return enough
