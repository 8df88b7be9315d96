"""The light of one drive: where the sun stands and what it leaves in shadow."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mlcore_streets.conditions import Condition
from mlcore_streets.scenery.panels import Floats
from mlcore_streets.scenery.scene import RASTER_M, Scene
from mlcore_streets.town.drives import Drive


@dataclass(frozen=True)
class Light:
    """What lights a drive.

    Attributes:
        condition: Weather and colours.
        exposure: Factor on all brightness.
        tint: Factor on each colour channel, the camera's white balance.
        sun: Unit vector towards the sun: east, north, up.
        shadow_top_m: ``(h, w)`` up to which height the air over each cell is in shadow;
            None without a sun.
    """

    condition: Condition
    exposure: float
    tint: Floats
    sun: tuple[float, float, float]
    shadow_top_m: Floats | None


def draw_light(scene: Scene, drive: Drive, seed: int) -> Light:
    """Return the light of a drive."""
    rng = drive.rng(seed, "light")
    condition = drive.condition
    azimuth = rng.uniform(0, 2 * math.pi)
    elevation = math.radians(rng.uniform(38, 58))
    sun = (
        math.sin(azimuth) * math.cos(elevation),
        math.cos(azimuth) * math.cos(elevation),
        math.sin(elevation),
    )
    return Light(
        condition=condition,
        exposure=math.exp(condition.exposure_spread * float(rng.normal())),
        tint=np.exp(0.025 * rng.normal(size=3)).astype(np.float32),
        sun=sun,
        shadow_top_m=shadow_top(scene.heights_m, sun) if any(condition.sun) else None,
    )


def shadow_top(heights_m: Floats, sun: tuple[float, float, float]) -> Floats:
    """Return up to which height the air over each cell of ``heights_m`` is in shadow.

    The heights march away from the sun, each step lower by the sun's slope.
    """
    flat = math.hypot(sun[0], sun[1])
    fall_m = sun[2] / flat * RASTER_M
    shadow = np.zeros_like(heights_m)
    for step in range(1, int(float(heights_m.max()) / fall_m) + 1):
        rows = round(-sun[1] / flat * step)
        columns = round(-sun[0] / flat * step)
        target, source = (
            _overlap(rows, heights_m.shape[0]),
            _overlap(columns, heights_m.shape[1]),
        )
        moved = heights_m[target[1], source[1]] - np.float32(step * fall_m)
        np.maximum(shadow[target[0], source[0]], moved, out=shadow[target[0], source[0]])
    return shadow


def _overlap(shift: int, size: int) -> tuple[slice, slice]:
    """Return where to and where from a line of ``size`` cells shifts."""
    return slice(max(shift, 0), size + min(shift, 0)), slice(
        max(-shift, 0), size - max(shift, 0)
    )
