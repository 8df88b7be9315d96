"""Which training images may be near and far images of an anchor; drawing them apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mlcore.data.positions import PositionIndex, heading_difference_rad, headings_agree
from mlcore.errors import ConfigError
from mlcore.options.engine import SamplingOptions
from mlcore.sampling.training_images import Rows, TrainingImages

Mask = NDArray[np.bool_]

_NEIGHBOURS_LOOKED_AT = 8
"""Nearest neighbours searched first; most images have a near image among them."""

_FEWEST_TO_PARTITION, _MOST_RANKS = 1000, 24
"""Sorting fewer numbers, or for more ranks, is as fast as partitioning them."""

_DRAWS_PER_IMAGE = 40
_MIN_DRAWS = 400
"""Random images tried as far images before all images are searched."""


class Candidates:
    """Near and far images of any anchor, by local searches only.

    Args:
        images: All training images.
        near_radius_m: Near within this distance, inclusive.
        far_radius_m: Far beyond this distance, exclusive.
        heading_limit_rad: Largest heading difference of a near image, inclusive; of no
            effect where the images have no headings.
        needs_far: Whether a tuple needs a far image.
    """

    def __init__(
        self,
        images: TrainingImages,
        *,
        near_radius_m: float,
        far_radius_m: float,
        heading_limit_rad: float,
        needs_far: bool = True,
    ) -> None:
        self.near_radius_m = near_radius_m
        self.far_radius_m = far_radius_m
        self._heading_limit_rad = heading_limit_rad
        self._needs_far = needs_far
        self._images = images
        self._positions_m = images.apart_m
        self._index = PositionIndex(images.apart_m)
        # Each anchor is needed twice: to check that it has a tuple, and to draw from.
        self._last_near: tuple[int, NDArray[np.integer]] = -1, np.empty(0, np.int64)

    @classmethod
    def of(cls, images: TrainingImages, options: SamplingOptions) -> Candidates:
        """Return the candidates within the radii of some options.

        Raises:
            ConfigError: The radii contradict each other.
        """
        near_radius_m, far_radius_m = _radii_m(options)
        return cls(
            images,
            near_radius_m=near_radius_m,
            far_radius_m=far_radius_m,
            heading_limit_rad=math.radians(options.near_heading_limit_deg),
            needs_far=options.far_per_tuple > 0,
        )

    @property
    def num_images(self) -> int:
        """All images, near, far or neither."""
        return len(self._images)

    def around(self, row: int) -> Rows:
        """Return the rows within the near radius of a row, itself included, ascending."""
        return self.within(row, self.near_radius_m)

    def shuffled_around(
        self, row: int, block: int, generator: np.random.Generator
    ) -> Iterator[Rows]:
        """Yield the rows of :meth:`around` in random order, ``block`` at a time."""
        rows = generator.permutation(self.around(row))
        for start in range(0, len(rows), block):
            yield rows[start : start + block]

    def within(self, row: int, radius_m: float) -> Rows:
        """Return the rows within a radius of a row, itself included, ascending."""
        return self._index.within(self._positions_m[row], radius_m)

    def near(self, anchor: int) -> Rows:
        """Return the rows that are near images of ``anchor``, ascending."""
        return np.sort(self._near(anchor)).astype(np.int64, copy=False)

    def draw_near(self, anchor: int, num: int, generator: np.random.Generator) -> Rows:
        """Return up to ``num`` random near images of ``anchor``."""
        near = self._near(anchor)
        ranks = generator.choice(len(near), size=min(num, len(near)), replace=False)
        return _ranked(near, ranks)

    def make_a_tuple(self, anchor: int) -> bool:
        """Return whether an anchor has a near image, and a far one if tuples need that."""
        return len(self._near(anchor)) > 0 and bool(self.have_far(np.array([anchor]))[0])

    def have_near(self, rows: Rows) -> Mask:
        """Return which ``rows`` have a near image among their nearest neighbours.

        A quick check: rows without one there may still have near images, see :meth:`near`.
        """
        points = self._positions_m[rows]
        neighbours = self._index.neighbours(points, 1 + _NEIGHBOURS_LOOKED_AT)
        distance = np.linalg.norm(self._positions_m[neighbours] - points[:, None], axis=2)
        near = (distance <= self.near_radius_m) & (neighbours != rows[:, None])
        near &= self._same_way(neighbours, rows[:, None])
        found: Mask = near.any(axis=1)
        return found

    def have_far(self, rows: Rows) -> Mask:
        """Return which ``rows`` have an image beyond the far radius, if tuples need one."""
        if not self._needs_far:
            return np.ones(len(rows), np.bool_)
        points = self._positions_m[rows]
        distance = np.linalg.norm(points[:, None] - self._extremes_m, axis=2)
        far: Mask = distance.max(axis=1) > self.far_radius_m
        for row in np.flatnonzero(~far).tolist():
            far[row] = not self._index.all_within(points[row], self.far_radius_m)
        return far

    def draw_far(self, anchor: int, num: int, generator: np.random.Generator) -> Rows:
        """Return up to ``num`` random rows far from an anchor and from each other.

        At least one of those asked for, if :meth:`have_far` says there is one.
        """
        rows = self.draw_apart(np.array([anchor]), num, generator)
        if len(rows) or not num:
            return rows
        # Far images are so rare that none was drawn; only then are all images searched.
        inside = self._index.within(self._positions_m[anchor], self.far_radius_m)
        outside = np.delete(np.arange(len(self._images)), inside)
        return generator.choice(outside, size=min(num, 1))

    def draw_apart(self, taken: Rows, num: int, generator: np.random.Generator) -> Rows:
        """Return up to ``num`` random rows far from the rows ``taken`` and from each other."""
        num_draws = max(_MIN_DRAWS, num * _DRAWS_PER_IMAGE)
        return self.first_apart(
            taken, num, generator.integers(len(self._images), size=num_draws)
        )

    def first_apart(self, taken: Rows, num: int, rows: Rows) -> Rows:
        """Return the first ``num`` of ``rows`` that are far from ``taken`` and each other."""
        if self._all_far(taken, rows[:num]):
            return rows[:num]
        kept_m = self._positions_m[taken]
        found: list[int] = []
        for row in rows.tolist():
            if len(found) == num:
                break
            distance = np.linalg.norm(kept_m - self._positions_m[row], axis=1)
            if distance.min() > self.far_radius_m:
                kept_m = np.concatenate([kept_m, self._positions_m[row][None]])
                found.append(row)
        return np.array(found, dtype=np.int64)

    def _all_far(self, taken: Rows, rows: Rows) -> bool:
        """Return whether all of ``rows`` are far from ``taken`` and from each other."""
        rows_m = self._positions_m[rows]
        others_m = np.concatenate([self._positions_m[taken], rows_m])
        distance = np.linalg.norm(rows_m[:, None] - others_m, axis=2)
        distance[np.arange(len(rows)), len(taken) + np.arange(len(rows))] = np.inf  # itself
        return bool((distance > self.far_radius_m).all())

    def _near(self, anchor: int) -> NDArray[np.integer]:
        """Return the rows that are near images of ``anchor``, in any order."""
        last, near = self._last_near
        if anchor != last:
            rows = self._index.within_unsorted(self._positions_m[anchor], self.near_radius_m)
            keep = self._same_way(rows, np.array(anchor))
            keep[rows == anchor] = False
            near = np.compress(keep, rows)  # faster than an index of booleans
            self._last_near = anchor, near
        return near

    def are_far(self, rows: Rows, taken: Rows) -> Mask:
        """Return which of ``rows`` lie beyond the far radius of every one of ``taken``."""
        far = np.ones(len(rows), np.bool_)
        for row in taken.tolist():
            far &= self._distance_m(rows, row) > self.far_radius_m
        return far

    def clique(self, anchor: int, rows: Rows, size: int) -> Rows:
        """Return an anchor and ``size - 1`` others of ``rows``, all near each other.

        They are taken in the order of ``rows`` if that leads to as many, and else, so that none
        is missed that lies within half the near radius, from the nearest to the farthest. None
        are returned where this fails too.
        """
        rows = rows[self._are_near(rows, anchor)]
        found = self._first_clique(anchor, rows, size)
        if len(found) < size <= len(rows) + 1:
            nearest_first = np.argsort(self._distance_m(rows, anchor), kind="stable")
            found = self._first_clique(anchor, rows[nearest_first], size)
        return found if len(found) == size else found[:0]

    def have_cliques(self, rows: Rows, size: int) -> Mask:
        """Return for which ``rows`` :meth:`clique` finds one of ``size`` images."""
        points, half_m = self._positions_m[rows], self.near_radius_m / 2
        neighbours = self._index.neighbours(points, size + _NEIGHBOURS_LOOKED_AT)
        distance = np.linalg.norm(self._positions_m[neighbours] - points[:, None], axis=2)
        close = (distance <= half_m) & (neighbours != rows[:, None])
        close &= self._turn_rad(neighbours, rows[:, None]) <= self._heading_limit_rad / 2
        found: Mask = close.sum(axis=1) >= size - 1  # which are near each other
        for place in np.flatnonzero(~found).tolist():
            row = int(rows[place])
            found[place] = len(self.clique(row, self.around(row), size)) > 0
        return found

    def _first_clique(self, anchor: int, rows: Rows, size: int) -> Rows:
        """Return an anchor and up to ``size - 1`` of its near ``rows``, in their order."""
        found = [anchor]
        while len(found) < size and len(rows):
            found.append(int(rows[0]))
            rows = rows[1:][self._are_near(rows[1:], found[-1])]
        return np.array(found, dtype=np.int64)

    def within_reach(self, rows: Rows, row: int) -> Rows:
        """Return those of ``rows`` that some image near ``row`` may not be far from."""
        reach_m = (self.near_radius_m + self.far_radius_m) * (1 + 1e-9)
        return rows[self._distance_m(rows, row) <= reach_m]

    def _are_near(self, rows: Rows, anchor: int) -> Mask:
        near: Mask = self._distance_m(rows, anchor) <= self.near_radius_m
        near &= (rows != anchor) & self._same_way(rows, np.array(anchor))
        return near

    def _distance_m(self, rows: Rows, row: int) -> NDArray[np.float64]:
        distance: NDArray[np.float64] = np.linalg.norm(
            self._positions_m[rows] - self._positions_m[row], axis=1
        )
        return distance

    def _same_way(self, rows: NDArray[np.integer], others: Rows) -> Mask:
        headings = self._images.headings_rad
        if headings is None:
            return np.ones(rows.shape, dtype=np.bool_)
        own = headings.take(rows)  # faster than an index
        return headings_agree(own, headings[others], self._heading_limit_rad)

    def _turn_rad(self, rows: Rows, others: Rows) -> NDArray[np.float64]:
        """Return heading differences; 0 without headings."""
        headings = self._images.headings_rad
        if headings is None:
            return np.zeros(np.broadcast_shapes(rows.shape, others.shape))
        return heading_difference_rad(headings[rows], headings[others])

    @cached_property
    def _extremes_m(self) -> NDArray[np.float64]:
        """The outermost images along each axis: nearly everything is far from one."""
        positions = self._positions_m
        rows = np.concatenate([positions.argmin(axis=0), positions.argmax(axis=0)])
        extremes: NDArray[np.float64] = positions[rows]
        return extremes


def _ranked(rows: NDArray[np.integer], ranks: Rows) -> Rows:
    """Return ``np.sort(rows)[ranks]``, in the time that a few ranks take."""
    if len(rows) < _FEWEST_TO_PARTITION or len(ranks) > _MOST_RANKS:
        ordered = np.sort(rows)
    else:
        ordered = np.partition(rows, np.sort(ranks))
    return ordered[ranks].astype(np.int64, copy=False)


def _radii_m(options: SamplingOptions) -> tuple[float, float]:
    """Return near and far radius, resolved and consistent."""
    near, far = options.near_radius_m, options.far_radius_m
    if near is None or far is None or near > far:
        raise ConfigError(
            f"--sampling.near_radius_m {near} must not be larger than "
            f"--sampling.far_radius_m {far}, or an image could be both near and far"
        )
    return near, far
