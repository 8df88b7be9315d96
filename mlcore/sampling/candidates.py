"""Which training images may be near and far images of an anchor; drawing them apart."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mlcore.data.positions import PositionIndex, heading_difference_rad
from mlcore.errors import ConfigError
from mlcore.options.engine import SamplingOptions
from mlcore.sampling.training_images import Rows, TrainingImages

Mask = NDArray[np.bool_]

_NEIGHBOURS_LOOKED_AT = 8
"""Nearest neighbours searched first; most images have a near image among them."""

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
    """

    def __init__(
        self,
        images: TrainingImages,
        *,
        near_radius_m: float,
        far_radius_m: float,
        heading_limit_rad: float,
    ) -> None:
        self.near_radius_m = near_radius_m
        self.far_radius_m = far_radius_m
        self._heading_limit_rad = heading_limit_rad
        self._images = images
        self._positions_m = images.apart_m
        self._index = PositionIndex(images.apart_m)
        # Each anchor is needed twice: to check that it has a tuple, and to draw from.
        self._last_near: tuple[int, Rows] = -1, np.empty(0, np.int64)

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
        )

    @property
    def num_images(self) -> int:
        """All images, near, far or neither."""
        return len(self._images)

    def around(self, row: int) -> Rows:
        """Return the rows within the near radius of a row, itself included, ascending."""
        return self._index.within(self._positions_m[row], self.near_radius_m)

    def near(self, anchor: int) -> Rows:
        """Return the rows that are near images of ``anchor``, ascending."""
        last, near = self._last_near
        if anchor != last:
            rows = self.around(anchor)
            near = rows[(rows != anchor) & self._same_way(rows, np.array(anchor))]
            self._last_near = anchor, near
        return near

    def make_a_tuple(self, anchor: int) -> bool:
        """Return whether an anchor has a near and a far image."""
        return len(self.near(anchor)) > 0 and bool(self.have_far(np.array([anchor]))[0])

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
        """Return which ``rows`` have an image beyond the far radius."""
        points = self._positions_m[rows]
        distance = np.linalg.norm(points[:, None] - self._extremes_m, axis=2)
        far: Mask = distance.max(axis=1) > self.far_radius_m
        for row in np.flatnonzero(~far).tolist():
            far[row] = not self._index.all_within(points[row], self.far_radius_m)
        return far

    def draw_far(self, anchor: int, num: int, generator: np.random.Generator) -> Rows:
        """Return up to ``num`` random rows far from an anchor and from each other.

        At least one, if :meth:`have_far` says there is one.
        """
        rows = self.draw_apart(np.array([anchor]), num, generator)
        if len(rows):
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

    def _same_way(self, rows: Rows, others: Rows) -> Mask:
        headings = self._images.headings_rad
        if headings is None:
            return np.ones(rows.shape, dtype=np.bool_)
        turn = heading_difference_rad(headings[rows], headings[others])
        same: Mask = turn <= self._heading_limit_rad
        return same

    @cached_property
    def _extremes_m(self) -> NDArray[np.float64]:
        """The outermost images along each axis: nearly everything is far from one."""
        positions = self._positions_m
        rows = np.concatenate([positions.argmin(axis=0), positions.argmax(axis=0)])
        extremes: NDArray[np.float64] = positions[rows]
        return extremes


def _radii_m(options: SamplingOptions) -> tuple[float, float]:
    """Return near and far radius, resolved and consistent."""
    near, far = options.near_radius_m, options.far_radius_m
    if near is None or far is None or near > far:
        raise ConfigError(
            f"--sampling.near_radius_m {near} must not be larger than "
            f"--sampling.far_radius_m {far}, or an image could be both near and far"
        )
    return near, far
