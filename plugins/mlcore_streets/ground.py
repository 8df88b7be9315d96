"""The ground of a district as one large texture: road, markings, kerbs, pavement, grass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlcore_streets.materials import Material
from mlcore_streets.textures import Colour, Texture, canvas, fill, packed, pyramid, speckle
from mlcore_streets.town import Plan, Rectangle, Street

GROUND_TEXEL_M = 0.25

_ASPHALT: Colour = (92, 92, 94)
_PAINT: Colour = (214, 212, 204)
_SLABS: Colour = (150, 146, 138)
_KERB: Colour = (178, 174, 166)
_GRASS: Colour = (88, 104, 60)


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
    for street, box in _strips(plan, lambda street: street.kind.front_m):
        painter.box(box, _SLABS, Material.PAVEMENT)
    for street, box in _strips(plan, lambda street: street.kind.kerb_m + 0.3):
        painter.box(box, _KERB, Material.PAVEMENT)
    for street, box in _strips(plan, lambda street: street.kind.kerb_m):
        painter.box(box, _ASPHALT, Material.ROAD)
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

    def along(
        self,
        street: Street,
        northward: bool,
        span: tuple[float, float],
        across: tuple[float, float],
        colour: Colour,
        material: Material,
    ) -> None:
        """Paint from ``span[0]`` to ``span[1]`` along a street, and so far across it."""
        low, high = street.at_m + across[0], street.at_m + across[1]
        if northward:
            self.box((low, span[0], high, span[1]), colour, material)
        else:
            self.box((span[0], low, span[1], high), colour, material)


def _strips(plan: Plan, half_width) -> list[tuple[Street, Rectangle]]:  # noqa
    width, height = plan.size_m
    northward = [
        (s, (s.at_m - half_width(s), 0.0, s.at_m + half_width(s), height))
        for s in plan.northward
    ]
    eastward = [
        (s, (0.0, s.at_m - half_width(s), width, s.at_m + half_width(s))) for s in plan.eastward
    ]
    return northward + eastward


def _legs(plan: Plan) -> list[tuple[Street, bool, tuple[float, float]]]:
    """Return each street between two crossings: street, northward?, from and to."""
    legs = []
    for northward, streets, crossing, extent in (
        (True, plan.northward, plan.eastward, plan.size_m[1]),
        (False, plan.eastward, plan.northward, plan.size_m[0]),
    ):
        starts = [0.0, *(c.at_m + c.kind.kerb_m + 2.0 for c in crossing)]
        ends = [*(c.at_m - c.kind.kerb_m - 2.0 for c in crossing), extent]
        legs += [
            (street, northward, span)
            for street in streets
            for span in zip(starts, ends, strict=True)
        ]
    return legs


def _tracks(painter: _Painter, plan: Plan) -> None:
    """Mark where wheels run; looks like the rest of the road until it snows."""
    for street, northward, span in _legs(plan):
        lanes = [street.kind.lane_m, street.kind.other_lane_m]
        for lane in (lane for lane in lanes if lane is not None):
            for sign in (-1, 1):
                for wheel in (-0.8, 0.8):
                    middle = sign * lane + wheel
                    painter.along(
                        street, northward, span, (middle - 0.3, middle + 0.3),
                        (88, 88, 90), Material.TRACK,
                    )  # fmt: skip


def _markings(painter: _Painter, plan: Plan, rng: np.random.Generator) -> None:
    for street, northward, (start, end) in _legs(plan):
        kind = street.kind
        style = rng.choice(["dashed", "solid", "none"], p=[0.6, 0.2, 0.2])
        for at in np.arange(start + 4, end - 4, 6.0):
            stop = at + (3.0 if style == "dashed" else 6.0)
            if style != "none":
                across = (-0.12, 0.13)
                painter.along(street, northward, (at, stop), across, _PAINT, Material.MARKING)
            if kind.other_lane_m is not None:
                middle = (kind.lane_m + kind.other_lane_m) / 2
                for side in (-middle, middle):
                    painter.along(
                        street, northward, (at, at + 3.0), (side - 0.12, side + 0.13),
                        _PAINT, Material.MARKING,
                    )  # fmt: skip
        if kind.parking_m is not None and rng.random() < 0.6:
            _bays(painter, street, northward, (start, end))
        for at, inward in ((start, 1), (end, -1)):
            if rng.random() < 0.6:
                for stripe in np.arange(-kind.kerb_m + 0.4, kind.kerb_m - 0.5, 1.0):
                    span = (min(at, at + 3 * inward), max(at, at + 3 * inward))
                    painter.along(
                        street, northward, span, (stripe, stripe + 0.5),
                        _PAINT, Material.MARKING,
                    )  # fmt: skip


def _bays(
    painter: _Painter, street: Street, northward: bool, span: tuple[float, float]
) -> None:
    assert street.kind.parking_m is not None
    inner = street.kind.parking_m - 1.1
    for at in np.arange(span[0] + 6, span[1] - 6, 5.5):
        for across in ((inner, street.kind.kerb_m), (-street.kind.kerb_m, -inner)):
            painter.along(
                street, northward, (at, at + 0.2), across, (170, 168, 162), Material.MARKING
            )


def _patches(painter: _Painter, plan: Plan, rng: np.random.Generator) -> None:
    """Mended asphalt and manholes."""
    for street, northward, (start, end) in _legs(plan):
        for _ in range(int((end - start) / 14)):
            at, across = rng.uniform(start, end), rng.uniform(-1, 1) * (street.kind.kerb_m - 1)
            length, width = rng.uniform(0.5, 6.0), rng.uniform(0.5, 1.8)
            grey = float(rng.uniform(60, 112))
            painter.along(
                street, northward, (at, at + length), (across - width / 2, across + width / 2),
                (grey, grey, grey), Material.ROAD,
            )  # fmt: skip
