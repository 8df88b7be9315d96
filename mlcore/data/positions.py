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
    turn = np.asarray(np.asarray(first_rad) - np.asarray(second_rad), np.float64)
    if (
        np.abs(turn).max(initial=0.0) <= 2 * np.pi
    ):  # of wrapped headings: mod, without a division
        turn = np.where(turn < 0, turn + 2 * np.pi, turn)
    else:
        turn = np.mod(turn, 2 * np.pi)
    difference: NDArray[np.float64] = np.minimum(turn, 2 * np.pi - turn)
    return difference


def headings_agree(
    first_rad: NDArray[np.float64], second_rad: NDArray[np.float64] | float, limit_rad: float
) -> NDArray[np.bool_]:
    """Return whether headings differ by at most a limit, broadcast.

    The same as by :func:`heading_difference_rad`, whose rounding is only waited for within a
    nanoradian of the limit.
    """
    turn = np.abs(first_rad - second_rad)
    if turn.max(initial=0.0) > 2 * np.pi:  # not wrapped
        return heading_difference_rad(first_rad, second_rad) <= limit_rad
    surely, maybe = (
        (turn <= limit_rad + hair) | (turn >= 2 * np.pi - limit_rad - hair)
        for hair in (-1e-9, 1e-9)
    )
    if np.count_nonzero(surely) == np.count_nonzero(maybe):
        return surely
    return heading_difference_rad(first_rad, second_rad) <= limit_rad


class PositionIndex:
    """Finds the images near a point, exactly, on raw UTM coordinates as well.

    Tree and grid are built on first use, and again in a process that gets the index pickled;
    they hold about 50 and 24 bytes per image, besides the positions.

    Args:
        positions_m: ``(N, 2)`` or ``(N, 3)`` float64, metres, with regions as of
            :func:`apart_m`; kept, not copied.
    """

    def __init__(self, positions_m: NDArray[np.float64]) -> None:
        self.positions_m = positions_m
        self._grid: _Grid | None = None

    def __len__(self) -> int:
        return len(self.positions_m)

    def __getstate__(self) -> dict[str, Any]:
        return {"positions_m": self.positions_m, "_grid": None}

    @cached_property
    def _tree(self) -> cKDTree:
        from scipy.spatial import cKDTree

        # Balancing costs more than it saves on millions of positions along streets.
        return cKDTree(self.positions_m, balanced_tree=False, compact_nodes=False)

    def within(self, point_m: NDArray[np.float64], radius_m: float) -> NDArray[np.int64]:
        """Return the rows, ascending, at a distance of at most ``radius_m`` from a point."""
        near = self.within_unsorted(point_m, radius_m)
        near.sort()
        return near.astype(np.int64, copy=False)

    def within_unsorted(
        self, point_m: NDArray[np.float64], radius_m: float
    ) -> NDArray[np.integer]:
        """Do as :meth:`within`, in any order and any integers, which saves half the time."""
        if self._grid is None:
            self._grid = _Grid.of(self.positions_m, radius_m)
        near = None if self._grid is None else self._grid.within(point_m, radius_m)
        if near is None:
            found = self._tree.query_ball_point(point_m, _a_hair_more(radius_m))
            rows = np.array(found, dtype=np.int64)
            near = rows[_distances(self.positions_m[rows].T, point_m) <= radius_m]
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


_MOST_CELLS = 2**60
_CELLS_PER_RADIUS = 4
"""Cells of which a plane disc holds most as a whole, so that few distances are computed."""
_MOST_COLUMNS = 256
_FEWEST_IN_GRID = 10_000
"""A tree of fewer images is as fast."""


class _Grid:
    """Rows by the cell of a plane grid, column by column, ascending in each cell.

    Where thousands of images lie within a radius, copying slices is several times as fast as
    the list of numbers that a tree returns.

    Args:
        positions_m: ``(N, 2)`` or more; the first two coordinates are in the plane.
        cell_m: Side of a cell.
    """

    def __init__(self, positions_m: NDArray[np.float64], cell_m: float) -> None:
        self._cell_m = cell_m
        self._corner_m = positions_m[:, :2].min(axis=0)
        column, row = self._cells(positions_m[:, 0], 0), self._cells(positions_m[:, 1], 1)
        self._num_rows = int(row.max()) + 1
        column *= self._num_rows
        column += row
        order = np.argsort(column, kind="stable")
        # Half the memory, and sorted in half the time.
        self._order: NDArray[np.integer] = order
        if len(order) < 2**31:
            self._order = order.astype(np.int32)
        code = column[order]
        starts = np.flatnonzero(np.append(True, code[1:] != code[:-1]))
        self._codes, self._starts = code[starts], np.append(starts, len(code))
        self._sorted_m = np.ascontiguousarray(positions_m[order].T)

    @classmethod
    def of(cls, positions_m: NDArray[np.float64], radius_m: float) -> _Grid | None:
        """Return a grid for searches of about one radius.

        None where a tree does better or cells would be too many to number.
        """
        if len(positions_m) < _FEWEST_IN_GRID or radius_m <= 0:
            return None
        cell_m = radius_m / _CELLS_PER_RADIUS
        extent = np.ptp(positions_m[:, :2], axis=0) / cell_m + 2.0
        return cls(positions_m, cell_m) if np.prod(extent) < _MOST_CELLS else None

    def within(
        self, point_m: NDArray[np.float64], radius_m: float
    ) -> NDArray[np.integer] | None:
        """Return the rows within a radius, cell by cell; None if cells are very many."""
        reach_m = np.array([[-1.0], [1.0]]) * _a_hair_more(radius_m)
        (left, bottom), (right, top) = np.floor(
            (point_m[:2] + reach_m - self._corner_m) / self._cell_m
        ).tolist()
        if right - left >= _MOST_COLUMNS:
            return None
        bottom, top = max(bottom, 0.0), min(top, self._num_rows - 1.0)
        if bottom > top:
            return self._order[:0]
        numbers = np.arange(max(left, 0.0), right + 1.0)
        # In each column: cells to look at, cells that lie inside as a whole, cells to look at.
        lowest, highest = self._inside(numbers, point_m, radius_m)
        lowest, highest = np.clip(lowest, bottom, top + 1), np.clip(highest, bottom, top + 1)
        every = np.ones_like(numbers)
        edges = np.stack([bottom * every, lowest, highest, (top + 1) * every], axis=1)
        codes = edges.astype(np.int64) + numbers.astype(np.int64)[:, None] * self._num_rows
        starts = self._starts[np.searchsorted(self._codes, codes)]
        parts: list[NDArray[np.integer]] = [self._order[:0]]
        for first, inside, outside, last in starts.tolist():
            for low, high in ((first, inside), (outside, last)):
                if low < high:
                    distance = _distances(self._sorted_m[:, low:high], point_m)
                    parts.append(np.compress(distance <= radius_m, self._order[low:high]))
            parts.append(self._order[inside:outside])
        return np.concatenate(parts)

    def _inside(
        self, columns: NDArray[np.float64], point_m: NDArray[np.float64], radius_m: float
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return for each column the first cell wholly within a radius, and the next after it.

        Equal, if there is none, as where a third coordinate counts too. A cell lies within the
        radius if its corners do; a micrometre is more than the rounding of any coordinate.
        """
        if len(point_m) > 2:
            return np.zeros_like(columns), np.zeros_like(columns)
        x_m, y_m = point_m - self._corner_m
        left_m = columns * self._cell_m - x_m
        across_m = np.maximum(np.abs(left_m), np.abs(left_m + self._cell_m))
        half_m = np.sqrt(np.maximum(radius_m**2 - across_m**2, 0.0)) - 1e-6
        first = np.ceil((y_m - half_m) / self._cell_m)
        return first, np.maximum(np.floor((y_m + half_m) / self._cell_m), first)

    def _cells(self, values_m: NDArray[np.float64], axis: int) -> NDArray[np.int64]:
        cells: NDArray[np.int64] = np.floor(
            (values_m - self._corner_m[axis]) / self._cell_m
        ).astype(np.int64)
        return cells


def _distances(
    columns_m: NDArray[np.float64], point_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the distances of positions ``(2 or more, N)``, squares added axis by axis."""
    squared = np.square(columns_m[0] - point_m[0])
    for column, coordinate in zip(columns_m[1:], point_m[1:], strict=True):
        squared += np.square(column - coordinate)
    distance: NDArray[np.float64] = np.sqrt(squared, out=squared)
    return distance


def _a_hair_more(radius_m: float) -> float:
    """Return a radius that the tree's arithmetic on squares cannot fall short of."""
    return radius_m * (1 + 1e-9) + 1e-9
