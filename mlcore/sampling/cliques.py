"""Batches of places that are hard to tell apart: cliques of near images.

After CliqueMining (Izquierdo and Civera, *Close, But Not There: Boosting Geographic Distance
Sensitivity in Visual Place Recognition*, ECCV 2024). There, the images of a graph are those of
the sequences that look most like a random one; here, those around images that do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np

from mlcore.errors import DataError
from mlcore.options.engine import SamplingOptions
from mlcore.protocols import Role, Split
from mlcore.sampling.ahead import Directions, Embed
from mlcore.sampling.candidates import Candidates
from mlcore.sampling.planner import BatchPlan
from mlcore.sampling.training_images import Rows, TrainingImages, location_rows
from mlcore.sampling.visits import PartOf, Visits

_MOST_AROUND = 256
"""Random images taken around each center, at most: bounds the graph where images are dense."""

_DRAWS = 100
"""Random locations tried where those next in turn lead to too few cliques."""


class CliquePlanner:
    """Draws ``places_per_batch`` cliques of ``images_per_place`` images.

    A clique is a set of images within the near radius of each other that look the same way. A
    batch starts at the next location in turn and takes a clique there. Around its image and
    those of a pool that look most like it, it then takes one random clique after another, and
    each time drops the images within the far radius of the clique, until no clique is left.
    If the batch needs more, it goes on at the next location. So its places may lie just beyond
    the far radius of each other, or look alike. A batch is smaller where the data have no more
    cliques beyond that radius of those taken.

    Each clique is a tuple of an anchor and near images; the anchors of the others are its far
    images. An epoch draws as many cliques as there are locations.

    Args:
        split: References and queries, both of which are drawn from.
        options: Sizes and radii; the radii are numbers.
        seed: Of the batches.
        part_of: For ``balance`` datasets.

    Attributes:
        images: What batches are drawn from.
        ahead: The cliques of the planned steps.

    Raises:
        ConfigError: The options contradict each other.
        DataError: There are too few cliques.
    """

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
        rows = location_rows(split.references, options.location_spacing_m)
        candidates = Candidates.of(self.images, options)
        self._locations = rows[candidates.have_cliques(rows, options.images_per_place)]
        self._left_out = len(rows) - len(self._locations)
        if not len(self._locations):
            raise DataError(
                f"no place has {options.images_per_place} images to draw: at none of "
                f"{len(rows)} locations are there as many within {options.near_radius_m:g} m "
                f"of each other that look the same way; lower --sampling.images_per_place, or "
                "raise --sampling.near_radius_m or --sampling.near_heading_limit_deg"
            )
        visits = Visits(self._locations, self.images, options.balance, part_of, seed)
        self._visits = visits
        self.ahead = Cliques(candidates, options, seed, self._locations, visits)
        self.ahead.require_enough()

    @cached_property
    def place_id(self) -> Rows:
        """``(N,)`` place of each training image, numbered from 0."""
        return self.images.places(self._options.place_cell_m)

    @cached_property
    def num_places(self) -> int:
        """Number of places."""
        return int(self.place_id.max()) + 1

    @property
    def num_locations(self) -> int:
        """Locations of which one epoch draws as many cliques."""
        return len(self._locations)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch, the last one filled from the next epoch."""
        return math.ceil(self.num_locations / self._options.places_per_batch)

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on the batches for the user."""
        least = self._options.images_per_place
        counts = (
            f"{len(self.images)} training images, {self.num_locations} locations with cliques "
            f"of {least} images, {self.steps_per_epoch} steps per epoch"
        )
        left_out = f"{self._left_out} locations without a clique are left out"
        return (counts, *([left_out] if self._left_out else []), *self._visits.notes)

    def plan(self, step: int, attempt: int = 0) -> BatchPlan:
        """Return the images of the batch of a step, from 0; see :meth:`TuplePlanner.plan`."""
        cliques = self.ahead.cliques(step, attempt)
        role = np.full(cliques.shape, int(Role.NEAR))
        role[:, 0] = Role.ANCHOR
        number = step * self._options.places_per_batch
        return BatchPlan(
            rows=cliques.ravel(),
            tuple_id=np.repeat(np.arange(len(cliques)), cliques.shape[1]),
            role=role.ravel(),
            epoch=self._visits.epoch(number)[0],
        )


class Cliques:
    """The cliques of the batches of a window of steps; see :class:`CliquePlanner`.

    Memory: the embeddings of one window while it is planned, of at most ``hard_refresh +
    places_per_batch + hard_pool`` images; and ``clique_centers * 256`` rows of a graph, whose
    edges are computed as they are needed.

    Args:
        candidates: Which images are near and far.
        options: Sizes and radii.
        seed: Of the batches.
        locations: Rows of the locations with a clique.
        visits: The order of the locations.
    """

    def __init__(
        self,
        candidates: Candidates,
        options: SamplingOptions,
        seed: int,
        locations: Rows,
        visits: Visits,
    ) -> None:
        self._candidates = candidates
        self._options = options
        self._seed = seed
        self._locations = locations
        self._visits = visits
        self._planned: dict[int, Rows] = {}
        self.steps_per_window = -(-options.hard_refresh // options.places_per_batch)

    def cliques(self, step: int, attempt: int = 0) -> Rows:
        """Return the cliques of a step, ``(places, images_per_place)``, their anchors first.

        Those of an ``attempt`` are at random locations and around random images.
        """
        if not attempt:
            return self._planned[step]
        generator = np.random.default_rng((self._seed, step, attempt, 6))
        return self._batch(self._some_locations(generator), generator, None)

    def require_enough(self) -> None:
        """Check that a batch can be filled.

        Raises:
            DataError: There are fewer cliques far from each other, as far as a search in
                random order can see, than places of a batch.
        """
        generator = np.random.default_rng(self._seed)
        wanted, size = self._options.places_per_batch, self._options.images_per_place
        taken = np.empty(0, np.int64)
        count = 0
        for location in generator.permutation(self._locations).tolist():
            clique = self._at(location, taken)
            taken, count = np.append(taken, clique), count + (len(clique) > 0)
            if count == wanted:
                return
        raise DataError(
            f"--sampling.places_per_batch {wanted} is more than the data have: there are about "
            f"{count} places with {size} images each that lie beyond "
            f"{self._candidates.far_radius_m:g} m of each other; lower it, "
            "--sampling.images_per_place or --sampling.far_radius_m"
        )

    def has_planned(self, window: int) -> bool:
        """Return whether the steps of a window are planned."""
        return window * self.steps_per_window in self._planned

    def plan(self, window: int, embed: Embed) -> None:
        """Choose the images of a window's steps; forget those of two windows ago."""
        size, num = self.steps_per_window, self._candidates.num_images
        steps = range(window * size, (window + 1) * size)
        generator = np.random.default_rng((self._seed, window, 2))
        pool = generator.choice(num, size=min(self._options.hard_pool, num), replace=False)
        seeds = {step: self._next_locations(step) for step in steps}
        wanted = np.unique(np.concatenate([pool, *seeds.values()]))
        directions = Directions(*embed(wanted))
        self._planned = {
            step: rows for step, rows in self._planned.items() if step >= steps.start - size
        }
        for step in steps:
            generator = np.random.default_rng((self._seed, step, 6))
            rows = np.append(seeds[step], self._some_locations(generator))
            self._planned[step] = self._batch(rows, generator, (pool, directions))

    def _next_locations(self, step: int) -> Rows:
        size = self._options.places_per_batch
        numbers = range(step * size, (step + 1) * size)
        return self._locations[[self._visits.location(number) for number in numbers]]

    def _some_locations(self, generator: np.random.Generator) -> Rows:
        num = _DRAWS + self._options.places_per_batch
        return self._locations[generator.integers(len(self._locations), size=num)]

    def _batch(
        self,
        seeds: Rows,
        generator: np.random.Generator,
        alike: tuple[Rows, Directions] | None,
    ) -> Rows:
        """Return cliques at and around ``seeds``, in their order, until there are enough."""
        found: list[Rows] = []
        for seed in seeds.tolist():
            missing = self._options.places_per_batch - len(found)
            if not missing:
                break
            found += self._group(
                seed, missing, np.array(found, np.int64).ravel(), generator, alike
            )
        return np.stack(found)

    def _group(
        self,
        seed: int,
        num: int,
        taken: Rows,
        generator: np.random.Generator,
        alike: tuple[Rows, Directions] | None,
    ) -> list[Rows]:
        """Return up to ``num`` cliques far from ``taken``, the first one at ``seed``."""
        first = self._at(seed, taken, generator)
        if not len(first):
            return []
        found, size = [first], self._options.images_per_place
        rows = self._around(self._centers(seed, generator, alike), generator)
        rows = rows[self._candidates.are_far(rows, np.append(taken, first))]
        while len(found) < num and len(rows) >= size:
            clique = self._candidates.clique(int(rows[0]), rows[1:], size)
            if len(clique):
                found.append(clique)
                rows = rows[self._candidates.are_far(rows, clique)]
            else:
                rows = rows[1:]
        return found

    def _at(
        self, location: int, taken: Rows, generator: np.random.Generator | None = None
    ) -> Rows:
        """Return a clique with the image of a location that is far from ``taken``, or none."""
        rows = self._candidates.near(location)
        rows = rows if generator is None else generator.permutation(rows)
        here = np.append(location, rows)
        taken = self._candidates.within_reach(taken, location)
        far = self._candidates.are_far(here, taken)
        if not far[0]:
            return rows[:0]
        return self._candidates.clique(
            location, here[1:][far[1:]], self._options.images_per_place
        )

    def _centers(
        self,
        seed: int,
        generator: np.random.Generator,
        alike: tuple[Rows, Directions] | None,
    ) -> Rows:
        """Return ``seed`` and the images, far from each other, that look most like it.

        Random ones, where its image could not be read or nothing is known of it.
        """
        num, own = self._options.clique_centers - 1, np.array([seed])
        others = np.empty(0, np.int64)
        if alike is not None:
            pool, directions = alike
            others = directions.by_similarity(seed, pool)
        if len(others):
            return np.append(own, self._candidates.first_apart(own, num, others))
        return np.append(own, self._candidates.draw_apart(own, num, generator))

    def _around(self, centers: Rows, generator: np.random.Generator) -> Rows:
        """Return images around centers in random order, each once."""
        radius_m, parts = self._options.clique_radius_m, []
        for center in centers.tolist():
            rows = self._candidates.within(center, radius_m)
            num = min(_MOST_AROUND, len(rows))
            parts.append(generator.choice(rows, size=num, replace=False))
        return generator.permutation(np.unique(np.concatenate(parts)))

    def state_dict(self) -> dict[str, Any]:
        """Return the planned cliques as plain values."""
        return {str(step): rows.tolist() for step, rows in self._planned.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._planned = {
            int(step): np.array(rows, dtype=np.int64) for step, rows in state.items()
        }
