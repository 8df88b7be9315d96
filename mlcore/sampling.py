"""Plans the tuples of a run: which images make up the batch of each optimizer step.

A plan is a function of the seed and the step alone. It does not know the loss, so every
loss of a comparison sees the same tuples; nor does it depend on workers or on the order of
calls.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import ConfigError, DataError
from mlcore.positions import PositionIndex, distance_along_m, heading_difference_rad
from mlcore.protocols import PlaceTable, Role, Split
from mlcore.settings import SamplingOptions

Rows = NDArray[np.int64]

_DRAWS_PER_FAR_IMAGE = 40
"""Images looked at for each far image wanted, before a tuple is left smaller."""

_LOCATIONS_TRIED = 50
"""Locations tried for one tuple before the data counts as too sparse."""


@dataclass(frozen=True)
class BatchPlan:
    """The images of one batch.

    Attributes:
        rows: ``(B,)`` int64, rows of the training table.
        tuple_id: ``(B,)`` int64, from 0.
        role: ``(B,)`` int64, values of :class:`mlcore.protocols.Role`.
        epoch: Epoch of the batch's first tuple.
    """

    rows: Rows
    tuple_id: Rows
    role: Rows
    epoch: int


class TuplePlanner:
    """Draws tuples of one anchor, near and far images.

    One epoch visits every location along the reference traversals once, in an order of its
    own; a location is a spot every ``location_spacing_m``. Its anchor is a random image
    within that distance of it, of any traversal, or else the image nearest to it. Near
    images lie within the near radius and look the same way; far images beyond the far
    radius of the anchor and of each other.

    Memory: positions and rows of all training images once, and a tree of about 60 bytes an
    image; a step costs no pass over the images.

    Args:
        split: References and queries, both of which are drawn from.
        options: Sizes and radii; the radii are numbers.
        seed: Of the tuples.
        other_far: Whether each tuple gets one more far image, far from the anchor and all
            far images. It is drawn last and apart, so that the rest is the same without.

    Raises:
        ConfigError: The options contradict each other.
        DataError: The images do not make a single tuple.
    """

    def __init__(
        self, split: Split, options: SamplingOptions, seed: int, *, other_far: bool = False
    ) -> None:
        _check(options)
        self.table = joined(split)
        self.options = options
        self._near_radius_m = options.near_radius_m or 0.0
        self._far_radius_m = options.far_radius_m or 0.0
        self._seed = seed
        self._other_far = other_far
        self._index = PositionIndex(self.table.positions_m)
        self._locations_m = locations_m(split.references, options.location_spacing_m)
        self._permutation = lru_cache(maxsize=2)(self._permute)
        self.plan(0)

    @property
    def num_locations(self) -> int:
        """Locations that one epoch visits."""
        return len(self._locations_m)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch, the last one filled from the next epoch."""
        return math.ceil(self.num_locations / self.options.tuples_per_batch)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the tuples."""
        counts = (
            f"{len(self.table)} training images, {self.num_locations} locations, "
            f"{self.steps_per_epoch} steps an epoch, {self.num_places} places"
        )
        return (counts,)

    @cached_property
    def place_id(self) -> Rows:
        """``(N,)`` place of each training image: the cell of a global grid, numbered from 0."""
        cells = np.floor(self.table.positions_m[:, :2] / self.options.place_cell_m)
        _, place = np.unique(cells.astype(np.int64), axis=0, return_inverse=True)
        return place.reshape(-1).astype(np.int64)

    @cached_property
    def num_places(self) -> int:
        """Number of places."""
        return int(self.place_id.max()) + 1

    def plan(self, step: int) -> BatchPlan:
        """Return the images of the batch of a step, from 0.

        Raises:
            DataError: No location near the step's has an anchor with a near and a far image.
        """
        size = self.options.tuples_per_batch
        tuples = [self._tuple(step * size + slot) for slot in range(size)]
        sizes = [len(rows) for rows, _ in tuples]
        return BatchPlan(
            rows=np.concatenate([rows for rows, _ in tuples]),
            tuple_id=np.repeat(np.arange(size), sizes),
            role=np.concatenate([role for _, role in tuples]),
            epoch=step * size // self.num_locations,
        )

    def _tuple(self, number: int) -> tuple[Rows, Rows]:
        """Return rows and roles of tuple ``number`` of the run."""
        epoch, place = divmod(number, self.num_locations)
        generator = np.random.default_rng((self._seed, epoch, place))
        location = int(self._permutation(epoch)[place])
        for _ in range(_LOCATIONS_TRIED):
            anchor = self._anchor(location, generator)
            near = self._near(anchor, generator)
            far = self._far(anchor, generator)
            if len(near) and len(far):
                return self._with_roles(anchor, near, far, (self._seed, epoch, place, 1))
            # Lonely or crowded: another location takes this one's turn.
            location = int(generator.integers(self.num_locations))
        raise DataError(self._too_few(anchor))

    def _anchor(self, location: int, generator: np.random.Generator) -> int:
        point = self._locations_m[location]
        rows = self._index.within(point, self.options.location_spacing_m)
        if not len(rows):
            rows = self._index.nearest(point[None])
        return int(generator.choice(rows))

    def _near(self, anchor: int, generator: np.random.Generator) -> Rows:
        rows = self._index.within(self.table.positions_m[anchor], self._near_radius_m)
        rows = rows[rows != anchor]
        headings = self.table.headings_rad
        if headings is not None:
            turn = heading_difference_rad(headings[rows], headings[anchor])
            rows = rows[turn <= math.radians(self.options.near_heading_limit_deg)]
        wanted = min(self.options.near_per_tuple, len(rows))
        return generator.choice(rows, size=wanted, replace=False)

    def _far(self, anchor: int, generator: np.random.Generator) -> Rows:
        return self._draw_apart([anchor], self.options.far_per_tuple, generator)

    def _draw_apart(
        self, taken: list[int], wanted: int, generator: np.random.Generator
    ) -> Rows:
        """Return up to ``wanted`` rows beyond the far radius of ``taken`` and each other."""
        positions = self.table.positions_m
        kept_m = positions[taken]
        found: list[int] = []
        for row in generator.integers(len(positions), size=wanted * _DRAWS_PER_FAR_IMAGE):
            distance = np.linalg.norm(kept_m - positions[row], axis=1)
            if distance.min() > self._far_radius_m:
                kept_m = np.concatenate([kept_m, positions[row][None]])
                found.append(int(row))
                if len(found) == wanted:
                    break
        return np.array(found, dtype=np.int64)

    def _with_roles(
        self, anchor: int, near: Rows, far: Rows, stream: tuple[int, ...]
    ) -> tuple[Rows, Rows]:
        parts = {Role.ANCHOR: np.array([anchor]), Role.NEAR: near, Role.FAR: far}
        if self._other_far:
            generator = np.random.default_rng(stream)
            parts[Role.OTHER_FAR] = self._draw_apart([anchor, *far.tolist()], 1, generator)
        role = np.concatenate([np.full(len(rows), role) for role, rows in parts.items()])
        return np.concatenate(list(parts.values())), role.astype(np.int64)

    def _permute(self, epoch: int) -> Rows:
        return np.random.default_rng((self._seed, epoch)).permutation(self.num_locations)

    def _too_few(self, anchor: int) -> str:
        near = len(self._index.within(self.table.positions_m[anchor], self._near_radius_m)) - 1
        return (
            f"{len(self.table)} training images do not make one tuple: after "
            f"{_LOCATIONS_TRIED} locations none has both a near image (within "
            f"{self._near_radius_m:g} m and {self.options.near_heading_limit_deg:g} degrees; "
            f"the last has {near} within the radius) and a far one (beyond "
            f"{self._far_radius_m:g} m). Change --sampling.near_radius_m or "
            "--sampling.far_radius_m, or check the unit of the positions"
        )


def joined(split: Split) -> PlaceTable:
    """Return references and queries as one table, the references first."""
    first, second = split.references, split.queries
    if not len(second):
        return first
    headings = None
    if first.headings_rad is not None and second.headings_rad is not None:
        headings = np.concatenate([first.headings_rad, second.headings_rad])
    return PlaceTable(
        index=np.concatenate([first.index, second.index]),
        positions_m=np.concatenate([first.positions_m, second.positions_m]),
        headings_rad=headings,
        traversal=np.concatenate([first.traversal, second.traversal + len(first.traversals)]),
        traversals=[*first.traversals, *second.traversals],
        condition=np.concatenate([first.condition, second.condition + len(first.conditions)]),
        conditions=[*first.conditions, *second.conditions],
    )


def locations_m(references: PlaceTable, spacing_m: float) -> NDArray[np.float64]:
    """Return points ``(L, 2 or 3)`` every ``spacing_m`` along each reference traversal."""
    points: list[NDArray[np.float64]] = []
    order = np.argsort(references.traversal, kind="stable")
    _, starts = np.unique(references.traversal[order], return_index=True)
    for rows in np.split(order, starts[1:]):
        positions = references.positions_m[rows]
        along = distance_along_m(positions)
        at = np.arange(0.0, along[-1] + 1e-9, spacing_m)
        points.append(np.stack([np.interp(at, along, axis) for axis in positions.T], axis=1))
    return np.concatenate(points)


def _check(options: SamplingOptions) -> None:
    near, far = options.near_radius_m, options.far_radius_m
    if near is None or far is None or near > far:
        raise ConfigError(
            f"--sampling.near_radius_m {near} must not be larger than "
            f"--sampling.far_radius_m {far}, or an image would be both"
        )
