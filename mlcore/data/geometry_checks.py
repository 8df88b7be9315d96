"""Find impossible positions, by methods that outliers do not affect.

Every function takes columns and returns the rows in question; what they mean for a result is
decided in :mod:`mlcore.data.soundness`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

LARGEST_SPEED_M_PER_S = 100.0
"""360 km/h: faster than any car or tram with a camera."""
LARGEST_JUMP_M = 25.0
"""The widest radius that results are evaluated at: a shorter jump leaves an image where it
counts, and corrections of a receiver are shorter."""
LARGEST_CROWD = 24
"""Views of one panorama in Pittsburgh, the most that a published set has on one point."""
_SMALL_CROWD = 10
"""A component of fewer rows is a few wrong positions, not a visited place."""
_LEAST_LINK_M, _LARGEST_LINK_M = 250.0, 5_000.0
_CELLS_PER_LINK = 4
_SEPARATE_M = 10_000.0
_METRE_STEPS = (1000.0, 500.0, 200.0, 100.0, 50.0, 20.0, 10.0, 5.0)
_DEGREE_STEPS = (1.0, 0.1, 0.01, 0.001, 0.0001)
"""0.0001 degrees of latitude are 11 m."""
_SAMPLED = 20_000


class Clusters(NamedTuple):
    """Rows apart from the rest.

    Attributes:
        far: ``(N,)``, rows that lie alone, far from any place that was visited.
        separate: ``(N,)``, rows of a large group that is kilometres from the largest one.
        distance_m: Largest distance of a row of either kind to the rest.
    """

    far: Mask
    separate: Mask
    distance_m: float


def find_clusters(positions_m: Floats) -> Clusters:
    """Return the rows that lie apart from the rest.

    Rows are linked where a chain of steps of at most ``link`` metres joins them. ``link``
    starts at 250 m, is doubled until half of the rows hang together (two cities never do: it
    stops at 5 km), and is then raised to half the width of the largest component: a far row
    is one that lies farther from the rest than half the width of the rest.

    Args:
        positions_m: ``(N, 2)`` or ``(N, 3)``, finite.
    """
    size = len(positions_m)
    none = np.zeros(size, bool)
    if size < _SMALL_CROWD:
        return Clusters(none, none, 0.0)
    plane_m = positions_m[:, :2] - positions_m[0, :2]
    link_m = _LEAST_LINK_M
    found = _components(plane_m, link_m)
    while found.sizes.max() < size / 2 and link_m < _LARGEST_LINK_M and len(found.sizes) > 1:
        link_m *= 2
        found = _components(plane_m, link_m)
    while len(found.sizes) > 1 and found.width_m(int(found.sizes.argmax())) / 2 > link_m:
        link_m = found.width_m(int(found.sizes.argmax())) / 2
        found = _components(plane_m, link_m)
    if len(found.sizes) == 1:
        return Clusters(none, none, 0.0)
    is_small = (found.sizes < _SMALL_CROWD) & (found.sizes * 5 <= size)
    gap_m = found.gaps_m(is_small)
    largest = int(found.sizes.argmax())
    is_separate = ~is_small & (gap_m > _SEPARATE_M)
    is_separate[largest] = False
    apart = is_small | is_separate
    return Clusters(
        far=is_small[found.component],
        separate=is_separate[found.component],
        distance_m=float(gap_m[apart].max(initial=0.0)),
    )


class _Components(NamedTuple):
    """Occupied cells of a grid, joined where they are near.

    Attributes:
        component: ``(N,)``, of each row.
        sizes: Rows of each component.
        cells_m: ``(C, 2)``, the middle of each cell.
        of_cell: ``(C,)``, the component of each cell.
    """

    component: NDArray[np.integer]
    sizes: NDArray[np.integer]
    cells_m: Floats
    of_cell: NDArray[np.integer]

    def width_m(self, component: int) -> float:
        """Return the longer side of the box around a component."""
        cells = self.cells_m[self.of_cell == component]
        return float(np.ptp(cells, axis=0).max())

    def gaps_m(self, is_small: Mask) -> Floats:
        """Return each component's distance to the rest of the large ones."""
        from scipy.spatial import cKDTree

        gaps = np.full(len(self.sizes), np.inf)
        cell_is_large = ~is_small[self.of_cell]
        if is_small.any() and cell_is_large.any():
            distance, _ = cKDTree(self.cells_m[cell_is_large]).query(self.cells_m)
            np.minimum.at(gaps, self.of_cell, distance)
        for component in np.flatnonzero(~is_small):
            mine = self.of_cell == component
            others = cell_is_large & ~mine
            if others.any():
                distance, _ = cKDTree(self.cells_m[others]).query(self.cells_m[mine])
                gaps[component] = np.min(distance)
            else:
                gaps[component] = 0.0
        return gaps


def _components(plane_m: Floats, link_m: float) -> _Components:
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    cell_m = link_m / _CELLS_PER_LINK
    cells = np.floor(plane_m / cell_m).astype(np.int64)
    # One number for each cell: the earth has fewer than 2^31 of the smallest either way.
    codes, of_row = np.unique(cells[:, 0] * 2**32 + cells[:, 1] + 2**31, return_inverse=True)
    first = np.empty(len(codes), np.int64)
    first[of_row] = np.arange(len(of_row))
    middles_m = np.asarray((cells[first] + 0.5) * cell_m, np.float64)
    # Rows in these cells are at most link and two halves of a diagonal apart.
    pairs = cKDTree(middles_m).query_pairs(link_m, output_type="ndarray")
    ones = np.ones(len(pairs), bool)
    graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(len(codes),) * 2)
    _, of_cell = connected_components(graph, directed=False)
    component = of_cell[of_row]
    return _Components(component, np.bincount(component), middles_m, of_cell)


def too_fast(positions_m: Floats, times_s: Floats, traversal: NDArray[np.integer]) -> Mask:
    """Return the rows ``(N,)`` that cannot be reached in time from the previous row.

    Args:
        positions_m: ``(N, 2)`` or ``(N, 3)``.
        times_s: ``(N,)``, NaN where it is not known.
        traversal: ``(N,)`` codes; rows of one traversal are compared in the order of time.
    """
    order = np.lexsort((times_s, traversal))
    step_m = np.linalg.norm(np.diff(positions_m[order], axis=0), axis=1)
    step_s = np.diff(times_s[order])
    same = np.diff(traversal[order]) == 0
    # Rows of one instant are cameras side by side, or a clock that counts whole seconds.
    is_fast = (step_s > 0) & (step_m > LARGEST_SPEED_M_PER_S * step_s)
    bad = same & is_fast & (step_m > LARGEST_JUMP_M)
    fast = np.zeros(len(order), bool)
    fast[order[1:][bad]] = True
    return fast


def crowded(positions_m: Floats, traversal: NDArray[np.integer]) -> Mask:
    """Return the rows ``(N,)`` of which more than 24 share one point exactly.

    A stationary vehicle is an exception: its rows are consecutive, and the rows before and
    after are near.
    """
    is_crowded = np.zeros(len(positions_m), bool)
    if len(positions_m) <= LARGEST_CROWD:
        return is_crowded
    _, of_row, counts = np.unique(
        np.ascontiguousarray(positions_m).view([("", np.float64)] * positions_m.shape[1]),
        return_inverse=True,
        return_counts=True,
    )
    of_row = of_row.ravel()
    for point in np.flatnonzero(counts > LARGEST_CROWD):
        rows = np.flatnonzero(of_row == point)
        is_crowded[rows] = not _stands(positions_m, traversal, rows)
    return is_crowded


def _stands(
    positions_m: Floats, traversal: NDArray[np.integer], rows: NDArray[np.int64]
) -> bool:
    before, after = rows[0] - 1, rows[-1] + 1
    if after - before - 1 != len(rows) or before < 0 or after >= len(positions_m):
        return False
    around = np.array([before, after])
    away_m = np.linalg.norm(positions_m[around] - positions_m[rows[0]], axis=1)
    return bool(
        (traversal[around] == traversal[rows[0]]).all() and away_m.max() < LARGEST_JUMP_M
    )


def grid_step(
    columns: Floats, traversal: NDArray[np.integer], *, in_degrees: bool = False
) -> float | None:
    """Return the step of the coarse grid that all positions lie on; None if there is none.

    Positions with lost digits fall on multiples of 5 m or more (in degrees, have at most four
    decimals), and several images of one traversal fall on one point. A set of places that are
    10 m apart has the first property and not the second.

    Args:
        columns: ``(N, 2)`` or ``(N, 3)``, as the source has them.
        traversal: ``(N,)`` codes.
        in_degrees: Whether they are degrees, not metres.
    """
    if len(columns) < _SMALL_CROWD:
        return None
    sample = columns[:: max(1, len(columns) // _SAMPLED)]
    steps = _DEGREE_STEPS if in_degrees else _METRE_STEPS
    found = [_step_of(axis, steps) for axis in sample.T[:2] if len(np.unique(axis)) > 2]
    known = [step for step in found if step is not None]
    if not known or not _repeats(columns, traversal):
        return None
    return max(known)


def _step_of(values: Floats, steps: Sequence[float]) -> float | None:
    for step in steps:
        parts = values / step
        # Degrees below 360 over 1e-4 have seven digits: 1e-6 is above rounding, below a digit.
        if (np.abs(parts - np.round(parts)) < 1e-6).mean() >= 0.99:
            return step
    return None


def _repeats(columns: Floats, traversal: NDArray[np.integer]) -> bool:
    """Return whether a tenth of the rows share their point within their traversal."""
    rows = np.column_stack([columns, traversal.astype(np.float64)])
    distinct = np.unique(rows.view([("", np.float64)] * rows.shape[1]))
    return len(distinct) <= 0.9 * len(rows)
