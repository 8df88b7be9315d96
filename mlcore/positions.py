"""Searches over positions in metres by KD-tree: never a table of all pairs."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.spatial import cKDTree

LOCAL_BLOCK = 100_000
"""Points that are looked up at once, so that memory does not grow with their number."""


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


def distance_along_m(positions_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance ``(N,)`` walked along positions ``(N, 2 or 3)``, from 0."""
    steps = np.linalg.norm(np.diff(positions_m, axis=0), axis=1)
    walked: NDArray[np.float64] = np.concatenate([[0.0], np.cumsum(steps)])
    return walked[: len(positions_m)]


class PositionIndex:
    """Finds the images near a point.

    The tree is built on first use, and again in a process that gets the index pickled; it
    holds about 60 bytes an image.

    Args:
        positions_m: ``(N, 2)`` or ``(N, 3)`` float64, metres; kept, not copied.
    """

    def __init__(self, positions_m: NDArray[np.float64]) -> None:
        self.positions_m = positions_m

    def __len__(self) -> int:
        return len(self.positions_m)

    def __getstate__(self) -> dict[str, Any]:
        return {"positions_m": self.positions_m}

    @cached_property
    def _origin(self) -> NDArray[np.float64]:
        origin: NDArray[np.float64] = self.positions_m[0].copy()
        return origin

    @cached_property
    def _tree(self) -> cKDTree:
        from scipy.spatial import cKDTree

        # Balancing costs more than it saves on millions of positions along streets.
        return cKDTree(
            self.positions_m - self._origin, balanced_tree=False, compact_nodes=False
        )

    def within(self, point_m: NDArray[np.float64], radius_m: float) -> NDArray[np.int64]:
        """Return the rows, ascending, at a distance of at most ``radius_m`` from a point."""
        # The tree works with squares; a hair more, then decided as everywhere else.
        rows = np.array(
            self._tree.query_ball_point(point_m - self._origin, radius_m * (1 + 1e-9) + 1e-9),
            dtype=np.int64,
        )
        rows.sort()
        distance = np.linalg.norm(self.positions_m[rows] - point_m, axis=-1)
        near: NDArray[np.int64] = rows[distance <= radius_m]
        return near

    def nearest(self, points_m: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the row nearest to each point ``(M, 2 or 3)``."""
        blocks = [
            self._tree.query(points_m[start : start + LOCAL_BLOCK] - self._origin)[1]
            for start in range(0, len(points_m), LOCAL_BLOCK)
        ]
        return np.concatenate(blocks).astype(np.int64) if blocks else np.empty(0, np.int64)
