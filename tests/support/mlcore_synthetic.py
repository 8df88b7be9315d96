"""A plugin for tests: a tiny data set in memory, and a loss that explodes.

Found like any other, wherever this folder is on the path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

import mlcore
from mlcore.errors import DataError
from mlcore.protocols import PlaceTable, Split

LAP = 60
TRAVERSALS = ("overcast", "sun", "night")


@cache
def _pixels(index: int, height: int) -> NDArray[np.uint8]:
    """Return an image ``(3, H, W)``; a run reads each of them several times."""
    district, rest = divmod(index, LAP * len(TRAVERSALS))
    traversal, place = divmod(rest, LAP)
    generator = np.random.default_rng((district, place // 2))
    colours = generator.uniform(60, 250, size=(3, height // 8, 8))
    image = colours.repeat(8, axis=1).repeat(8, axis=2) * (1.0, 1.1, 0.5)[traversal]
    noise = np.random.default_rng(index).normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@dataclass
class SyntheticDataset:
    """Three traversals of a loop; images are functions of position and traversal; ``broken`` ones cannot be read.

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
        return torch.from_numpy(_pixels(index, self.height).copy())

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


@dataclass(frozen=True, kw_only=True)
class SyntheticConfig:
    """Options of the synthetic data set.

    Attributes:
        radius_m: Radius of the loop in metres.
        broken: Indices of images that cannot be read.
    """

    radius_m: float = 20.0
    broken: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ExplodingConfig:
    """Options of the exploding loss.

    Attributes:
        at_call: The call that returns NaN, from 1.
        in_gradient: Whether only the gradient is NaN.
    """

    at_call: int = 3
    in_gradient: bool = False


class ExplodingLoss(torch.nn.Module):
    """The mean of the embeddings, until it is NaN."""

    def __init__(self, config: ExplodingConfig) -> None:
        super().__init__()
        self.config = config
        self.calls = 0

    def forward(self, embeddings: Tensor, batch: Any, tuples: Any = None) -> mlcore.LossOutput:
        self.calls += 1
        loss = embeddings.mean()
        if self.calls == self.config.at_call:
            zero = embeddings.sum() * 0
            loss = loss + (zero.sqrt() if self.config.in_gradient else math.nan)
        return mlcore.LossOutput(loss)


@mlcore.hookimpl
def mlcore_datasets() -> list[mlcore.DatasetFactory]:
    return [
        mlcore.DatasetFactory(
            name="synthetic",
            summary="coloured blocks along a loop",
            config=SyntheticConfig,
            build=lambda config, _context: SyntheticDataset(
                radius_m=config.radius_m, broken=frozenset(config.broken)
            ),
        )
    ]


@mlcore.hookimpl
def mlcore_losses() -> list[mlcore.LossFactory]:
    return [
        mlcore.LossFactory(
            name="exploding",
            summary="returns NaN at the third call",
            config=ExplodingConfig,
            build=lambda config, _context: ExplodingLoss(config),
        )
    ]
