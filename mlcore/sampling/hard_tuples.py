"""Tuples with hard images: near ones that look different, far ones that look alike.

Embeddings decide what is hard. They are computed for a window of tuples at once: for its
anchors, for some near images of each, and for a pool of random images to choose far ones from.
The window is planned as a whole, one window ahead of its use, so that neither prefetching nor
the number of workers changes a tuple.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from mlcore.options.engine import SamplingOptions
from mlcore.sampling.ahead import Directions, Embed
from mlcore.sampling.candidates import Candidates
from mlcore.sampling.training_images import Rows


class HardTuples:
    """Near and far images of the planned tuples.

    Memory: the embeddings of one window while it is planned, at most ``hard_refresh *
    (1 + near_per_tuple + hard_per_tuple) + hard_pool`` images.

    Args:
        candidates: Near and far candidates of each anchor.
        options: With ``hard_per_tuple`` of at least 1.
        seed: Of the tuples.
        anchor: Returns the anchor of a tuple and the generator of its other images.
    """

    def __init__(
        self,
        candidates: Candidates,
        options: SamplingOptions,
        seed: int,
        anchor: Callable[[int], tuple[int, np.random.Generator]],
    ) -> None:
        self._candidates = candidates
        self._options = options
        self._seed = seed
        self._anchor = anchor
        self._planned: dict[int, tuple[Rows, Rows]] = {}
        self.steps_per_window = -(-options.hard_refresh // options.tuples_per_batch)

    def near_and_far(self, number: int) -> tuple[Rows, Rows]:
        """Return the near and far rows of tuple ``number`` of the run, the hard ones first."""
        return self._planned[number]

    def has_planned(self, window: int) -> bool:
        """Return whether the tuples of a window are planned."""
        return window * self.steps_per_window * self._options.tuples_per_batch in self._planned

    def plan(self, window: int, embed: Embed) -> None:
        """Choose the images of a window's tuples; forget those of two windows ago."""
        size = self.steps_per_window * self._options.tuples_per_batch
        numbers = range(window * size, (window + 1) * size)
        generator = np.random.default_rng((self._seed, window, 2))
        num = self._candidates.num_images
        pool = generator.choice(num, size=min(self._options.hard_pool, num), replace=False)
        drafts = [self._draft(number) for number in numbers]
        anchors = np.array([anchor for anchor, _, _ in drafts])
        wanted = np.unique(np.concatenate([pool, anchors, *(near for _, near, _ in drafts)]))
        features = Directions(*embed(wanted))
        self._planned = {
            number: rows
            for number, rows in self._planned.items()
            if number >= numbers.start - size
        }
        for number, draft in zip(numbers, drafts, strict=True):
            self._planned[number] = self._choose(*draft, pool, features)

    def _draft(self, number: int) -> tuple[int, Rows, np.random.Generator]:
        """Return a tuple's anchor, near images to choose from, and its generator."""
        anchor, generator = self._anchor(number)
        near = self._candidates.near(anchor)
        num = min(self._options.near_per_tuple + self._options.hard_per_tuple, len(near))
        return anchor, generator.choice(near, size=num, replace=False), generator

    def _choose(
        self,
        anchor: int,
        near: Rows,
        generator: np.random.Generator,
        pool: Rows,
        features: Directions,
    ) -> tuple[Rows, Rows]:
        options, num = self._options, self._options.hard_per_tuple
        least_alike = features.by_similarity(anchor, near)[::-1][:num]
        others = near[~np.isin(near, least_alike)]
        near = np.concatenate([least_alike, others])[: options.near_per_tuple]
        most_alike = features.by_similarity(anchor, pool)
        hard = self._candidates.first_apart(np.array([anchor]), num, most_alike)
        if not len(hard):
            return near, self._candidates.draw_far(anchor, options.far_per_tuple, generator)
        rest = self._candidates.draw_apart(
            np.append(hard, anchor), options.far_per_tuple - len(hard), generator
        )
        return near, np.concatenate([hard, rest])

    def state_dict(self) -> dict[str, Any]:
        """Return the planned tuples as plain values."""
        return {
            str(number): [near.tolist(), far.tolist()]
            for number, (near, far) in self._planned.items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._planned = {
            int(number): (np.array(near, dtype=np.int64), np.array(far, dtype=np.int64))
            for number, (near, far) in state.items()
        }
