"""In which order the tuples of a run visit locations: a function of seed and number."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mlcore.sampling.training_images import Rows, TrainingImages

Balance = Literal["locations", "datasets", "regions"]
PartOf = Callable[[Rows], Rows]
"""Returns the number of the data set of each image, by index, where there are several."""


class Visits:
    """Every location once per epoch in random order, or the locations of each group in turn.

    Args:
        locations: Rows of the locations.
        images: All training images.
        balance: What takes turns; "locations" is one group.
        part_of: For "datasets".
        seed: Of the order.
    """

    def __init__(
        self,
        locations: Rows,
        images: TrainingImages,
        balance: Balance,
        part_of: PartOf | None,
        seed: int,
    ) -> None:
        self._size = len(locations)
        self._seed = seed
        self._balance = balance
        codes: NDArray[np.integer] | None = None
        if balance == "regions" and images.region is not None:
            codes = images.region[locations]
        elif balance == "datasets" and part_of is not None:
            codes = part_of(images.index[locations])
        self._groups: list[Rows] = []
        if codes is not None:
            self._groups = [np.flatnonzero(codes == code) for code in np.unique(codes)]

    @property
    def notes(self) -> tuple[str, ...]:
        """Which groups take turns, for the user."""
        if not self._groups:
            return ()
        sizes = ", ".join(str(len(group)) for group in self._groups)
        return (f"{self._balance} in turn, {len(self._groups)} of them with {sizes} locations",)

    def epoch(self, number: int) -> tuple[int, int]:
        """Return the epoch of a tuple and its place in it."""
        return divmod(number, self._size)

    def location(self, number: int) -> int:
        """Return the location of a tuple of the run."""
        if len(self._groups) < 2:
            epoch, visit = self.epoch(number)
            return int(_order((self._seed, epoch), self._size)[visit])
        turn, group = divmod(number, len(self._groups))
        locations = self._groups[group]
        cycle, place = divmod(turn, len(locations))
        return int(
            locations[_order_of_group((self._seed, cycle, group, 4), len(locations))[place]]
        )


@lru_cache(maxsize=4)
def _order(seed: tuple[int, ...], size: int) -> Rows:
    return np.random.default_rng(seed).permutation(size)


@lru_cache(maxsize=64)  # the groups together are as large as one order of all
def _order_of_group(seed: tuple[int, ...], size: int) -> Rows:
    return np.random.default_rng(seed).permutation(size)
