"""What each pixel shows: colour, material, distance and height above the ground.

Shapes: ``K`` layers, ``H`` rows and ``W`` columns of pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlcore_streets.camera.raycast import FARTHEST_M, GROUND, NUM_LAYERS, SKY, Camera, View
from mlcore_streets.scenery.ground import GROUND_TEXEL_M, Ground
from mlcore_streets.scenery.panels import Floats, Ints, Panels
from mlcore_streets.scenery.textures import NUM_LEVELS, Atlas


@dataclass(frozen=True, kw_only=True)
class Surfaces:
    """Pixels before light falls on them.

    Attributes:
        colour: ``(H, W, 3)`` float32, 0 to 255; undefined in the sky.
        material: ``(H, W)`` uint8.
        depth_m: ``(H, W)`` along the optical axis.
        height_m: ``(H, W)`` above the ground.
        east_m: ``(H, W)`` position.
        north_m: ``(H, W)`` position.
        slot: ``(H, W)`` layer times ``W`` plus column, to fetch what a layer's column has.
        is_ground: ``(H, W)`` bool.
        is_sky: ``(H, W)`` bool.
    """

    colour: Floats
    material: NDArray[np.uint8]
    depth_m: Floats
    height_m: Floats
    east_m: Floats
    north_m: Floats
    slot: Ints
    is_ground: NDArray[np.bool_]
    is_sky: NDArray[np.bool_]


def resolve(
    camera: Camera, view: View, panels: Panels, atlas: Atlas, ground: Ground
) -> Surfaces:
    """Look up what every pixel shows."""
    is_sky, is_ground = view.layer == SKY, view.layer == GROUND
    columns = np.arange(camera.width_px, dtype=np.int64)
    slot = np.minimum(view.layer, NUM_LAYERS - 1) * np.int64(camera.width_px) + columns
    rows = np.arange(camera.height_px, dtype=np.float32)[:, None] + np.float32(0.5)
    texel, depth = _panel_texels(camera, view, panels, atlas, slot, rows)
    ground_texel, ground_depth = _ground_texels(camera, ground, rows)
    texel = np.where(is_ground, ground_texel, texel)
    depth = np.where(is_ground, ground_depth, depth)
    np.minimum(depth, FARTHEST_M, out=depth)
    height = camera.height_m - (rows - np.float32(camera.horizon_px)) * depth / np.float32(
        camera.focal_px
    )
    ahead, right = camera.axes
    channels = texel.view(np.uint8).reshape(*texel.shape, 4)
    side = camera.slopes * depth
    return Surfaces(
        colour=channels[..., :3].astype(np.float32),
        material=channels[..., 3],
        depth_m=depth,
        height_m=height,
        east_m=np.float32(camera.x_m) + ahead[0] * depth + right[0] * side,
        north_m=np.float32(camera.y_m) + ahead[1] * depth + right[1] * side,
        slot=slot,
        is_ground=is_ground,
        is_sky=is_sky,
    )


def _panel_texels(
    camera: Camera, view: View, panels: Panels, atlas: Atlas, slot: Ints, rows: Floats
) -> tuple[NDArray[np.uint32], Floats]:
    texture = np.where(
        view.from_front, panels.texture[view.panel], panels.back_texture[view.panel]
    )
    level = _level(camera, view, panels, atlas, texture)
    width = atlas.width[level, texture]
    column = np.minimum((view.along * width).astype(np.int64), width - 1)
    first = atlas.start[level, texture] + column
    height = atlas.height[level, texture]
    share = height / np.maximum(view.bottom_row - view.top_row, 1e-3)
    scale = share.astype(np.float32).reshape(-1)[slot]
    offset = view.top_row.reshape(-1)[slot]
    row = ((rows - offset) * scale).astype(np.int64)
    row = row.clip(0, height.reshape(-1)[slot] - 1)
    texels = atlas.texels[first.reshape(-1)[slot] + row * width.reshape(-1)[slot]]
    return texels, view.depth_m.reshape(-1)[slot]


def _level(camera: Camera, view: View, panels: Panels, atlas: Atlas, texture: Ints) -> Ints:
    """Return the resolution whose texels are about as large as the pixels."""
    rows = np.maximum(view.bottom_row - view.top_row, 1e-3)
    texels_per_row = atlas.height[0, texture] / rows
    ends = panels.ends_m[view.panel]
    length = np.hypot(ends[..., 2] - ends[..., 0], ends[..., 3] - ends[..., 1])
    metres_per_column = view.depth_m / np.float32(camera.focal_px)
    texels_per_column = atlas.width[0, texture] / length * metres_per_column
    coarse = np.log2(np.maximum(np.maximum(texels_per_row, texels_per_column), 1.0))
    coarse = np.where(np.isfinite(coarse), coarse, 0.0)
    return (coarse + 0.3).astype(np.int64).clip(0, NUM_LEVELS - 1)


def _ground_texels(
    camera: Camera, ground: Ground, rows: Floats
) -> tuple[NDArray[np.uint32], Floats]:
    below = np.maximum(rows - np.float32(camera.horizon_px), np.float32(0.05))
    depth = np.float32(camera.height_m * camera.focal_px) / below  # (H, 1)
    ahead, right = camera.axes
    slopes = camera.slopes
    east = np.float32(camera.x_m) + depth * (ahead[0] + right[0] * slopes)
    north = np.float32(camera.y_m) + depth * (ahead[1] + right[1] * slopes)
    texels = np.empty(east.shape, dtype=np.uint32)
    footprint = depth[:, 0] / np.float32(camera.focal_px) / np.float32(GROUND_TEXEL_M)
    # A pixel of the ground is far longer than wide: compromise.
    levels = np.log2(np.maximum(footprint * 2.0, 1.0)).astype(np.int64).clip(0, NUM_LEVELS - 1)
    for number, level in enumerate(ground.levels):
        chosen = levels == number
        if not chosen.any():
            continue
        size = np.float32(1 / (GROUND_TEXEL_M * 2**number))
        row = (north[chosen] * size).astype(np.int64).clip(0, level.shape[0] - 1)
        column = (east[chosen] * size).astype(np.int64).clip(0, level.shape[1] - 1)
        texels[chosen] = level[row, column]
    return texels, np.broadcast_to(depth, east.shape)
