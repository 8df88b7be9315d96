"""The ground of a district as one large texture: road, markings, kerbs, pavement, grass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlcore_streets.conditions import Colour
from mlcore_streets.scenery.materials import Material
from mlcore_streets.scenery.textures import (
    Texture,
    canvas,
    fill,
    packed,
    pyramid,
    speckle,
)
from mlcore_streets.town.plan import Plan, Rectangle, Street

GROUND_TEXEL_M = 0.25

_ASPHALT: Colour = (92, 92, 94)
_PAINT: Colour = (214, 212, 204)
_SLABS: Colour = (150, 146, 138)
_KERB: Colour = (178, 174, 166)
_GRASS: Colour = (88, 104, 60)
_BAY: Colour = (170, 168, 162)


@dataclass(frozen=True)
class Ground:
    """The ground at several resolutions; row 0 of a level is its southern edge.

    Attributes:
        levels: ``(h, w)`` uint32 RGBA texels, ``GROUND_TEXEL_M`` times 2**level each.
    """

    levels: tuple[NDArray[np.uint32], ...]


def paint_ground(plan: Plan, rng: np.random.Generator) -> Ground:
    """Return the ground of a district."""
    width, height = plan.size_m
    rows, columns = round(height / GROUND_TEXEL_M), round(width / GROUND_TEXEL_M)
    painter = _Painter(canvas(rows, columns, _GRASS, Material.GRASS))
    speckle(painter.texture, 10, rng, grain=3)
    for block in plan.blocks:
        if block.kind in ("terrace", "mixed"):
            painter.box(block.bounds_m, (118, 112, 104), Material.PAVEMENT)
    # All pavements before all roads, or one street's pavement would cross another's road.
    for street in plan.streets:
        painter.strip(street, street.kind.front_m, _SLABS, Material.PAVEMENT)
    for street in plan.streets:
        painter.strip(street, street.kind.kerb_m + 0.3, _KERB, Material.PAVEMENT)
    for street in plan.streets:
        painter.strip(street, street.kind.kerb_m, _ASPHALT, Material.ROAD)
    speckle(painter.texture, 5, rng, grain=6)
    _tracks(painter, plan)
    _markings(painter, plan, rng)
    _patches(painter, plan, rng)
    speckle(painter.texture, 4, rng)
    return Ground(tuple(packed(level) for level in pyramid(painter.texture)))


class _Painter:
    """Paints rectangles given in metres."""

    def __init__(self, texture: Texture) -> None:
        self.texture = texture

    def box(self, bounds: Rectangle, colour: Colour, material: Material) -> None:
        x0, y0, x1, y1 = (side / GROUND_TEXEL_M for side in bounds)
        fill(self.texture, (y0, y1), (x0, x1), colour, material)

    def strip(
        self, street: Street, half_width_m: float, colour: Colour, material: Material
    ) -> None:
        across = (-half_width_m, half_width_m)
        self.box(street.box((0.0, street.length_m), across), colour, material)

    def line(self, street: Street, span: tuple[float, float], across_m: float) -> None:
        """Paint a white line of a hand's breadth along a street."""
        across = (across_m - 0.12, across_m + 0.13)
        self.box(street.box(span, across), _PAINT, Material.MARKING)


def _tracks(painter: _Painter, plan: Plan) -> None:
    """Mark where wheels run; looks like the rest of the road until it snows."""
    for street, span in plan.legs(2.0):
        lanes = (street.kind.lane_m, street.kind.other_lane_m)
        for lane in (lane for lane in lanes if lane is not None):
            for middle in (-lane - 0.8, -lane + 0.8, lane - 0.8, lane + 0.8):
                box = street.box(span, (middle - 0.3, middle + 0.3))
                painter.box(box, (88, 88, 90), Material.TRACK)


def _markings(painter: _Painter, plan: Plan, rng: np.random.Generator) -> None:
    for street, span in plan.legs(2.0):
        style = rng.choice(["dashed", "solid", "none"], p=[0.6, 0.2, 0.2])
        if style == "solid":
            painter.line(street, (span[0] + 4, span[1] - 4), 0.0)
        elif style == "dashed":
            _dashes(painter, street, span, 0.0)
        if street.kind.other_lane_m is not None:
            middle = (street.kind.lane_m + street.kind.other_lane_m) / 2
            _dashes(painter, street, span, -middle)
            _dashes(painter, street, span, middle)
        if street.kind.parking_m is not None and rng.random() < 0.6:
            _bays(painter, street, span, street.kind.parking_m - 1.1)
        for start in (span[0], span[1] - 3.0):
            if rng.random() < 0.6:
                _zebra(painter, street, (start, start + 3.0))


def _dashes(
    painter: _Painter, street: Street, span: tuple[float, float], across_m: float
) -> None:
    for at in np.arange(span[0] + 4, span[1] - 4, 6.0):
        painter.line(street, (at, at + 3.0), across_m)


def _bays(painter: _Painter, street: Street, span: tuple[float, float], inner_m: float) -> None:
    kerb = street.kind.kerb_m
    for at in np.arange(span[0] + 6, span[1] - 6, 5.5):
        for across in ((inner_m, kerb), (-kerb, -inner_m)):
            painter.box(street.box((at, at + 0.2), across), _BAY, Material.MARKING)


def _zebra(painter: _Painter, street: Street, span: tuple[float, float]) -> None:
    for across in np.arange(-street.kind.kerb_m + 0.4, street.kind.kerb_m - 0.5, 1.0):
        painter.box(street.box(span, (across, across + 0.5)), _PAINT, Material.MARKING)


def _patches(painter: _Painter, plan: Plan, rng: np.random.Generator) -> None:
    """Mend the asphalt here and there."""
    for street, (start, end) in plan.legs(2.0):
        for _ in range(int((end - start) / 14)):
            at, across = rng.uniform(start, end), rng.uniform(-1, 1) * (street.kind.kerb_m - 1)
            length, width = rng.uniform(0.5, 6.0), rng.uniform(0.5, 1.8)
            grey = float(rng.uniform(60, 112))
            box = street.box((at, at + length), (across - width / 2, across + width / 2))
            painter.box(box, (grey, grey, grey), Material.ROAD)
