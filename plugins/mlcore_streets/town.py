"""The plan of a district: streets on an uneven grid, blocks, houses and what stands about.

All in the district's own frame, metres, x east and y north of its corner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlcore_streets.seeds import stream

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
    "avenue": StreetKind(1.9, 5.2, 8.0, 9.1, 13.0, trees=True),
}


@dataclass(frozen=True)
class Street:
    """A street along a grid line; ``at_m`` is its x (northwards) or y (eastwards)."""

    at_m: float
    kind: StreetKind


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


def draw_plan(seed: int, name: str, route_length_m: float) -> Plan:
    """Return a district with streets enough for a route of that length."""
    rng = stream(seed, name, "plan")
    columns, rows = _grid_size(route_length_m)
    northward, width = _draw_streets(rng, columns)
    eastward, height = _draw_streets(rng, rows)
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


def _draw_streets(rng: np.random.Generator, number: int) -> tuple[tuple[Street, ...], float]:
    gaps = rng.uniform(58.0, 96.0, number - 1)
    places = MARGIN_M + np.concatenate([[0.0], np.cumsum(gaps)])
    names = rng.choice(["lane", "street", "avenue"], size=number, p=[0.25, 0.5, 0.25])
    streets = tuple(
        Street(float(place), KINDS[str(name)])
        for place, name in zip(places, names, strict=True)
    )
    return streets, float(places[-1] + MARGIN_M)


def _between(streets: Sequence[Street], extent_m: float) -> list[tuple[float, float]]:
    """Return the intervals that the streets leave for houses."""
    starts = [0.0, *(street.at_m + street.kind.front_m for street in streets)]
    ends = [*(street.at_m - street.kind.front_m for street in streets), extent_m]
    return list(zip(starts, ends, strict=True))


def _draw_kind(rng: np.random.Generator) -> BlockKind:
    kinds: tuple[BlockKind, ...] = ("terrace", "mixed", "villas", "park")
    return kinds[rng.choice(4, p=[0.38, 0.40, 0.14, 0.08])]
