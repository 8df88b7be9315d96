"""What lies between the town and the picture: sky, wet road, flakes, drops, the sensor."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlcore_streets.camera.light import Light
from mlcore_streets.camera.raycast import Camera
from mlcore_streets.camera.surfaces import Surfaces
from mlcore_streets.conditions import Condition
from mlcore_streets.scenery.panels import Floats

_CLOUD_COLUMNS = 256
_CLOUD_ROWS = 48


def draw_clouds(rng: np.random.Generator) -> Floats:
    """Return the brightness of the clouds of a drive, all round: ``(48, 256)``, about 0."""
    clouds = np.zeros((_CLOUD_ROWS, _CLOUD_COLUMNS), dtype=np.float32)
    for columns, amount in ((8, 0.8), (16, 0.6), (32, 0.4)):
        rows = columns // 2
        coarse = rng.normal(size=(rows, columns)) * amount
        coarse = np.concatenate([coarse, coarse[:, :1]], axis=1)
        across = np.stack(
            [
                np.interp(
                    np.arange(_CLOUD_COLUMNS), np.linspace(0, _CLOUD_COLUMNS, columns + 1), row
                )
                for row in coarse
            ]
        )
        down = np.linspace(0, rows - 1, _CLOUD_ROWS)
        clouds += np.stack([np.interp(down, np.arange(rows), c) for c in across.T], axis=1)
    return clouds


def paint_sky(
    picture: Floats, surfaces: Surfaces, camera: Camera, light: Light, clouds: Floats
) -> None:
    """Fill the sky of a picture, in place."""
    condition = light.condition
    rows, columns = np.nonzero(surfaces.is_sky)
    elevation = (camera.horizon_px - rows) / camera.focal_px
    share = np.clip(elevation / 0.6, 0, 1).astype(np.float32)[:, None]
    top = np.asarray(condition.sky, dtype=np.float32)
    bottom = np.asarray(condition.horizon, dtype=np.float32)
    turn = camera.heading_rad + np.arctan(camera.slopes[columns])
    column = (turn * (_CLOUD_COLUMNS / (2 * np.pi))).astype(np.int64) % _CLOUD_COLUMNS
    row = np.clip(elevation * 50, 0, _CLOUD_ROWS - 1).astype(np.int64)
    cloud = clouds[row, column][:, None] * np.float32(condition.clouds)
    picture[rows, columns] = bottom + share * (top - bottom) + cloud


def mirror_in_road(
    picture: Floats, surfaces: Surfaces, wet: float, rng: np.random.Generator
) -> None:
    """Add the reflection of what stands behind the wet ground, in place."""
    height, width = surfaces.is_ground.shape
    foot = np.where(surfaces.is_ground.any(axis=0), surfaces.is_ground.argmax(axis=0), height)
    rows, columns = np.nonzero(surfaces.is_ground)
    ripple = rng.integers(-1, 2, size=len(rows))
    source = (2 * foot[columns] - rows - 1 + ripple).clip(0, height - 1)
    across = (columns + rng.integers(-1, 2, size=len(rows))).clip(0, width - 1)
    mirrored = picture[source, across]
    share = np.float32(wet)
    picture[rows, columns] = (1 - 0.55 * share) * picture[
        rows, columns
    ] + share * 0.7 * mirrored


def add_flakes(picture: Floats, condition: Condition, rng: np.random.Generator) -> None:
    """Let snow fall in front of the camera, in place."""
    height, width = picture.shape[:2]
    number = round(condition.flakes * height * width / (48 * 128) * rng.uniform(0.4, 1.3))
    rows, columns = rng.integers(height, size=number), rng.integers(width, size=number)
    strength = rng.uniform(0.3, 0.9, number).astype(np.float32)[:, None]
    large = rng.random(number) < 0.25
    for down, right, kept in ((0, 0, slice(None)), (1, 0, large), (0, 1, large), (1, 1, large)):
        r, c = (
            (rows[kept] + down).clip(0, height - 1),
            (columns[kept] + right).clip(0, width - 1),
        )
        picture[r, c] += strength[kept] * (250 - picture[r, c])


def add_drops(picture: Floats, condition: Condition, rng: np.random.Generator) -> None:
    """Put drops on the lens, in place: each shows the scene upside down and brighter."""
    height, width = picture.shape[:2]
    still = picture.copy()
    for _ in range(int(rng.integers(condition.drops + 1))):
        radius = float(rng.uniform(0.02, 0.07)) * height
        row, column = rng.uniform(0, height), rng.uniform(0, width)
        rows = np.arange(max(0, int(row - radius)), min(height, int(row + radius) + 1))
        columns = np.arange(max(0, int(column - radius)), min(width, int(column + radius) + 1))
        if not len(rows) or not len(columns):
            continue
        inside = (rows[:, None] - row) ** 2 + (columns - column) ** 2 <= radius**2
        up = (row - 4 * (rows - row)).astype(np.int64).clip(0, height - 1)
        across = (column - 4 * (columns - column)).astype(np.int64).clip(0, width - 1)
        seen = still[up[:, None], across] * np.float32(1.08) + np.float32(8)
        patch = picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        patch[inside] = seen[inside]


def expose(picture: Floats, light: Light, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return what the camera makes of the light: exposure, white balance, noise, 8 bits."""
    gain = np.float32(light.exposure * np.exp(0.05 * rng.normal()))
    noise = rng.standard_normal(picture.shape, dtype=np.float32)
    exposed = picture * (gain * light.tint) + noise * np.float32(light.condition.noise)
    image: NDArray[np.uint8] = np.clip(exposed, 0, 255).astype(np.uint8)
    return image
