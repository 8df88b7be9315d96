"""The plan of a district: streets on an uneven grid, blocks, houses and what stands about.

All in the district's own frame, metres, x east and y north of its corner.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlcore_streets.town.seeds import stream

Rectangle = tuple[float, float, float, float]
"""x and y of the south-west, then of the north-east corner."""

BlockKind = Literal["terrace", "mixed", "villas", "park"]

MARGIN_M = 70.0
"""Depth of the blocks outside the outermost streets."""


@dataclass(frozen=True)
class StreetKind:
    """A cross-section; lengths in metres from the middle of the street.

    Attributes:
        lane_m: Middle of the lane that is driven.
        other_lane_m: Middle of a second lane, where there is one.
        parking_m: Middle of the parking lane, where there is one.
        kerb_m: Edge of the road.
        front_m: Line of the houses.
        trees: Whether trees stand along the kerb.
    """

    lane_m: float
    other_lane_m: float | None
    parking_m: float | None
    kerb_m: float
    front_m: float
    trees: bool


KINDS = {
    "lane": StreetKind(1.5, None, None, 3.1, 5.4, trees=False),
    "street": StreetKind(1.7, None, 4.4, 5.5, 8.2, trees=False),
    "avenue": StreetKind(1.9, 5.0, 7.9, 9.0, 13.0, trees=True),
}


@dataclass(frozen=True)
class Street:
    """A straight street from one end of the district to the other.

    Attributes:
        at_m: Its x if it runs north, its y if it runs east.
        length_m: End to end.
        kind: Its cross-section.
        northward: Whether it runs north, or else east.
    """

    at_m: float
    length_m: float
    kind: StreetKind
    northward: bool

    def point(self, along_m: float, across_m: float) -> tuple[float, float]:
        """Return x and y of a point, so far east of a street north, or north of one east."""
        beside = self.at_m + across_m
        return (beside, along_m) if self.northward else (along_m, beside)

    def box(self, along_m: tuple[float, float], across_m: tuple[float, float]) -> Rectangle:
        """Return the rectangle between two places along the street and two across it."""
        x0, y0 = self.point(along_m[0], across_m[0])
        x1, y1 = self.point(along_m[1], across_m[1])
        return (x0, y0, x1, y1)

    def covers(self, x_m: float, y_m: float, half_width_m: float) -> bool:
        """Return whether a point is within ``half_width_m`` of the middle of the street."""
        return abs((x_m if self.northward else y_m) - self.at_m) < half_width_m

    def heading_rad(self, across_m: float) -> float:
        """Return where traffic goes on that side of the street; it keeps right."""
        if self.northward:
            return 0.0 if across_m > 0 else math.pi
        return math.pi / 2 if across_m < 0 else -math.pi / 2


@dataclass(frozen=True)
class Block:
    """Land between streets."""

    bounds_m: Rectangle
    kind: BlockKind


@dataclass(frozen=True)
class Plan:
    """A district.

    Attributes:
        size_m: Extent in x and y.
        northward: Streets along y, by growing x.
        eastward: Streets along x, by growing y.
        blocks: What lies between them.
    """

    size_m: tuple[float, float]
    northward: tuple[Street, ...]
    eastward: tuple[Street, ...]
    blocks: tuple[Block, ...]

    @property
    def streets(self) -> tuple[Street, ...]:
        """All streets."""
        return self.northward + self.eastward

    def crossing(self, street: Street) -> tuple[Street, ...]:
        """Return the streets that cross one, in the order they do."""
        return self.eastward if street.northward else self.northward

    def legs(self, clearance_m: float) -> Iterator[tuple[Street, tuple[float, float]]]:
        """Yield each street from crossing to crossing, ``clearance_m`` off their kerbs."""
        for street in self.streets:
            others = self.crossing(street)
            starts = [0.0, *(o.at_m + o.kind.kerb_m + clearance_m for o in others)]
            ends = [*(o.at_m - o.kind.kerb_m - clearance_m for o in others), street.length_m]
            for span in zip(starts, ends, strict=True):
                yield street, span


def draw_plan(seed: int, name: str, route_length_m: float) -> Plan:
    """Return a district with streets enough for a route of that length."""
    rng = stream(seed, name, "plan")
    columns, rows = _grid_size(route_length_m)
    east_kinds, east_m = _draw_lines(rng, columns)
    north_kinds, north_m = _draw_lines(rng, rows)
    width, height = east_m[-1] + MARGIN_M, north_m[-1] + MARGIN_M
    northward = tuple(
        Street(at, height, kind, northward=True)
        for at, kind in zip(east_m, east_kinds, strict=True)
    )
    eastward = tuple(
        Street(at, width, kind, northward=False)
        for at, kind in zip(north_m, north_kinds, strict=True)
    )
    blocks = tuple(
        Block((x0, y0, x1, y1), _draw_kind(rng))
        for x0, x1 in _between(northward, width)
        for y0, y1 in _between(eastward, height)
    )
    return Plan((width, height), northward, eastward, blocks)


def _grid_size(route_length_m: float) -> tuple[int, int]:
    """Return numbers of streets whose total length exceeds the route's by half."""
    columns, rows = 2, 2
    while 75.0 * (columns * (rows - 1) + rows * (columns - 1)) < 1.4 * route_length_m:
        if columns <= rows:
            columns += 1
        else:
            rows += 1
    return columns, rows


def _draw_lines(rng: np.random.Generator, number: int) -> tuple[list[StreetKind], list[float]]:
    """Return the kinds of parallel streets, and where they lie."""
    gaps = rng.uniform(58.0, 96.0, number - 1)
    places = MARGIN_M + np.concatenate([[0.0], np.cumsum(gaps)])
    names = rng.choice(["lane", "street", "avenue"], size=number, p=[0.25, 0.5, 0.25])
    return [KINDS[str(name)] for name in names], places.tolist()


def _between(streets: Sequence[Street], extent_m: float) -> list[tuple[float, float]]:
    """Return the intervals that the streets leave for houses."""
    starts = [0.0, *(street.at_m + street.kind.front_m for street in streets)]
    ends = [*(street.at_m - street.kind.front_m for street in streets), extent_m]
    return list(zip(starts, ends, strict=True))


def _draw_kind(rng: np.random.Generator) -> BlockKind:
    kinds: tuple[BlockKind, ...] = ("terrace", "mixed", "villas", "park")
    return kinds[rng.choice(4, p=[0.38, 0.40, 0.14, 0.08])]
