"""A district as the renderer needs it: panels, textures, ground, lamps, heights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlcore_streets import panels
from mlcore_streets.ground import Ground, paint_ground
from mlcore_streets.houses import Builder
from mlcore_streets.materials import Material
from mlcore_streets.panels import Floats, Panels
from mlcore_streets.seeds import stream
from mlcore_streets.textures import Atlas, Texture, build_atlas, canvas, plain, speckle
from mlcore_streets.town import Plan
from mlcore_streets.vehicles import VehicleModel, paint_fleet

RASTER_M = 0.5
LAMP_HEIGHT_M = 5.2
_LAMP_REACH_M = 18.0


@dataclass(frozen=True)
class Tree:
    """A tree; lengths in metres."""

    x_m: float
    y_m: float
    radius_m: float
    trunk_m: float
    height_m: float


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A district, the same in all traversals.

    Attributes:
        plan: Its streets and blocks.
        panels: Houses and hedges.
        atlas: All textures.
        ground: The ground.
        fleet: Vehicles that may pass or park.
        trees: Trees.
        lamps_m: ``(L, 2)`` street lamps.
        crown: Texture of a tree's crown.
        trunk: Texture of trunks.
        post: Texture of lamp posts.
        lamp: Texture of a lamp.
        heights_m: ``(h, w)`` height of houses and trees over each ``RASTER_M`` cell.
        lamp_light: ``(h, w)`` light of the street lamps on the ground.
    """

    plan: Plan
    panels: Panels
    atlas: Atlas
    ground: Ground
    fleet: tuple[VehicleModel, ...]
    trees: tuple[Tree, ...]
    lamps_m: Floats
    crown: int
    trunk: int
    post: int
    lamp: int
    heights_m: Floats
    lamp_light: Floats


def build_scene(seed: int, name: str, plan: Plan) -> Scene:
    """Return the district called ``name``."""
    rng = stream(seed, name, "houses")
    textures: list[Texture] = []
    builder = Builder(rng, textures)
    houses = panels.join([builder.build(block) for block in plan.blocks])
    crown = canvas(48, 48, (70, 92, 48), Material.FOLIAGE)
    speckle(crown, 20, rng, grain=5)
    speckle(crown, 14, rng, grain=2)
    first = len(textures)
    textures += [
        crown,
        plain((70, 58, 48)),
        plain((84, 88, 88)),
        plain((236, 224, 190), Material.LAMP),
    ]
    fleet = paint_fleet(stream(seed, name, "fleet"), textures)
    trees = _plant(plan, stream(seed, name, "trees"))
    lamps = _lamps(plan)
    return Scene(
        plan=plan,
        panels=houses,
        atlas=build_atlas(textures),
        ground=paint_ground(plan, stream(seed, name, "ground")),
        fleet=tuple(fleet),
        trees=trees,
        lamps_m=lamps,
        crown=first,
        trunk=first + 1,
        post=first + 2,
        lamp=first + 3,
        heights_m=_heights(plan, builder.footprints, trees),
        lamp_light=_lamp_light(plan, lamps),
    )


def _plant(plan: Plan, rng: np.random.Generator) -> tuple[Tree, ...]:
    places: list[tuple[float, float]] = []
    for streets, length, northward in (
        (plan.northward, plan.size_m[1], True),
        (plan.eastward, plan.size_m[0], False),
    ):
        for street in streets:
            if street.kind.trees:
                for along in np.arange(4.0, length, rng.uniform(11, 16)):
                    for side in (-1, 1):
                        across = street.at_m + side * (street.kind.kerb_m + 1.0)
                        places.append((across, along) if northward else (along, across))
    for block in plan.blocks:
        if block.kind in ("park", "villas"):
            x0, y0, x1, y1 = block.bounds_m
            inner, number = (3.0, 26) if block.kind == "park" else (2.0, 8)
            for _ in range(number):
                places.append(
                    (rng.uniform(x0 + inner, x1 - inner), rng.uniform(y0 + 2, y1 - 2))
                )
    trees = []
    for x, y in places:
        if not _on_road(plan, x, y) and rng.random() < 0.85:
            radius = float(rng.uniform(1.6, 3.0))
            trunk = float(rng.uniform(2.0, 3.0))
            trees.append(Tree(float(x), float(y), radius, trunk, trunk + 2.2 * radius))
    return tuple(trees)


def _on_road(plan: Plan, x: float, y: float) -> bool:
    beside = [(x, street) for street in plan.northward] + [(y, s) for s in plan.eastward]
    return any(abs(at - street.at_m) < street.kind.kerb_m + 0.8 for at, street in beside)


def _lamps(plan: Plan) -> Floats:
    """Street lamps on alternating sides."""
    places = []
    for streets, length, northward in (
        (plan.northward, plan.size_m[1], True),
        (plan.eastward, plan.size_m[0], False),
    ):
        for street in streets:
            for number, along in enumerate(np.arange(8.0, length, 24.0)):
                side = 1 if number % 2 else -1
                across = street.at_m + side * (street.kind.kerb_m + 0.5)
                places.append((across, along) if northward else (along, across))
    kept = [place for place in places if not _on_road(plan, place[0] + 1e-3, place[1])]
    kept = [place for place in places if not _inside_crossing(plan, *place)]
    return np.array(kept, dtype=np.float32).reshape(-1, 2)


def _inside_crossing(plan: Plan, x: float, y: float) -> bool:
    on_x = any(abs(x - s.at_m) < s.kind.kerb_m for s in plan.northward)
    on_y = any(abs(y - s.at_m) < s.kind.kerb_m for s in plan.eastward)
    return on_x or on_y


def raster_shape(plan: Plan) -> tuple[int, int]:
    """Return rows and columns of a raster over the district."""
    width, height = plan.size_m
    return int(np.ceil(height / RASTER_M)), int(np.ceil(width / RASTER_M))


def sample(raster: NDArray[np.float32], x_m: Floats, y_m: Floats) -> Floats:
    """Return the values of a raster at points, at its edge for points outside."""
    rows = (y_m * (1 / RASTER_M)).astype(np.int32).clip(0, raster.shape[0] - 1)
    columns = (x_m * (1 / RASTER_M)).astype(np.int32).clip(0, raster.shape[1] - 1)
    return raster[rows, columns]


def _heights(
    plan: Plan,
    footprints: list[tuple[tuple[float, float, float, float], float]],
    trees: tuple[Tree, ...],
) -> Floats:
    raster = np.zeros(raster_shape(plan), dtype=np.float32)
    for (x0, y0, x1, y1), height in footprints:
        c0, r0, c1, r1 = (round(side / RASTER_M) for side in (x0, y0, x1, y1))
        raster[r0:r1, c0:c1] = height
    for tree in trees:
        reach = 0.8 * tree.radius_m
        c0, c1 = (round((tree.x_m + s * reach) / RASTER_M) for s in (-1, 1))
        r0, r1 = (round((tree.y_m + s * reach) / RASTER_M) for s in (-1, 1))
        patch = raster[max(r0, 0) : r1, max(c0, 0) : c1]
        np.maximum(patch, tree.height_m, out=patch)
    return raster


def _lamp_light(plan: Plan, lamps_m: Floats) -> Floats:
    light = np.zeros(raster_shape(plan), dtype=np.float32)
    reach = int(_LAMP_REACH_M / RASTER_M)
    offsets = (np.arange(-reach, reach + 1) * RASTER_M).astype(np.float32)
    square = offsets[:, None] ** 2 + offsets[None] ** 2
    pool = LAMP_HEIGHT_M**3 / (square + LAMP_HEIGHT_M**2) ** 1.5
    for x, y in lamps_m:
        column, row = round(float(x) / RASTER_M), round(float(y) / RASTER_M)
        r0, r1 = max(row - reach, 0), min(row + reach + 1, light.shape[0])
        c0, c1 = max(column - reach, 0), min(column + reach + 1, light.shape[1])
        if r0 < r1 and c0 < c1:
            light[r0:r1, c0:c1] += pool[
                r0 - row + reach : r1 - row + reach, c0 - column + reach : c1 - column + reach
            ]
    return light
