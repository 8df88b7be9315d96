"""Houses along the blocks of a district, as panels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mlcore_streets.scenery import designs, facades, panels
from mlcore_streets.scenery.materials import Material
from mlcore_streets.scenery.panels import Panels, make
from mlcore_streets.scenery.textures import Texture, canvas, speckle
from mlcore_streets.town.plan import Block, Rectangle

_NUM_DESIGNS = 44
_VARIANTS = 2
_CORNER_M = 3.0


@dataclass(frozen=True)
class Front:
    """A painted house front: its design and its numbers in the atlas."""

    design: designs.Design
    texture: int
    side: int


class Builder:
    """Fills blocks with houses of a district's designs.

    Few designs and variants serve many houses: fronts repeat, as they do in a town.

    Args:
        rng: Decides everything.
        textures: The textures of the atlas to be, to which the fronts are added.
    """

    def __init__(self, rng: np.random.Generator, textures: list[Texture]) -> None:
        self._rng = rng
        self._families: list[list[Front]] = []
        for _ in range(_NUM_DESIGNS):
            design = designs.draw_design(rng)
            textures.append(facades.blind_wall(design, rng))
            side = len(textures) - 1
            family = []
            for _ in range(_VARIANTS):
                textures.append(facades.paint(design, rng))
                family.append(Front(design, len(textures) - 1, side))
            self._families.append(family)
        hedge = canvas(24, 96, (62, 84, 46), Material.FOLIAGE)
        speckle(hedge, 16, rng, grain=2)
        textures.append(hedge)
        self._hedge = len(textures) - 1
        self.footprints: list[tuple[Rectangle, float]] = []
        """Of all houses so far, with the height in metres."""

    def build(self, block: Block) -> Panels:
        """Return the panels of a block."""
        parts = [self._row(block, side) for side in range(4)]
        return panels.join([part for side in parts for part in side])

    def _row(self, block: Block, side: int) -> list[Panels]:
        """Return the houses along one side, 0 south, 1 east, 2 north, 3 west."""
        x0, y0, x1, y1 = block.bounds_m
        length = (x1 - x0) if side % 2 == 0 else (y1 - y0)
        parts = [self._fence(block, side)]
        if block.kind == "park":
            return parts
        depth = 10.0
        start, end = (0.0, length) if side % 2 == 0 else (depth, length - depth)
        for along, front, setback in self._fronts(block, start, end):
            bounds = _placed(
                block.bounds_m, side, along, along + front.design.width_m, setback, depth
            )
            parts.append(self._house(bounds, side, front, block))
        return parts

    def _fronts(
        self, block: Block, start: float, end: float
    ) -> Iterator[tuple[float, Front, float]]:
        """Yield where each house begins, its front and its distance from the building line."""
        rng = self._rng
        along, left_in_row = start, 0
        family = self._families[0]
        while True:
            if left_in_row == 0:
                family = self._families[rng.integers(len(self._families))]
                left_in_row = int(rng.integers(3, 7)) if block.kind == "terrace" else 1
                gap = {"terrace": 0.08, "mixed": 0.14, "villas": 0.9}[block.kind]
                along += float(rng.uniform(3, 9)) if rng.random() < gap else 0.0
            front = family[rng.integers(len(family))]
            if along + front.design.width_m > end:
                smaller = [f[0] for f in self._families if along + f[0].design.width_m <= end]
                if not smaller:
                    return
                front, left_in_row = smaller[rng.integers(len(smaller))], 1
            yield along, front, 4.0 if block.kind == "villas" else 0.0
            along += front.design.width_m
            left_in_row -= 1

    def _house(self, bounds: Rectangle, side: int, front: Front, block: Block) -> Panels:
        textures = [
            front.texture
            if wall == side or _on_edge(bounds, block.bounds_m, wall)
            else front.side
            for wall in range(4)
        ]
        outline = front.design.profile
        flat = panels.FLAT
        height = front.design.height_m
        self.footprints.append((bounds, height))
        profile = [outline if wall % 2 == side % 2 else flat for wall in range(4)]
        low = height * (0.74 if outline != flat else 1.0)
        tops = [height if wall % 2 == side % 2 else low for wall in range(4)]
        return make(
            panels.rectangle_ends(*bounds), top_m=tops, texture=textures, profile=profile
        )

    def _fence(self, block: Block, side: int) -> Panels:
        """A hedge closes a park, gardens, and the gaps between houses."""
        inset = 0.4 if block.kind in ("park", "villas") else 1.5
        height = 1.1 if block.kind in ("park", "villas") else 2.2
        x0, y0, x1, y1 = block.bounds_m
        ends = panels.rectangle_ends(x0 + inset, y0 + inset, x1 - inset, y1 - inset)[side]
        pieces = np.linspace(0, 1, max(2, int((x1 - x0) / 8)) + 1)
        start, end = np.array(ends[:2]), np.array(ends[2:])
        points = start + pieces[:, None] * (end - start)
        return make(
            np.concatenate([points[:-1], points[1:]], axis=1).astype(np.float32),
            top_m=height,
            texture=self._hedge,
            back_texture=self._hedge,
        )


def _on_edge(bounds: Rectangle, block: Rectangle, side: int) -> bool:
    """Return whether that side of a house stands on the edge of its block, at a street."""
    coordinate = (1, 2, 3, 0)[side]
    return abs(bounds[coordinate] - block[coordinate]) < _CORNER_M


def _placed(
    bounds: Rectangle, side: int, start: float, end: float, setback: float, depth: float
) -> Rectangle:
    """Return a house's footprint, ``start`` to ``end`` along a block's side."""
    x0, y0, x1, y1 = bounds
    near, far = setback, setback + depth
    match side:
        case 0:
            return (x0 + start, y0 + near, x0 + end, y0 + far)
        case 1:
            return (x1 - far, y0 + start, x1 - near, y0 + end)
        case 2:
            return (x0 + start, y1 - far, x0 + end, y1 - near)
        case _:
            return (x0 + near, y0 + start, x0 + far, y0 + end)
