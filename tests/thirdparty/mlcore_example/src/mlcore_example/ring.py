"""A data set that is computed, not read."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mlcore import DataError, PlaceTable, Split

_CENTRES_M = ((455_000.0, 5_735_000.0), (456_000.0, 5_735_000.0), (457_000.0, 5_735_000.0))
_LAPS = ("day", "night")
_HEIGHT_PX, _WIDTH_PX, _STRIPE_PX = 32, 64, 8


@dataclass
class Ring:
    """Three rings, a kilometre apart, driven once by day and once by night.

    Args:
        radius_m: Of each ring.
        num_images: On each lap.
    """

    radius_m: float
    num_images: int
    notes: tuple[str, ...] = ()
    train: Split = field(init=False)
    validation: Split = field(init=False)
    test: Split = field(init=False)

    def __post_init__(self) -> None:
        self.train, self.validation, self.test = (self._split(ring) for ring in range(3))

    @property
    def fingerprint(self) -> str:
        return f"ring-{self.radius_m:g}-{self.num_images}"

    def load_image(self, index: int) -> Tensor:
        """Return stripes whose colours tell the place; darker by night."""
        ring, lap, place = self._parts(index)
        colours = np.random.default_rng((ring, place // 3)).uniform(
            80, 250, size=(3, 1, _WIDTH_PX // _STRIPE_PX)
        )
        noise = np.random.default_rng(index).normal(0, 5, size=(3, _HEIGHT_PX, _WIDTH_PX))
        image = colours.repeat(_STRIPE_PX, axis=2) * (0.5 if lap else 1.0) + noise
        return torch.from_numpy(image.clip(0, 255).astype(np.uint8))

    def image_name(self, index: int) -> str:
        """Return ring, lap and number of an image."""
        ring, lap, place = self._parts(index)
        return f"ring{ring}/{_LAPS[lap]}/{place:04d}"

    def _parts(self, index: int) -> tuple[int, int, int]:
        ring, rest = divmod(index, self.num_images * len(_LAPS))
        if not 0 <= ring < len(_CENTRES_M):
            raise DataError(f"ring has no image {index}")
        return ring, *divmod(rest, self.num_images)

    def _split(self, ring: int) -> Split:
        return Split(references=self._lap(ring, 0), queries=self._lap(ring, 1))

    def _lap(self, ring: int, lap: int) -> PlaceTable:
        place = np.arange(self.num_images)
        angle = place * 2 * math.pi / self.num_images
        offset_m = self.radius_m * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        codes = np.zeros(self.num_images, dtype=np.int64)
        return PlaceTable(
            index=place + (ring * len(_LAPS) + lap) * self.num_images,
            positions_m=offset_m + np.array(_CENTRES_M[ring]),
            # Clockwise: a quarter turn to the right of the way out.
            headings_rad=math.pi - np.mod(math.pi / 2 - angle, 2 * math.pi),
            arc_length_m=angle * self.radius_m,
            traversal=codes,
            traversals=(_LAPS[lap],),
            condition=codes,
            conditions=(_LAPS[lap],),
        )
