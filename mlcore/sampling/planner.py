"""Plans the tuples of a run: which images make up the batch of each optimizer step.

A plan is a function of the seed and the step alone. It is independent of the loss, so every
loss of a comparison sees the same tuples, and of workers and the order of calls. Hard images
are chosen in advance: see :mod:`mlcore.sampling.ahead`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from mlcore.data.positions import PositionIndex
from mlcore.errors import DataError
from mlcore.options.engine import SamplingOptions
from mlcore.protocols import PlaceTable, Role, Split
from mlcore.sampling.ahead import PlannedAhead
from mlcore.sampling.candidates import Candidates
from mlcore.sampling.hard_tuples import HardTuples
from mlcore.sampling.training_images import Rows, TrainingImages, location_rows
from mlcore.sampling.visits import PartOf, Visits

_ANCHORS_LOOKED_AT = 64
"""Images whose nearest location is looked up at once."""

_TUPLES_LOOKED_AT = 64
"""Number of tuples that the note on smaller tuples is based on."""


@dataclass(frozen=True)
class BatchPlan:
    """The images of one batch.

    Attributes:
        rows: ``(B,)`` int64, rows of the planner's ``images``.
        tuple_id: ``(B,)`` int64, from 0.
        role: ``(B,)`` int64, values of :class:`mlcore.protocols.Role`.
        epoch: Epoch of the batch's first tuple.
    """

    rows: Rows
    tuple_id: Rows
    role: Rows
    epoch: int


class Planner(Protocol):
    """Chooses the images of each step, as a function of seed and step alone.

    Attributes:
        images: What it chooses from.
        ahead: What is planned by embeddings; None where nothing is.
        place_id: ``(N,)`` place of each training image, numbered from 0.
        num_places: Number of places.
        num_locations: Locations that one epoch visits.
        steps_per_epoch: Batches of one epoch.
        notes: For the user.
    """

    images: TrainingImages

    @property
    def ahead(self) -> PlannedAhead | None: ...
    @property
    def place_id(self) -> Rows: ...
    @property
    def num_places(self) -> int: ...
    @property
    def num_locations(self) -> int: ...
    @property
    def steps_per_epoch(self) -> int: ...
    @property
    def notes(self) -> tuple[str, ...]: ...

    def plan(self, step: int, attempt: int = 0) -> BatchPlan:
        """Return the images of the batch of a step; see :meth:`TuplePlanner.plan`."""
        ...


class TuplePlanner:
    """Draws tuples of one anchor, near and far images.

    A location is a reference image every ``location_spacing_m`` along its traversal. One epoch
    visits every location once, in random order. The anchor is a random image, of any traversal,
    that lies within the near radius of this location and no nearer to another. Near images lie
    within the near radius of the anchor and look the same way; far images beyond the far radius
    of the anchor and of each other. A tuple is smaller where there are too few images; a
    location without any near or far image is left out (without a near one, where no far images
    are asked for).

    Memory: the columns of :class:`TrainingImages`, and per image a tree of about 50 bytes, a
    grid of 20 (28 with headings) and 8 for its place; no step reads through all images.

    Args:
        split: References and queries, both of which are drawn from.
        options: Sizes and radii; the radii are numbers.
        seed: Of the tuples.
        other_far: Whether each tuple gets one more far image, far from the anchor and all far
            images. It is drawn last, from its own generator, so that the others do not depend
            on it.
        part_of: Returns the number of the data set of each image, by index, where there are
            several; for ``balance`` datasets.

    Attributes:
        images: What tuples are drawn from.

    Raises:
        ConfigError: The options contradict each other.
        DataError: Not a single tuple can be formed.
    """

    def __init__(
        self,
        split: Split,
        options: SamplingOptions,
        seed: int,
        *,
        other_far: bool = False,
        part_of: PartOf | None = None,
    ) -> None:
        if not len(split.references):
            raise DataError("the training split has no reference images")
        self.images = TrainingImages.of(split)
        self._options = options
        self._seed = seed
        self._other_far = other_far
        self._candidates = Candidates.of(self.images, options)
        self._notes = [*_note_on_headings(split)]
        self._locate(split.references)
        self._visits = Visits(self._locations, self.images, options.balance, part_of, seed)
        self._notes += self._visits.notes
        self._hard: HardTuples | None = None
        if options.hard_per_tuple:
            self._hard = HardTuples(self._candidates, options, seed, self._anchor)

    @property
    def ahead(self) -> HardTuples | None:
        """The tuples with hard images, if the options ask for some."""
        return self._hard

    @property
    def num_locations(self) -> int:
        """Locations that one epoch visits."""
        return len(self._locations)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch, the last one filled from the next epoch."""
        return math.ceil(self.num_locations / self._options.tuples_per_batch)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Notes on the tuples for the user."""
        counts = (
            f"{len(self.images)} training images, {self.num_locations} locations, "
            f"{self.steps_per_epoch} steps per epoch, {self.num_places} places"
        )
        return (counts, *self._notes, *self._note_on_smaller_tuples())

    @cached_property
    def place_id(self) -> Rows:
        """``(N,)`` place of each training image, numbered from 0.

        The data set's own, or else the cell of a global grid.
        """
        return self.images.places(self._options.place_cell_m)

    @cached_property
    def num_places(self) -> int:
        """Number of places."""
        return int(self.place_id.max()) + 1

    def plan(self, step: int, attempt: int = 0) -> BatchPlan:
        """Return the images of the batch of a step, from 0.

        Args:
            step: Optimizer step.
            attempt: How many plans of this step were useless, because none of their anchors
                could be read: each attempt plans tuples at other, random locations.
        """
        size = self._options.tuples_per_batch
        tuples = [self._tuple(step * size + slot, attempt) for slot in range(size)]
        sizes = [len(rows) for rows, _ in tuples]
        return BatchPlan(
            rows=np.concatenate([rows for rows, _ in tuples]),
            tuple_id=np.repeat(np.arange(size), sizes),
            role=np.concatenate([role for _, role in tuples]),
            epoch=step * size // self.num_locations,
        )

    def _tuple(self, number: int, attempt: int = 0) -> tuple[Rows, Rows]:
        """Return rows and roles of tuple ``number`` of the run."""
        anchor, generator = self._anchor(number, attempt)
        if self._hard is not None and not attempt:  # hard images are those of one anchor
            near, far = self._hard.near_and_far(number)
        else:
            near, far = self._near_and_far(anchor, generator)
        parts = {Role.ANCHOR: np.array([anchor]), Role.NEAR: near, Role.FAR: far}
        if self._other_far:
            apart = np.random.default_rng((self._seed, *self._visits.epoch(number), 1))
            parts[Role.OTHER_FAR] = self._candidates.draw_apart(
                np.append(far, anchor), 1, apart
            )
        role = np.repeat(np.array(list(parts)), [len(rows) for rows in parts.values()])
        return np.concatenate(list(parts.values())), role

    def _anchor(self, number: int, attempt: int = 0) -> tuple[int, np.random.Generator]:
        """Return the anchor of a tuple, and the generator that the rest is drawn from."""
        epoch, visit = self._visits.epoch(number)
        if attempt:
            generator = np.random.default_rng((self._seed, epoch, visit, attempt, 3))
            location = int(generator.integers(self.num_locations))
        else:
            generator = np.random.default_rng((self._seed, epoch, visit))
            location = self._visits.location(number)
        # There is one: locations without an anchor were left out.
        anchor = next(filter(self._candidates.make_a_tuple, self._anchors(location, generator)))
        return anchor, generator

    def _near_and_far(self, anchor: int, generator: np.random.Generator) -> tuple[Rows, Rows]:
        near = self._candidates.draw_near(anchor, self._options.near_per_tuple, generator)
        return near, self._candidates.draw_far(anchor, self._options.far_per_tuple, generator)

    def _anchors(self, location: int, generator: np.random.Generator) -> Iterator[int]:
        """Yield the images that are nearest to a location, in random order.

        The location's own image is among them.
        """
        own, positions = int(self._locations[location]), self.images.apart_m
        for block in self._candidates.shuffled_around(own, _ANCHORS_LOOKED_AT, generator):
            nearest = self._locations[self._location_index.nearest(positions[block])]
            to_nearest = np.linalg.norm(positions[block] - positions[nearest], axis=1)
            to_own = np.linalg.norm(positions[block] - positions[own], axis=1)
            yield from block[to_own <= to_nearest + 1e-6].tolist()  # a tie is for both

    def _locate(self, references: PlaceTable) -> None:
        """Find the locations, and leave out those without a tuple."""
        rows = location_rows(references, self._options.location_spacing_m)
        self._set_locations(rows)
        usable = self._candidates.have_near(rows) & self._candidates.have_far(rows)
        generator = np.random.default_rng(0)  # the order of the search has no effect
        for location in np.flatnonzero(~usable).tolist():
            anchors = self._anchors(location, generator)
            usable[location] = any(map(self._candidates.make_a_tuple, anchors))
        if not usable.any():
            raise DataError(
                f"no tuple can be formed from the {len(self.images)} training images: at "
                f"none of {len(rows)} locations does an image have "
                f"{self._near_and_far_in_words()}. Use more "
                "images, change --sampling.near_radius_m or --sampling.far_radius_m, or "
                "check the unit of the positions"
            )
        if not usable.all():
            left_out = rows[~usable]
            where = ", ".join(f"{axis:.1f}" for axis in self.images.positions_m[left_out[0]])
            self._notes.append(
                f"{len(left_out)} of {len(rows)} locations are left out: no image there has "
                f"{self._near_and_far_in_words()}; the first is at ({where}) m"
            )
        self._set_locations(rows[usable])

    def _set_locations(self, rows: Rows) -> None:
        self._locations = rows
        self._location_index = PositionIndex(self.images.apart_m[rows])

    def _near_and_far_in_words(self) -> str:
        limit = ""
        if self.images.headings_rad is not None:
            limit = f" and {self._options.near_heading_limit_deg:g} degrees"
        near = f"a near image (within {self._options.near_radius_m:g} m{limit})"
        if not self._options.far_per_tuple:
            return near
        return f"both {near} and a far one (beyond {self._options.far_radius_m:g} m)"

    def _note_on_smaller_tuples(self) -> Iterator[str]:
        options, num = self._options, min(_TUPLES_LOOKED_AT, self.num_locations)
        if self._hard is not None:
            return  # they are not chosen yet
        wanted = [1, options.near_per_tuple, options.far_per_tuple, int(self._other_far)]
        sizes = [np.bincount(self._tuple(number)[1], minlength=4) for number in range(num)]
        _, near, far, other_far = np.sum(np.array(sizes) < wanted, axis=0).tolist()
        if near or far or other_far:
            yield (
                f"of the first {num} tuples, {near} have fewer near images than requested, "
                f"{far} fewer far images"
                + (f", {other_far} no other-far image" * self._other_far)
            )


def _note_on_headings(split: Split) -> Iterator[str]:
    parts = [
        part.headings_rad is None for part in (split.references, split.queries) if len(part)
    ]
    if any(parts) and not all(parts):
        yield (
            "near images are drawn without regard to headings: only one of training "
            "references and queries has them"
        )
