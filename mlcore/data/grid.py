"""Rows by the cells of a plane grid, for searches that find thousands of images."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

_MOST_CELLS = 2**60
_CELLS_PER_RADIUS = 4
"""Cells of which a plane disc holds most as a whole, so that few distances are computed."""
_MOST_COLUMNS = 256
_FEWEST_IN_GRID = 10_000
"""A tree of fewer images is as fast."""


class Grid:
    """Rows by the cell of a plane grid, column by column, ascending in each cell.

    Where thousands of images lie within a radius, one compiled pass over slices is many times
    as fast as the list of numbers that a tree returns. Coordinates and headings are copied in
    the order of the cells, so that a search reads memory in runs instead of a cache line per
    image.

    Memory: per image, 8 bytes for each coordinate and the heading, and 4 for its row (8 from
    2^31 images on); twice that while it is built.

    Args:
        positions_m: ``(N, 2)`` or more; the first two coordinates are in the plane.
        headings_rad: ``(N,)``, or None.
        cell_m: Side of a cell.
    """

    def __init__(
        self,
        positions_m: NDArray[np.float64],
        headings_rad: NDArray[np.float64] | None,
        cell_m: float,
    ) -> None:
        self._cell_m = cell_m
        self._corner_m = positions_m[:, :2].min(axis=0)
        column, row = self._cells(positions_m[:, 0], 0), self._cells(positions_m[:, 1], 1)
        self._num_rows = int(row.max()) + 1
        column *= self._num_rows
        column += row
        order = np.argsort(column, kind="stable")
        code = column[order]
        starts = np.flatnonzero(np.append(True, code[1:] != code[:-1]))
        self._codes, self._starts = code[starts], np.append(starts, len(code))
        # Half the memory, and sorted in half the time.
        self._order: NDArray[np.integer] = order.astype(
            np.int32 if len(order) < 2**31 else np.int64, copy=False
        )
        self._sorted_m = np.ascontiguousarray(positions_m[self._order].T)
        self._sorted_rad = None if headings_rad is None else headings_rad[self._order]

    @classmethod
    def of(
        cls,
        positions_m: NDArray[np.float64],
        headings_rad: NDArray[np.float64] | None,
        radius_m: float,
    ) -> Grid | None:
        """Return a grid for searches of about one radius.

        None where a tree does better or cells would be too many to number.
        """
        if len(positions_m) < _FEWEST_IN_GRID or radius_m <= 0:
            return None
        cell_m = radius_m / _CELLS_PER_RADIUS
        extent = np.ptp(positions_m[:, :2], axis=0) / cell_m + 2.0
        if np.prod(extent) >= _MOST_CELLS:
            return None
        return cls(positions_m, headings_rad, cell_m)

    def within(
        self,
        point_m: NDArray[np.float64],
        radius_m: float,
        heading_rad: float | None = None,
        limit_rad: float = math.pi,
    ) -> NDArray[np.integer] | None:
        """Return the rows within a radius, in any order; None if cells are very many.

        Args:
            point_m: Of as many coordinates as the positions.
            radius_m: Inclusive.
            heading_rad: None for images of any heading.
            limit_rad: Largest heading difference, inclusive.
        """
        slices = self._slices(point_m, radius_m)
        if slices is None:
            return None
        from mlcore.data import grid_search

        found: NDArray[np.integer] = grid_search.within(
            slices,
            self._order,
            self._sorted_m,
            None if heading_rad is None else self._sorted_rad,
            point_m,
            largest_square(radius_m),
            0.0 if heading_rad is None else heading_rad,
            limit_rad,
        )
        return found

    def _slices(
        self, point_m: NDArray[np.float64], radius_m: float
    ) -> NDArray[np.int64] | None:
        """Return, per column of cells, four bounds ``(C, 4)`` in the order of the cells.

        Between the first and the last lies every row within the radius; between the second and
        the third, no other row.
        """
        reach_m = np.array([[-1.0], [1.0]]) * a_hair_more(radius_m)
        (left, bottom), (right, top) = np.floor(
            (point_m[:2] + reach_m - self._corner_m) / self._cell_m
        ).tolist()
        if right - left >= _MOST_COLUMNS:
            return None
        bottom, top = max(bottom, 0.0), min(top, self._num_rows - 1.0)
        if bottom > top:
            return np.empty((0, 4), np.int64)
        numbers = np.arange(max(left, 0.0), right + 1.0)
        lowest, highest = self._inside(numbers, point_m, radius_m)
        lowest, highest = np.clip(lowest, bottom, top + 1), np.clip(highest, bottom, top + 1)
        every = np.ones_like(numbers)
        edges = np.stack([bottom * every, lowest, highest, (top + 1) * every], axis=1)
        codes = edges.astype(np.int64) + numbers.astype(np.int64)[:, None] * self._num_rows
        return self._starts[np.searchsorted(self._codes, codes)]

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


def a_hair_more(radius_m: float) -> float:
    """Return a radius that a tree's arithmetic on squares cannot fall short of."""
    return radius_m * (1 + 1e-9) + 1e-9


def largest_square(radius_m: float) -> float:
    """Return the largest number whose root, as rounded, is at most ``radius_m``.

    Roots are rounded correctly, hence never fall as numbers grow, so that comparing squares
    with this number decides as comparing distances with the radius does, without the roots.
    It lies within a few units of rounding of ``radius_m ** 2``.
    """
    square = radius_m * radius_m
    while math.sqrt(square) > radius_m:
        square = math.nextafter(square, 0.0)
    while math.sqrt(larger := math.nextafter(square, math.inf)) <= radius_m:
        square = larger
    return square
