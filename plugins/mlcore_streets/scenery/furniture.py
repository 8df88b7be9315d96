"""What stands along the streets: trees and lamps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlcore_streets.scenery.panels import Floats
from mlcore_streets.town.plan import Plan

LAMP_HEIGHT_M = 5.2
_LAMP_SPACING_M = 24.0


def plant_trees(plan: Plan, rng: np.random.Generator) -> Floats:
    """Return the trees along avenues, in parks and in gardens.

    Returns:
        ``(T, 5)``: x, y, radius of the crown, height of the trunk, height of the tree.
    """
    trees = []
    for x, y in (*_along_avenues(plan, rng), *_on_lawns(plan, rng)):
        if rng.random() < 0.85:
            radius, trunk = rng.uniform(1.6, 3.0), rng.uniform(2.0, 3.0)
            trees.append((x, y, radius, trunk, trunk + 2.2 * radius))
    return np.array(trees, dtype=np.float32).reshape(-1, 5)


def _along_avenues(plan: Plan, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    for street, (start, end) in plan.legs(2.0):
        if street.kind.trees:
            beside = street.kind.kerb_m + 1.0
            for along in np.arange(start + 2, end - 2, rng.uniform(11, 16)).tolist():
                yield street.point(along, -beside)
                yield street.point(along, beside)


def _on_lawns(plan: Plan, rng: np.random.Generator) -> Iterator[tuple[float, float]]:
    for block in plan.blocks:
        if block.kind in ("park", "villas"):
            x0, y0, x1, y1 = block.bounds_m
            for _ in range(26 if block.kind == "park" else 8):
                yield float(rng.uniform(x0 + 3, x1 - 3)), float(rng.uniform(y0 + 3, y1 - 3))


def place_lamps(plan: Plan) -> Floats:
    """Return ``(L, 2)`` street lamps, on alternating sides of every street."""
    places = []
    for street, (start, end) in plan.legs(4.0):
        for number, along in enumerate(np.arange(start, end, _LAMP_SPACING_M).tolist()):
            side = 1 if number % 2 else -1
            places.append(street.point(along, side * (street.kind.kerb_m + 0.5)))
    return np.array(places, dtype=np.float32).reshape(-1, 2)
