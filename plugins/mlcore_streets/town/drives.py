"""Drives: who goes when through which district, and where each image is taken."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlcore_streets.conditions import CONDITIONS, Condition
from mlcore_streets.config import StreetsConfig
from mlcore_streets.town.route import Doubles, Route
from mlcore_streets.town.seeds import stream

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")

_LANE_MARGIN_M = 0.8
"""How far a car strays from the middle of its lane."""

_TRAINING_QUERIES = ("overcast", "sun", "sun", "night", "night", "snow", "snow", "rain", "rain")
_QUERIES = ("overcast", "sun", "night", "snow", "rain")


@dataclass(frozen=True)
class Drive:
    """One traversal of a district.

    Attributes:
        split: The district.
        name: Name within the split, such as "overcast-2".
        condition: Light and weather.
        spacing_m: Mean distance between images.
        is_reference: Whether its images are references.
    """

    split: SplitName
    name: str
    condition: Condition
    spacing_m: float
    is_reference: bool

    def rng(self, seed: int, *names: str | int) -> np.random.Generator:
        """Return the stream of random numbers of a part of this drive."""
        return stream(seed, self.split, self.name, *names)


@dataclass(frozen=True)
class Frames:
    """Where the images of a drive are taken; ``F`` of them.

    Attributes:
        along_m: ``(F,)`` place on the route.
        positions_m: ``(F, 2)`` in the district's frame.
        headings_rad: ``(F,)`` clockwise from north, in (-pi, pi].
        tilt: ``(F,)`` shift of the horizon, as a share of the image's height.
    """

    along_m: Doubles
    positions_m: Doubles
    headings_rad: Doubles
    tilt: Doubles

    def __len__(self) -> int:
        return len(self.along_m)


def plan_drives(config: StreetsConfig) -> list[Drive]:
    """Return all drives: references, then queries, split by split."""
    drives = []
    for split in SPLITS:
        training = split == "train"
        spacing = config.query_spacing_m if training else config.reference_spacing_m
        drives.append(Drive(split, "overcast-1", CONDITIONS["overcast"], spacing, True))
        count = {"overcast": 1}
        for name in _TRAINING_QUERIES if training else _QUERIES:
            count[name] = count.get(name, 0) + 1
            drive = f"{name}-{count[name]}"
            spacing = config.query_spacing_m
            drives.append(Drive(split, drive, CONDITIONS[name], spacing, False))
    return drives


def frames_of(drive: Drive, route: Route, seed: int) -> Frames:
    """Return where the images of a drive are taken.

    Speed, place in the lane and direction of view wander; on a street with two lanes one
    way, each drive chooses its own.
    """
    rng = drive.rng(seed, "poses")
    gaps = drive.spacing_m * rng.uniform(0.75, 1.25, int(2 * route.length_m / drive.spacing_m))
    along = np.cumsum(gaps) - gaps[0] * rng.uniform()
    along = along[along < route.length_m]
    lane = _lane_choice(along, rng) * route.second_lane(along)
    offset = rng.uniform(-0.6, 0.6) + 0.5 * _wander(along, 35.0, rng)
    right = lane + np.clip(offset, -_LANE_MARGIN_M, _LANE_MARGIN_M)
    positions, heading = route.at(along, right)
    steering = np.arctan(np.gradient(right, along)) if len(along) > 1 else 0.0
    mounting = math.radians(rng.uniform(-3.0, 3.0))
    jitter = math.radians(5.0) * _wander(along, 9.0, rng)
    heading = heading + steering + mounting + jitter
    return Frames(
        along_m=along,
        positions_m=positions,
        headings_rad=wrapped(heading),
        tilt=0.045 * rng.normal() + 0.045 * _wander(along, 8.0, rng),
    )


def wrapped(heading_rad: Doubles) -> Doubles:
    """Return headings in (-pi, pi]."""
    return math.pi - np.mod(math.pi - heading_rad, 2 * math.pi)


def _lane_choice(along: Doubles, rng: np.random.Generator) -> Doubles:
    """Return 0 (left lane) to 1 (right lane): piecewise constant with soft changes."""
    knots = np.arange(0, along[-1] + 120, 60.0)
    choice = (rng.random(len(knots)) < 0.5).astype(float)
    position = along / 60.0
    lower = np.floor(position).astype(int)
    step = np.clip((position - lower) * 3, 0, 1)
    ease = step * step * (3 - 2 * step)
    chosen: Doubles = choice[lower] * (1 - ease) + choice[lower + 1] * ease
    return chosen


def _wander(along: Doubles, length_m: float, rng: np.random.Generator) -> Doubles:
    """Return a smooth random function of unit standard deviation, roughly."""
    knots = np.arange(-length_m, along[-1] + 2 * length_m, length_m)
    values = 1.3 * rng.normal(size=len(knots))
    position = (along + length_m) / length_m
    lower = np.floor(position).astype(int)
    step = position - lower
    ease = step * step * (3 - 2 * step)
    smooth: Doubles = values[lower] * (1 - ease) + values[lower + 1] * ease
    return smooth
