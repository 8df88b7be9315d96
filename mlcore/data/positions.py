"""Searches over positions in metres by KD-tree: never a table of all pairs."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

LOCAL_BLOCK = 100_000
"""Points looked up at once, which bounds the memory."""


REGION_GAP_M = 1e9
"""Between regions in :func:`apart_m`: more than any distance on the earth, or any radius."""


def apart_m(
    positions_m: NDArray[np.float64], region: NDArray[np.integer] | None
) -> NDArray[np.float64]:
    """Return positions whose distances are right across regions too, for searches.

    The region becomes one more coordinate, :data:`REGION_GAP_M` from region to region, so that
    distances within a region stay the same to the last bit. One region costs nothing.

    Args:
        positions_m: ``(N, 2)`` or ``(N, 3)``.
        region: ``(N,)`` codes; None for one region, whose positions are returned as they are.
    """
    if region is None:
        return positions_m
    return np.column_stack([positions_m, region * REGION_GAP_M])


def distances_m(
    first_m: NDArray[np.float64], second_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return distances of positions of :func:`apart_m`, broadcast; infinite across regions."""
    distance: NDArray[np.float64] = np.linalg.norm(first_m - second_m, axis=-1)
    return np.where(distance >= REGION_GAP_M / 2, np.inf, distance)


def wrap_rad(angle_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return angles wrapped to (-pi, pi]."""
    wrapped: NDArray[np.float64] = np.pi - np.mod(np.pi - angle_rad, 2 * np.pi)
    return wrapped


def heading_difference_rad(
    first_rad: NDArray[np.float64] | float, second_rad: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Return the angle between headings, broadcast, in [0, pi]."""
    turn = np.mod(np.asarray(first_rad) - np.asarray(second_rad), 2 * np.pi)
    difference: NDArray[np.float64] = np.minimum(turn, 2 * np.pi - turn)
    return difference


class PositionIndex:
    """Finds the images near a point, exactly, on raw UTM coordinates as well.

    The tree is built on first use, and again in a process that gets the index pickled; it holds
    about 50 bytes per image, without the positions, which are not copied.

    Args:
        positions_m: ``(N, 2)`` or ``(N, 3)`` float64, metres, with regions as of
            :func:`apart_m`; kept, not copied.
    """

    def __init__(self, positions_m: NDArray[np.float64]) -> None:
        self.positions_m = positions_m

    def __len__(self) -> int:
        return len(self.positions_m)

    def __getstate__(self) -> dict[str, Any]:
        return {"positions_m": self.positions_m}

    @cached_property
    def _tree(self) -> cKDTree:
        from scipy.spatial import cKDTree

        # Balancing costs more than it saves on millions of positions along streets.
        return cKDTree(self.positions_m, balanced_tree=False, compact_nodes=False)

    def within(self, point_m: NDArray[np.float64], radius_m: float) -> NDArray[np.int64]:
        """Return the rows, ascending, at a distance of at most ``radius_m`` from a point."""
        rows = np.array(
            self._tree.query_ball_point(point_m, _a_hair_more(radius_m)), dtype=np.int64
        )
        rows.sort()
        distance = np.linalg.norm(self.positions_m[rows] - point_m, axis=-1)
        near: NDArray[np.int64] = rows[distance <= radius_m]
        return near

    def all_within(self, point_m: NDArray[np.float64], radius_m: float) -> bool:
        """Return whether no row is farther than ``radius_m`` (and a hair) from a point."""
        inside = self._tree.query_ball_point(
            point_m, _a_hair_more(radius_m), return_length=True
        )
        return bool(inside == len(self))

    def nearest(self, points_m: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the row nearest to each point ``(M, 2 or 3)``."""
        return self.neighbours(points_m, 1)[:, 0]

    def neighbours(self, points_m: NDArray[np.float64], num: int) -> NDArray[np.int64]:
        """Return the rows ``(M, min(num, N))`` nearest to each point, nearest first."""
        ranks = np.arange(1, min(num, len(self)) + 1)
        blocks = [
            self._tree.query(points_m[start : start + LOCAL_BLOCK], ranks)[1]
            for start in range(0, len(points_m), LOCAL_BLOCK)
        ]
        if not blocks:
            return np.empty((0, len(ranks)), dtype=np.int64)
        return np.concatenate(blocks).astype(np.int64, copy=False)


def _a_hair_more(radius_m: float) -> float:
    """Return a radius that the tree's arithmetic on squares cannot fall short of."""
    return radius_m * (1 + 1e-9) + 1e-9
