"""Cuts images in space into training, validation and test, with nothing shared at the edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlcore.data import PositionIndex, find_clusters, nearest_m

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

TRAIN, VALIDATION, TEST = 0, 1, 2
BUFFER, FAR = -1, -2
"""Of an image that is in no split: it lies at an edge, or far from all."""

_NUM_DIRECTIONS = 12
_SHARES = np.linspace(0.8, 1.2, 9)
"""How much smaller or larger a part may be than asked for, where that loses fewer images."""


@dataclass(frozen=True)
class Cut:
    """A proposed division of images.

    Attributes:
        split: ``(N,)``, TRAIN, VALIDATION or TEST; BUFFER or FAR.
        is_query: ``(N,)``, whether an image shows again what a reference of its split shows.
        region: ``(N,)`` codes of groups more than 10 km apart, the largest first.
    """

    split: NDArray[np.int8]
    is_query: Mask
    region: NDArray[np.int64]


def cut_apart(
    positions_m: Floats,
    region: NDArray[np.int64],
    order: Floats,
    *,
    test: float,
    validation: float,
    buffer_m: float,
    revisit_m: float,
    revisit_after: float,
) -> Cut:
    """Cut each region by itself, so that no two splits have images within ``buffer_m``.

    Images of validation and training that lie too near to the test are in no split, and
    likewise those of training near validation. A region too small to be cut is for training.

    Args:
        positions_m: ``(N, 2)``, one frame per region.
        region: ``(N,)`` codes.
        order: ``(N,)``, when images were taken, in any unit.
        test: Share of the images of a region to test on.
        validation: Share to choose settings on.
        buffer_m: Smallest distance between splits.
        revisit_m: A query has a reference within this distance.
        revisit_after: Least difference in ``order`` between a query and its reference.
    """
    groups, is_far = towns(positions_m, region)
    split = np.where(is_far, FAR, TRAIN).astype(np.int8)
    is_query = np.zeros(len(split), bool)
    for code in range(int(groups.max()) + 1):
        rows = np.flatnonzero((groups == code) & ~is_far)
        again = _revisits(positions_m[rows], order[rows], revisit_m, revisit_after)
        for part, share in ((TEST, test), (VALIDATION, validation)):
            mine = split[rows] == TRAIN
            left = rows[mine]
            chosen = _cut_off(
                positions_m[left], again[mine], round(share * len(rows)), buffer_m
            )
            if chosen is None:
                continue
            split[left[chosen]] = part
            rest = left[~chosen]
            away_m = nearest_m(positions_m[left[chosen]], positions_m[rest])
            split[rest[away_m <= buffer_m]] = BUFFER
        for part in (TRAIN, VALIDATION, TEST):
            mine = rows[split[rows] == part]
            is_query[mine] = _revisits(positions_m[mine], order[mine], revisit_m, revisit_after)
    return Cut(split, is_query, groups)


def towns(positions_m: Floats, region: NDArray[np.int64]) -> tuple[NDArray[np.int64], Mask]:
    """Return groups ``(N,)`` of images more than 10 km apart, and which lie far from any."""
    found: list[NDArray[np.int64]] = []
    is_far = np.zeros(len(positions_m), bool)
    pending = [np.flatnonzero(region == code) for code in np.unique(region)]
    while pending:
        rows = pending.pop()
        clusters = find_clusters(positions_m[rows])
        is_far[rows[clusters.far]] = True
        found.append(rows[~clusters.separate])
        if clusters.separate.any():
            pending.append(rows[clusters.separate])
    group = np.empty(len(positions_m), np.int64)
    for code, rows in enumerate(sorted(found, key=len, reverse=True)):
        group[rows] = code
    return group, is_far


def _cut_off(positions_m: Floats, again: Mask, size: int, buffer_m: float) -> Mask | None:
    """Return the images of about ``size`` beyond a straight line; None if there is no such cut.

    Of lines in several directions, that which loses the fewest images at the edge and has the
    most revisits beyond it.
    """
    best: tuple[int, Mask] | None = None
    for angle in np.arange(2 * _NUM_DIRECTIONS) * np.pi / _NUM_DIRECTIONS:
        along_m = positions_m @ np.array([np.cos(angle), np.sin(angle)])
        by_distance = np.argsort(along_m)
        sorted_m = along_m[by_distance]
        num_again = np.cumsum(again[by_distance][::-1])[::-1]
        for wanted in np.unique(np.maximum(np.round(size * _SHARES), 1).astype(int)):
            if not size or wanted >= len(along_m):
                continue
            line_m = sorted_m[-wanted]
            first = int(np.searchsorted(sorted_m, line_m))
            # What lies within the buffer of an image beyond the line is no farther before it.
            num_kept = int(np.searchsorted(sorted_m, line_m - buffer_m))
            cost = first - num_kept - int(num_again[first])
            if num_kept and (best is None or cost < best[0]):
                best = cost, along_m >= line_m
    return None if best is None else best[1]


def _revisits(positions_m: Floats, order: Floats, radius_m: float, after: float) -> Mask:
    """Return the images with an earlier one within a radius that is not a revisit itself."""
    index = PositionIndex(positions_m)
    found = np.zeros(len(positions_m), bool)
    for row in np.argsort(order, kind="stable"):
        near = index.within(positions_m[row], radius_m)
        earlier = near[order[row] - order[near] >= after]
        found[row] = not found[earlier].all()
    return found
