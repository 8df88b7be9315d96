"""Capture conditions: light, weather and what a camera makes of them."""

from __future__ import annotations

from dataclasses import dataclass

Colour = tuple[float, float, float]
"""Red, green and blue: sRGB values from 0 to 255, or factors on them."""


@dataclass(frozen=True, kw_only=True)
class Condition:
    """Light and weather. Colours are factors on a surface's own, or sRGB values of the sky.

    Attributes:
        name: As it appears in tables.
        ambient: Light from everywhere.
        sun: Light of the sun on a surface that faces it.
        sky: Colour of the sky overhead.
        horizon: Colour of the sky at the horizon, and of the haze.
        clouds: Contrast of the clouds.
        haze_m: Distance at which a third is left of a surface's contrast.
        snow: Share of a flat surface that snow covers.
        wet: How much the road mirrors.
        night: Whether lamps, windows and headlights shine.
        flakes: Snowflakes in an image of 128 x 48 px.
        drops: Largest number of drops on the lens.
        noise: Standard deviation of the sensor's noise, in grey levels.
        exposure_spread: Standard deviation of the exposure's logarithm between drives.
    """

    name: str
    ambient: Colour
    sky: Colour
    horizon: Colour
    sun: Colour = (0.0, 0.0, 0.0)
    clouds: float = 0.0
    haze_m: float = 400.0
    snow: float = 0.0
    wet: float = 0.0
    night: bool = False
    flakes: int = 0
    drops: int = 0
    noise: float = 2.5
    exposure_spread: float = 0.1


OVERCAST = Condition(
    name="overcast",
    ambient=(0.92, 0.93, 0.95),
    sky=(188, 194, 202),
    horizon=(214, 217, 220),
    clouds=18.0,
)
SUN = Condition(
    name="sun",
    ambient=(0.80, 0.83, 0.89),
    sun=(0.66, 0.59, 0.45),
    sky=(84, 140, 214),
    horizon=(176, 204, 232),
    clouds=22.0,
    haze_m=700.0,
)
NIGHT = Condition(
    name="night",
    ambient=(0.15, 0.155, 0.19),
    sky=(12, 14, 24),
    horizon=(40, 34, 34),
    night=True,
    noise=5.0,
    exposure_spread=0.15,
)
SNOW = Condition(
    name="snow",
    ambient=(0.86, 0.89, 0.95),
    sky=(198, 202, 208),
    horizon=(216, 218, 222),
    clouds=4.0,
    haze_m=75.0,
    snow=1.0,
    flakes=130,
    noise=3.0,
)
RAIN = Condition(
    name="rain",
    ambient=(0.70, 0.73, 0.78),
    sky=(126, 132, 140),
    horizon=(156, 160, 166),
    clouds=10.0,
    haze_m=220.0,
    wet=0.55,
    drops=7,
    noise=3.5,
)

CONDITIONS = {condition.name: condition for condition in (OVERCAST, SUN, NIGHT, SNOW, RAIN)}
