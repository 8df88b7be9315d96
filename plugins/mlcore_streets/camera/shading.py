"""Light on surfaces: sky, sun and shadows by day; lamps, windows and headlights by night.

Shapes: ``K`` layers, ``H`` rows and ``W`` columns of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlcore_streets.camera.light import Light
from mlcore_streets.camera.raycast import Camera, View
from mlcore_streets.camera.surfaces import Surfaces
from mlcore_streets.scenery.furniture import LAMP_HEIGHT_M
from mlcore_streets.scenery.materials import NUM_MATERIALS, Material
from mlcore_streets.scenery.panels import Floats, Panels
from mlcore_streets.scenery.scene import Scene, sample

_SNOW_COVER = {
    Material.ROOF: 0.95, Material.LEDGE: 0.9, Material.ROAD: 0.72, Material.TRACK: 0.25,
    Material.MARKING: 0.72, Material.PAVEMENT: 0.9, Material.GRASS: 0.96,
    Material.CAR_TOP: 0.92, Material.FOLIAGE: 0.5,
}  # fmt: skip
_LAMP_COLOUR = np.array([1.0, 0.74, 0.42], dtype=np.float32)
_HEADLIGHT_COLOUR = np.array([0.95, 0.92, 0.82], dtype=np.float32)
_WINDOW_COLOUR = np.array([236.0, 190.0, 110.0], dtype=np.float32)
_SNOW_COLOUR = np.array([236.0, 239.0, 244.0], dtype=np.float32)
_GLOW = {
    Material.SIGN: 0.9, Material.SHOP: 0.0, Material.LAMP: 1.1, Material.HEAD_LAMP: 1.0,
    Material.TAIL_LAMP: 1.0,
}  # fmt: skip


def _table(values: dict[Material, float]) -> Floats:
    table = np.zeros(NUM_MATERIALS, dtype=np.float32)
    for material, value in values.items():
        table[material] = value
    return table


_SNOW_TABLE, _GLOW_TABLE = _table(_SNOW_COVER), _table(_GLOW)


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture to be shaded.

    Attributes:
        camera: Where it is taken.
        view: Which panels are seen.
        panels: All panels, of the town and of the traffic.
        surfaces: What each pixel shows.
    """

    camera: Camera
    view: View
    panels: Panels
    surfaces: Surfaces


def shade(shot: Shot, scene: Scene, light: Light, window_seed: int) -> Floats:
    """Return the picture ``(H, W, 3)``, 0 to 255 and beyond, the sky left as it is.

    Args:
        shot: The picture.
        scene: The district.
        light: Light of the drive.
        window_seed: Decides which windows are lit.
    """
    surfaces, condition = shot.surfaces, light.condition
    colour = surfaces.colour
    if condition.snow:
        cover = (_SNOW_TABLE * np.float32(condition.snow))[surfaces.material][..., None]
        colour = colour + cover * (_SNOW_COLOUR - colour)
    if condition.wet:
        colour = (
            colour * np.where(surfaces.is_ground, np.float32(0.62), np.float32(0.9))[..., None]
        )
    if condition.night:
        shaded = colour * _night_light(shot, scene, light)
        shaded += _glow(shot, window_seed)
    else:
        shaded = colour * _day_light(shot, light)
        glass = (surfaces.material == Material.GLASS) | (surfaces.material == Material.SHOP)
        sheen = np.float32(0.24) * np.asarray(condition.horizon, dtype=np.float32)
        shaded[glass] = 0.76 * shaded[glass] + sheen
    clear = np.exp(surfaces.depth_m * np.float32(-1 / condition.haze_m))[..., None]
    haze = np.asarray(condition.horizon, dtype=np.float32)
    result: Floats = haze + clear * (shaded - haze)
    return result


def _normals(shot: Shot) -> tuple[Floats, Floats]:
    """Return east and north of the unit normal, towards the camera, ``(K, W)`` each."""
    ends = shot.panels.ends_m[shot.view.panel]
    east, north = ends[..., 3] - ends[..., 1], ends[..., 0] - ends[..., 2]
    length = np.hypot(east, north) * np.where(shot.view.from_front, 1, -1).astype(np.float32)
    return east / length, north / length


def _hit_points(shot: Shot) -> tuple[Floats, Floats]:
    """Return where each ray meets each layer, ``(K, W)`` east and north."""
    camera = shot.camera
    ahead, right = camera.axes
    depth = np.minimum(shot.view.depth_m, np.float32(1e4))
    side = camera.slopes * depth
    east = np.float32(camera.x_m) + ahead[0] * depth + right[0] * side
    north = np.float32(camera.y_m) + ahead[1] * depth + right[1] * side
    return east, north


def _at_pixels(shot: Shot, by_layer: Floats) -> Floats:
    """Return ``(H, W)`` the value of each pixel's layer in its column."""
    return by_layer.reshape(-1)[shot.surfaces.slot]


def _day_light(shot: Shot, light: Light) -> Floats:
    surfaces, condition = shot.surfaces, light.condition
    east, north = _normals(shot)
    ambient = np.float32(0.88) + np.float32(0.1) * (east * 0.6 + north * 0.8)
    openness = _at_pixels(shot, ambient)
    openness *= np.float32(0.74) + np.float32(0.26) * np.clip(surfaces.height_m / 3, 0, 1)
    openness[surfaces.is_ground] = 0.98
    result: Floats = openness[..., None] * np.asarray(condition.ambient, dtype=np.float32)
    if light.shadow_top_m is None:
        return result
    round_things = shot.panels.faces_camera[shot.view.panel]
    facing = np.maximum(east * np.float32(light.sun[0]) + north * np.float32(light.sun[1]), 0)
    facing = np.where(round_things, np.float32(0.55), facing)
    x, y = _hit_points(shot)
    shadow = sample(light.shadow_top_m, x + east * 0.8, y + north * 0.8)
    shadow = np.where(round_things, np.float32(0), shadow)
    lit = np.clip((surfaces.height_m - _at_pixels(shot, shadow)) * 2 + 0.5, 0, 1)
    direct = _at_pixels(shot, facing) * lit
    ground = sample(light.shadow_top_m, surfaces.east_m, surfaces.north_m)
    on_ground = np.float32(light.sun[2]) * np.clip(1 - ground * 2, 0, 1)
    direct = np.where(surfaces.is_ground, on_ground, direct)
    result += direct[..., None] * np.asarray(condition.sun, dtype=np.float32)
    return result


def _night_light(shot: Shot, scene: Scene, light: Light) -> Floats:
    surfaces, camera = shot.surfaces, shot.camera
    pool = sample(scene.lamp_light, surfaces.east_m, surfaces.north_m)
    fade = np.exp(-np.square(np.maximum(surfaces.height_m - LAMP_HEIGHT_M + 1.5, 0) / 2.2))
    lamps = (np.float32(1.15) * pool * fade)[..., None] * _LAMP_COLOUR
    spread = np.abs(camera.slopes) / np.float32(0.75)
    near = 1 / (1 + np.square(surfaces.depth_m / 11))
    low = np.clip(1.6 - 0.55 * surfaces.height_m, 0, 1) * np.clip(1.25 - spread, 0, 1)
    beam = (np.float32(0.95) * near * low)[..., None] * _HEADLIGHT_COLOUR
    ambient = np.asarray(light.condition.ambient, dtype=np.float32)
    result: Floats = ambient + lamps + beam
    return result


def _glow(shot: Shot, window_seed: int) -> Floats:
    surfaces = shot.surfaces
    glow = surfaces.colour * _GLOW_TABLE[surfaces.material][..., None]
    window = surfaces.material == Material.GLASS
    key = shot.view.panel.reshape(-1)[surfaces.slot[window]] * 31
    key += (surfaces.colour[window][:, 0] / 3).astype(np.int64)
    chance = _hashed(key, window_seed)
    lit = np.clip((np.float32(0.3) - chance) / np.float32(0.3), 0, 1) ** np.float32(0.5)
    glow[window] = lit[:, None] * np.float32(0.8) * _WINDOW_COLOUR
    shop = surfaces.material == Material.SHOP
    house = shot.view.panel.reshape(-1)[surfaces.slot[shop]]
    bright = _hashed(house, window_seed + 1) < 0.55
    glow[shop] = bright[:, None] * np.float32(0.75) * _WINDOW_COLOUR
    return glow


def _hashed(keys: NDArray[np.int64], seed: int) -> Floats:
    """Return a number in [0, 1) for each key, the same for the same key and seed."""
    mixed = (keys.astype(np.uint32) + np.uint32(seed % 2**32)) * np.uint32(2654435761)
    mixed ^= mixed >> np.uint32(15)
    mixed *= np.uint32(2246822519)
    mixed ^= mixed >> np.uint32(13)
    share: Floats = (mixed >> np.uint32(8)).astype(np.float32) / np.float32(2**24)
    return share
