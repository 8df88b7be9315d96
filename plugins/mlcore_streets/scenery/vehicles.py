"""Cars, vans and buses: boxes of panels with an outline, parked and passing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlcore_streets.conditions import Colour
from mlcore_streets.scenery import panels
from mlcore_streets.scenery.materials import Material
from mlcore_streets.scenery.panels import Panels, make
from mlcore_streets.scenery.textures import Texture, canvas, fill, plain, scaled

_PAINTS: tuple[Colour, ...] = (
    (40, 42, 48), (196, 198, 200), (228, 228, 226), (120, 124, 130), (150, 30, 30),
    (36, 58, 110), (70, 84, 72), (176, 160, 130), (206, 160, 40), (24, 90, 110),
)  # fmt: skip
_GLASS: Colour = (44, 52, 62)


@dataclass(frozen=True)
class VehicleModel:
    """A vehicle of one shape and colour; lengths in metres, textures by number.

    Attributes:
        length_m: Bumper to bumper.
        width_m: Across.
        height_m: Of the roof.
        outline: Of its sides, a profile.
        side: Texture of both sides.
        front: Texture of the front.
        rear: Texture of the rear.
        top: Texture of what is seen from above.
        window: Texture of front and rear window, where the cabin is set back.
    """

    length_m: float
    width_m: float
    height_m: float
    outline: int
    side: int
    front: int
    rear: int
    top: int
    window: int


def paint_fleet(rng: np.random.Generator, textures: list[Texture]) -> list[VehicleModel]:
    """Return the vehicles of a town; their textures are added to ``textures``.

    Two of three are cars; every sixth is a van, every sixth a bus or lorry.
    """
    fleet = []
    for number in range(18):
        paint = scaled(_PAINTS[rng.integers(len(_PAINTS))], float(rng.uniform(0.85, 1.1)))
        if number % 6 == 4:
            size = (float(rng.uniform(4.8, 6.2)), 2.0, float(rng.uniform(2.0, 2.6)))
        elif number % 6 == 5:
            size = (float(rng.uniform(8.0, 11.0)), 2.5, float(rng.uniform(2.9, 3.3)))
        else:
            size = (float(rng.uniform(3.8, 4.7)), 1.8, float(rng.uniform(1.4, 1.7)))
        first = len(textures)
        boxy = number % 6 >= 4
        textures += [
            _side(paint, boxy, number % 6 == 5),
            _end(paint, boxy, Material.HEAD_LAMP, (250, 246, 226)),
            _end(paint, boxy, Material.TAIL_LAMP, (176, 24, 20)),
            plain(scaled(paint, 0.95), Material.CAR_TOP),
            plain(_GLASS, Material.CAR),
        ]
        outline = panels.FLAT if boxy else panels.CAR
        fleet.append(VehicleModel(*size, outline, *range(first, first + 5)))
    return fleet


def _side(paint: Colour, boxy: bool, bus: bool) -> Texture:
    texture = canvas(24, 64, paint, Material.CAR)
    if bus:
        fill(texture, (4, 12), (2, 62), _GLASS, Material.CAR)
        for bar in range(10, 62, 10):
            fill(texture, (4, 12), (bar, bar + 1), paint, Material.CAR)
    elif boxy:
        fill(texture, (3, 10), (48, 62), _GLASS, Material.CAR)
    else:
        fill(texture, (2, 9), (18, 50), _GLASS, Material.CAR)
        fill(texture, (2, 9), (32, 34), paint, Material.CAR)
        fill(texture, (0, 2), (20, 48), scaled(paint, 0.95), Material.CAR_TOP)
    fill(texture, (19, 21), (0, 64), scaled(paint, 0.6), Material.CAR)
    fill(texture, (21, 24), (0, 64), (18, 18, 20), Material.CAR)
    for wheel in (12, 52):
        fill(texture, (17, 24), (wheel - 5, wheel + 5), (20, 20, 22), Material.CAR)
        fill(texture, (19, 22), (wheel - 2, wheel + 2), (120, 120, 124), Material.CAR)
    return texture


def _end(paint: Colour, boxy: bool, lamp: Material, light: Colour) -> Texture:
    texture = canvas(24, 32, scaled(paint, 0.92), Material.CAR)
    if boxy:
        fill(texture, (2, 8), (4, 28), _GLASS, Material.CAR)
    fill(texture, (0, 2), (0, 32), scaled(paint, 0.95), Material.CAR_TOP)
    fill(texture, (16, 18), (10, 22), (226, 226, 214), Material.CAR)
    for left in (1, 25):
        lamp_row = 12 if boxy else 6
        fill(texture, (lamp_row, lamp_row + 3), (left, left + 6), light, lamp)
    fill(texture, (20, 24), (0, 32), (24, 24, 26), Material.CAR)
    return texture


def place(model: VehicleModel, x_m: float, y_m: float, heading_rad: float) -> Panels:
    """Return the panels of a vehicle whose middle is there and that points that way."""
    half_length, half_width = model.length_m / 2, model.width_m / 2
    sine, cosine = np.sin(heading_rad), np.cos(heading_rad)
    local = np.array(
        [
            [-half_width, -half_length],
            [half_width, -half_length],
            [half_width, half_length],
            [-half_width, half_length],
        ]
    )
    # Right is (cos, -sin) and ahead (sin, cos) of a heading clockwise from north.
    corners = local @ np.array([[cosine, -sine], [sine, cosine]]) + [x_m, y_m]
    ends = np.concatenate([corners, np.roll(corners, -1, axis=0)], axis=1)
    end_height = model.height_m * (1.0 if model.outline == panels.FLAT else 0.62)
    cabin = model.outline != panels.FLAT
    body = make(
        ends.astype(np.float32),
        bottom_m=0.0,
        top_m=[end_height, model.height_m, end_height, model.height_m],
        profile=[panels.FLAT, model.outline, panels.FLAT, model.outline],
        texture=[model.rear, model.side, model.front, model.side],
        back_texture=model.top,
    )
    return panels.join([body, _cabin(model, corners)]) if cabin else body


def _cabin(model: VehicleModel, corners: NDArray[np.float64]) -> Panels:
    """Front and rear window of a car, set in from its ends."""
    rear_left, rear_right, front_right, front_left = corners
    ends = []
    for share in (0.28, 0.64):
        left = rear_left + share * (front_left - rear_left)
        right = rear_right + share * (front_right - rear_right)
        ends.append([*left, *right] if share < 0.5 else [*right, *left])
    return make(
        np.array(ends, dtype=np.float32),
        bottom_m=0.0,
        top_m=model.height_m,
        texture=model.window,
        back_texture=model.top,
    )
