"""A tiny data set in memory: three traversals of a loop, each place with its own colours."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mlcore.errors import DataError
from mlcore.protocols import PlaceTable, Split

LAP = 60
TRAVERSALS = ("overcast", "sun", "night")


@dataclass
class SyntheticDataset:
    """Images are functions of position and traversal; ``broken`` ones cannot be read.

    Attributes:
        radius_m: Of the loop, one image every 2 m or so.
        broken: Indices of images that raise.
        height: Of the images, in pixels.
    """

    radius_m: float = 20.0
    broken: frozenset[int] = frozenset()
    height: int = 32
    fingerprint: str = "synthetic"
    notes: tuple[str, ...] = ()
    train: Split = field(init=False)
    validation: Split = field(init=False)
    test: Split = field(init=False)

    def __post_init__(self) -> None:
        splits = [self._split(number) for number in range(3)]
        self.train, self.validation, self.test = splits

    def load_image(self, index: int) -> Tensor:
        if index in self.broken:
            raise DataError(f"image {self.image_name(index)} cannot be decoded: synthetic")
        district, rest = divmod(index, LAP * len(TRAVERSALS))
        traversal, place = divmod(rest, LAP)
        generator = np.random.default_rng((district, place // 2))
        colours = generator.uniform(60, 250, size=(3, self.height // 8, 8))
        image = colours.repeat(8, axis=1).repeat(8, axis=2) * (1.0, 1.1, 0.5)[traversal]
        noise = np.random.default_rng(index).normal(0, 4, image.shape)
        return torch.from_numpy(np.clip(image + noise, 0, 255).astype(np.uint8))

    def image_name(self, index: int) -> str:
        return f"synthetic/{index:04d}"

    def _split(self, district: int) -> Split:
        return Split(
            references=self._table(district, (0,)), queries=self._table(district, (1, 2))
        )

    def _table(self, district: int, traversals: tuple[int, ...]) -> PlaceTable:
        angle = np.tile(np.arange(LAP) * 2 * math.pi / LAP, len(traversals))
        number = np.repeat(np.array(traversals), LAP)
        place = np.tile(np.arange(LAP), len(traversals))
        positions = self.radius_m * np.stack([np.sin(angle), np.cos(angle)], axis=1)
        codes = number - traversals[0]
        names = tuple(TRAVERSALS[number] for number in traversals)
        return PlaceTable(
            index=(district * len(TRAVERSALS) + number) * LAP + place,
            positions_m=positions + np.array([620_000.0 + 1000 * district, 5_735_000.0]),
            headings_rad=np.pi - np.mod(np.pi - (angle + math.pi / 2), 2 * np.pi),
            traversal=codes,
            traversals=names,
            condition=codes,
            conditions=names,
        )
