"""The districts of a town: each with its route and drives, and its place in the town."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mlcore_streets.camera.drive_renderer import DriveRenderer
from mlcore_streets.config import StreetsConfig
from mlcore_streets.scenery.scene import build_scene
from mlcore_streets.town.drives import (
    SPLITS,
    Drive,
    Frames,
    SplitName,
    frames_of,
    plan_drives,
    wrapped,
)
from mlcore_streets.town.plan import Plan, draw_plan
from mlcore_streets.town.route import Doubles, Route, draw_route
from mlcore_streets.town.seeds import stream

_BETWEEN_M = 300.0
"""Least distance between two districts: nothing of one is seen from another."""


@dataclass(frozen=True)
class District:
    """One district, as far as positions need it; houses are built when it is rendered.

    Attributes:
        name: The split it serves.
        plan: Streets and blocks.
        route: The way all its drives take.
        drives: Its drives with the places of their images, references first.
        first_index: Index of each drive's first image.
        middle_m: Where the middle of the district lies in the town.
        turn_rad: How far its grid is turned, counter-clockwise.
    """

    name: SplitName
    plan: Plan
    route: Route
    drives: tuple[tuple[Drive, Frames], ...]
    first_index: tuple[int, ...]
    middle_m: tuple[float, float]
    turn_rad: float

    @property
    def stop_index(self) -> int:
        """One past the index of the last image."""
        return self.first_index[-1] + len(self.drives[-1][1])

    def in_town(self, frames: Frames) -> tuple[Doubles, Doubles]:
        """Return positions ``(F, 2)`` in metres and headings in the frame of the town."""
        sine, cosine = math.sin(self.turn_rad), math.cos(self.turn_rad)
        local = frames.positions_m - np.array(self.plan.size_m) / 2
        turned = local @ np.array([[cosine, sine], [-sine, cosine]])
        return turned + np.array(self.middle_m), wrapped(frames.headings_rad - self.turn_rad)


def draw_districts(config: StreetsConfig) -> tuple[District, ...]:
    """Return the districts of a town, their images numbered through."""
    seed, drives = config.town_seed, plan_drives(config)
    districts: list[District] = []
    index, east_m = 0, 0.0
    for name in SPLITS:
        length = float(getattr(config, f"{name}_length_m"))
        plan = draw_plan(seed, name, length)
        route = draw_route(plan, length, stream(seed, name, "route"))
        own = tuple((d, frames_of(d, route, seed)) for d in drives if d.split == name)
        counts = np.cumsum([index, *(len(frames) for _, frames in own)])
        radius = math.hypot(*plan.size_m) / 2
        district = District(
            name=name,
            plan=plan,
            route=route,
            drives=own,
            first_index=tuple(int(count) for count in counts[:-1]),
            middle_m=(east_m + radius, radius),
            turn_rad=float(stream(seed, name, "turn").uniform(0, 2 * math.pi)),
        )
        districts.append(district)
        index, east_m = district.stop_index, east_m + 2 * radius + _BETWEEN_M
    return tuple(districts)


def renderers(
    config: StreetsConfig, districts: tuple[District, ...], start: int, stop: int
) -> Iterator[tuple[DriveRenderer, range]]:
    """Yield who renders images ``start`` to ``stop``, and which of its images these are."""
    for district in districts:
        if district.stop_index <= start or district.first_index[0] >= stop:
            continue
        scene = build_scene(config.town_seed, district.name, district.plan)
        for (drive, frames), first in zip(district.drives, district.first_index, strict=True):
            numbers = range(max(start - first, 0), min(stop - first, len(frames)))
            if numbers:
                yield DriveRenderer(config, scene, district.route, drive, frames), numbers
