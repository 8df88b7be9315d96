"""Batches of places: some images of each of several places that are far from each other."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from mlcore.errors import DataError
from mlcore.options.engine import SamplingOptions
from mlcore.protocols import Role, Split
from mlcore.sampling.ahead import PlannedAhead
from mlcore.sampling.candidates import Candidates
from mlcore.sampling.planner import BatchPlan
from mlcore.sampling.training_images import Rows, TrainingImages
from mlcore.sampling.visits import PartOf, Visits

_DRAWS = 400
"""Random places tried where the next one in turn is near another of the batch."""


class PlacePlanner:
    """Draws ``places_per_batch`` places and ``images_per_place`` images of each.

    A place is one of the data set's own, or else a cell of the grid, of which images within the
    near radius of its anchor that look the same way are drawn. The places of a batch lie beyond
    the far radius of each other. Each is a tuple of an anchor and near images; the anchors of
    the others are its far images. One epoch visits every place once, except where the next in
    turn lies near another of its batch: then a random one takes its part. A batch is smaller
    where 400 random ones in a row lie near others.

    A plan is a function of the seed and the step alone.

    Memory: the columns of :class:`TrainingImages`, 24 bytes per image for places, and, without
    the data set's own, 32 more while anchors are looked for.

    Args:
        split: References and queries, both of which are drawn from.
        options: Sizes and radii; the radii are numbers.
        seed: Of the batches.
        part_of: For ``balance`` datasets.

    Attributes:
        images: What batches are drawn from.
        ahead: None: nothing is planned by embeddings.

    Raises:
        ConfigError: The options contradict each other.
        DataError: There are too few places with as many images.
    """

    ahead: PlannedAhead | None = None

    def __init__(
        self,
        split: Split,
        options: SamplingOptions,
        seed: int,
        *,
        part_of: PartOf | None = None,
    ) -> None:
        if not len(split.references):
            raise DataError("the training split has no reference images")
        self.images = TrainingImages.of(split)
        self._options = options
        self._seed = seed
        self._candidates = Candidates.of(self.images, options)
        self._own = self.images.place is not None
        self._sorted = np.argsort(self.place_id, kind="stable")
        self._starts = np.searchsorted(
            self.place_id[self._sorted], np.arange(self.num_places + 1)
        )
        self._anchor_rows, self._anchor_starts = self._by_place()
        self._firsts = self._anchor_rows[self._anchor_starts[:-1]]
        self._visits = Visits(self._firsts, self.images, options.balance, part_of, seed)
        self._require_enough()

    @cached_property
    def place_id(self) -> Rows:
        """``(N,)`` place of each training image, numbered from 0."""
        return self.images.places(self._options.place_cell_m)

    @cached_property
    def num_places(self) -> int:
        """Number of places, those with too few images included."""
        return int(self.place_id.max()) + 1

    @property
    def num_locations(self) -> int:
        """Places that one epoch visits."""
        return len(self._firsts)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch, the last one filled from the next epoch."""
        return math.ceil(self.num_locations / self._options.places_per_batch)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the batches for the user."""
        cell_m, least = self._options.place_cell_m, self._options.images_per_place
        source = "of the data set" if self._own else f"on a grid of {cell_m:g} m"
        counts = (
            f"{len(self.images)} training images, {self.num_places} places {source}, "
            f"{self.num_locations} of them with {least} images or more, "
            f"{self.steps_per_epoch} steps per epoch"
        )
        return (counts, *self._visits.notes)

    def plan(self, step: int, attempt: int = 0) -> BatchPlan:
        """Return the images of the batch of a step, from 0; see :meth:`TuplePlanner.plan`."""
        size, per_place = self._options.places_per_batch, self._options.images_per_place
        generator = np.random.default_rng((self._seed, step, attempt, 5))
        anchors = self._anchors(step, attempt, generator)
        rows = [self._images_of(anchor, generator) for anchor in anchors]
        role = np.full((len(anchors), per_place), int(Role.NEAR))
        role[:, 0] = Role.ANCHOR
        return BatchPlan(
            rows=np.concatenate(rows),
            tuple_id=np.repeat(np.arange(len(anchors)), per_place),
            role=role.ravel(),
            epoch=self._visits.epoch(step * size)[0],
        )

    def _anchors(self, step: int, attempt: int, generator: np.random.Generator) -> list[int]:
        """Return an image of each place of a batch, beyond the far radius of each other."""
        size = self._options.places_per_batch
        numbers = range(step * size, (step + 1) * size)
        next_places = [self._visits.location(number) for number in numbers]
        others = generator.integers(self.num_locations, size=_DRAWS + size).tolist()
        tried = others if attempt else [*next_places, *others]
        anchors = [int(generator.choice(self._anchors_of_place(place))) for place in tried]
        first = np.array(anchors[:1])
        rest = self._candidates.first_apart(first, size - 1, np.array(anchors[1:]))
        return [*first.tolist(), *rest.tolist()]

    def _require_enough(self) -> None:
        """Check that a batch can be filled.

        Raises:
            DataError: There are fewer places, or fewer far from each other as far as a search
                in random order can see, than places of a batch.
        """
        wanted, least = self._options.places_per_batch, self._options.images_per_place
        count, where = self.num_locations, ""
        if count >= wanted:
            order = np.random.default_rng(self._seed).permutation(self._firsts)
            found = self._candidates.first_apart(order[:1], wanted - 1, order[1:])
            count = 1 + len(found)
            where = (
                f" that lie beyond {self._options.far_radius_m:g} m of each other, of "
                f"{self.num_locations}"
            )
        if count < wanted:
            raise DataError(
                f"--sampling.places_per_batch {wanted} is more than the data have: there are "
                f"{'about ' * bool(where)}{count} places with {least} images or more{where}; "
                "lower it, --sampling.images_per_place or --sampling.far_radius_m"
            )

    def _images_of(self, anchor: int, generator: np.random.Generator) -> Rows:
        others = self._others(anchor)
        chosen = generator.choice(
            others, size=self._options.images_per_place - 1, replace=False
        )
        return np.append(anchor, chosen)

    def _others(self, anchor: int) -> Rows:
        """Return the other images of an anchor's place."""
        place = self.place_id[anchor]
        rows: Rows = self._sorted[self._starts[place] : self._starts[place + 1]]
        return rows[rows != anchor if self._own else self._candidates.are_near(rows, anchor)]

    def _anchors_of_place(self, number: int) -> Rows:
        """Return the images that can be anchors of a place that epochs visit."""
        rows: Rows = self._anchor_rows[
            slice(*self._anchor_starts[number : number + 2].tolist())
        ]
        return rows

    def _by_place(self) -> tuple[Rows, Rows]:
        """Return the images with enough others, place by place, and where each place starts.

        Of the data set's own places, all images; the last number is where the last place ends.
        """
        least = self._options.images_per_place
        sizes = np.diff(self._starts)
        can = np.repeat(sizes >= least, sizes)
        if not self._own:
            can &= self._candidates.have_near_in_group(self._sorted, self._starts, least - 1)
        rows: Rows = self._sorted[can]
        if not len(rows):
            raise DataError(
                f"no place has {least} images to draw: of {self.num_places} places, the "
                f"largest has {sizes.max()}; lower --sampling.images_per_place, or raise "
                "--sampling.place_cell_m or --sampling.near_radius_m"
            )
        is_first = np.diff(self.place_id[rows], prepend=-1) != 0
        return rows, np.append(np.flatnonzero(is_first), len(rows))
