"""A district as the renderer needs it: panels, textures, ground, lamps, heights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlcore_streets.scenery import panels
from mlcore_streets.scenery.furniture import LAMP_HEIGHT_M, place_lamps, plant_trees
from mlcore_streets.scenery.ground import Ground, paint_ground
from mlcore_streets.scenery.houses import Builder
from mlcore_streets.scenery.materials import Material
from mlcore_streets.scenery.panels import Floats, Panels
from mlcore_streets.scenery.textures import Atlas, Texture, build_atlas, canvas, plain, speckle
from mlcore_streets.scenery.vehicles import VehicleModel, paint_fleet
from mlcore_streets.town.plan import Plan
from mlcore_streets.town.seeds import stream

RASTER_M = 0.5
_LAMP_REACH_M = 18.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A district, the same in all traversals.

    Attributes:
        plan: Its streets and blocks.
        panels: Houses and hedges.
        atlas: All textures.
        ground: The ground.
        fleet: Vehicles that may pass or park.
        trees: ``(T, 5)`` of :func:`mlcore_streets.scenery.furniture.plant_trees`.
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
    trees: Floats
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
    trees = plant_trees(plan, stream(seed, name, "trees"))
    lamps = place_lamps(plan)
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


def raster_shape(plan: Plan) -> tuple[int, int]:
    """Return rows and columns of a raster over the district."""
    width, height = plan.size_m
    return int(np.ceil(height / RASTER_M)), int(np.ceil(width / RASTER_M))


def sample(raster: NDArray[np.float32], x_m: Floats, y_m: Floats) -> Floats:
    """Return the values of a raster at points, at its edge for points outside."""
    rows = (y_m * (1 / RASTER_M)).astype(np.int32).clip(0, raster.shape[0] - 1)
    columns = (x_m * (1 / RASTER_M)).astype(np.int32).clip(0, raster.shape[1] - 1)
    values: Floats = raster[rows, columns]
    return values


def _heights(
    plan: Plan,
    footprints: list[tuple[tuple[float, float, float, float], float]],
    trees: Floats,
) -> Floats:
    raster = np.zeros(raster_shape(plan), dtype=np.float32)
    for (x0, y0, x1, y1), height in footprints:
        c0, r0, c1, r1 = (round(side / RASTER_M) for side in (x0, y0, x1, y1))
        raster[r0:r1, c0:c1] = height
    for x, y, radius, _, height in trees.tolist():
        reach = 0.8 * radius
        c0, r0, c1, r1 = (
            max(0, round(side / RASTER_M))
            for side in (x - reach, y - reach, x + reach, y + reach)
        )
        patch = raster[r0:r1, c0:c1]
        np.maximum(patch, np.float32(height), out=patch)
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
