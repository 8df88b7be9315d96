"""Paints the front of a house of a given design."""

from __future__ import annotations

import numpy as np

from mlcore_streets.conditions import Colour
from mlcore_streets.scenery import panels
from mlcore_streets.scenery.designs import ACCENTS, Design
from mlcore_streets.scenery.materials import Material
from mlcore_streets.scenery.textures import (
    TEXEL_M,
    Texture,
    canvas,
    fill,
    scaled,
    speckle,
)


def paint(design: Design, rng: np.random.Generator) -> Texture:
    """Return the front of one house; shop signs and doors differ between houses."""
    rows = round(design.height_m / TEXEL_M)
    columns = round(design.width_m / TEXEL_M)
    texture = canvas(rows, columns, design.wall, Material.PLAIN)
    _lay_courses(texture, design, rng)
    roof_rows = design.roof_m / TEXEL_M
    ground_top = rows - design.ground_m / TEXEL_M
    floor_rows = design.floor_m / TEXEL_M
    for floor in range(design.num_floors - 1):
        top = roof_rows + floor * floor_rows
        if design.bands:
            fill(texture, (top + floor_rows - 2, top + floor_rows), (0, columns), design.trim)
        for bay in range(design.num_bays):
            _window(texture, design, top, bay, floor, rng)
    if design.pilasters:
        for bay in range(design.num_bays + 1):
            left = _bay_left(design, bay)
            fill(texture, (roof_rows, ground_top), (left - 2, left + 2), design.trim)
    _ground_floor(texture, design, ground_top, rng)
    _roof(texture, design, roof_rows)
    edge = scaled(design.wall, 0.55)
    fill(texture, (0, rows), (0, 1), edge)
    fill(texture, (0, rows), (columns - 1, columns), edge)
    return texture


def blind_wall(design: Design, rng: np.random.Generator) -> Texture:
    """Return the windowless side of a house."""
    texture = canvas(64, 64, scaled(design.wall, 0.82), Material.PLAIN)
    speckle(texture, 7, rng, grain=4)
    speckle(texture, 5, rng)
    return texture


def _bay_left(design: Design, bay: float) -> float:
    return (0.3 + bay * design.bay_m) / TEXEL_M


def _lay_courses(texture: Texture, design: Design, rng: np.random.Generator) -> None:
    if design.courses == "brick":
        texture[::3, :, :3] = (texture[::3, :, :3] * 0.86).astype(np.uint8)
        speckle(texture, 8, rng, grain=2)
    elif design.courses == "panels":
        step = round(design.bay_m / TEXEL_M)
        texture[:, ::step, :3] = (texture[:, ::step, :3] * 0.7).astype(np.uint8)
        floor = round(design.floor_m / TEXEL_M)
        texture[::floor, :, :3] = (texture[::floor, :, :3] * 0.7).astype(np.uint8)
    speckle(texture, 5, rng, grain=5)
    speckle(texture, 3, rng)


def _window(
    texture: Texture,
    design: Design,
    top: float,
    bay: int,
    floor: int,
    rng: np.random.Generator,
) -> None:
    floor_rows, bay_columns = design.floor_m / TEXEL_M, design.bay_m / TEXEL_M
    height = design.window_height * floor_rows
    width = design.window_width * bay_columns
    first_row = top + 0.5 * (floor_rows - height)
    left = _bay_left(design, bay) + 0.5 * (bay_columns - width)
    last_row, right = first_row + height, left + width
    fill(texture, (first_row - 1, last_row + 1), (left - 1, right + 1), design.trim)
    glass = scaled((58, 66, 76), float(rng.uniform(0.6, 1.5)))
    fill(texture, (first_row, last_row), (left, right), glass, Material.GLASS)
    for pane in range(1, design.panes):
        bar = left + pane * width / design.panes
        fill(texture, (first_row, last_row), (bar - 0.5, bar + 0.5), design.trim)
    ledge = scaled(design.trim, 0.9)
    fill(texture, (last_row + 1, last_row + 2), (left - 2, right + 2), ledge, Material.LEDGE)
    if design.shutters:
        shade = scaled(design.accent, 0.8)
        for side in (left - 1 - 0.45 * width, right + 1):
            fill(texture, (first_row, last_row), (side, side + 0.45 * width), shade)
    if design.balcony_every and (bay + floor) % design.balcony_every == 0:
        rail = (last_row - 0.35 * height, last_row + 2)
        fill(texture, rail, (left - 4, right + 4), (60, 60, 64))
        fill(texture, (rail[1] - 1, rail[1]), (left - 4, right + 4), ledge, Material.LEDGE)


def _ground_floor(
    texture: Texture, design: Design, top: float, rng: np.random.Generator
) -> None:
    rows, columns = texture.shape[:2]
    base = scaled(design.trim, 0.72) if design.ground in ("shops", "arcade") else None
    if base is not None:
        fill(texture, (top, rows), (0, columns), base)
    door = int(rng.integers(design.num_bays))
    for bay in range(design.num_bays):
        left = _bay_left(design, bay)
        right = _bay_left(design, bay + 1)
        if bay == door:
            _door(texture, design, top, (left + right) / 2, rng)
        elif design.ground == "shops":
            fill(
                texture, (top + 8, rows - 4), (left + 1, right - 1), (70, 76, 80), Material.SHOP
            )
        elif design.ground == "arcade":
            fill(texture, (top + 5, rows), (left + 3, right - 3), (34, 32, 34))
        elif design.ground == "garage" and bay % 2 == 0:
            fill(texture, (top + 8, rows), (left + 2, right - 2), scaled(design.accent, 0.7))
            for row in range(round(top) + 10, rows, 3):
                fill(texture, (row, row + 1), (left + 2, right - 2), scaled(design.accent, 0.5))
        elif design.ground != "plain":
            _window(texture, design, top, bay, -1, rng)
    if design.ground == "shops":
        _shop_signs(texture, design, top, rng)
    fill(texture, (rows - 3, rows), (0, columns), scaled(design.wall, 0.6))


def _door(
    texture: Texture, design: Design, top: float, middle: float, rng: np.random.Generator
) -> None:
    rows = texture.shape[0]
    colour = scaled(ACCENTS[rng.integers(len(ACCENTS))], 0.8)
    fill(texture, (max(top + 2, rows - 20), rows), (middle - 5, middle + 5), design.trim)
    fill(texture, (max(top + 3, rows - 18), rows), (middle - 4, middle + 4), colour)


def _shop_signs(texture: Texture, design: Design, top: float, rng: np.random.Generator) -> None:
    """One or two shops share the ground floor, each with a sign and perhaps an awning."""
    edge = int(rng.integers(1, design.num_bays + 1))
    for first, last in ((0, edge), (edge, design.num_bays)):
        if first == last:
            continue
        left, right = _bay_left(design, first), _bay_left(design, last)
        colour = ACCENTS[rng.integers(len(ACCENTS))]
        fill(texture, (top + 1, top + 7), (left, right - 1), colour, Material.SIGN)
        ink: Colour = (240, 238, 230) if sum(colour) < 400 else (40, 36, 36)
        for letter in np.arange(left + 4, left + 4 + rng.integers(3, 9) * 3, 3):
            fill(texture, (top + 3, top + 5), (letter, letter + 2), ink, Material.SIGN)
        if rng.random() < 0.35:
            for column in range(round(left), round(right) - 1):
                stripe = colour if column // 4 % 2 else (230, 226, 216)
                fill(texture, (top + 7, top + 12), (column, column + 1), stripe, Material.LEDGE)


def _roof(texture: Texture, design: Design, rows: float) -> None:
    columns = texture.shape[1]
    if design.profile != panels.FLAT:
        fill(texture, (rows - 1, rows), (0, columns), design.trim, Material.LEDGE)
        return
    if design.roof_m > 1:
        fill(texture, (0, rows), (0, columns), design.roof, Material.ROOF)
        for row in range(2, round(rows), 4):
            fill(
                texture, (row, row + 1), (0, columns), scaled(design.roof, 0.84), Material.ROOF
            )
        for bay in range(0, design.num_bays if design.dormers else 0, 2):
            middle = _bay_left(design, bay + 0.5)
            fill(texture, (4, rows), (middle - 6, middle + 6), design.trim)
            fill(texture, (6, rows - 2), (middle - 4, middle + 4), (58, 66, 76), Material.GLASS)
    ledge = scaled(design.trim, 0.95)
    fill(texture, (rows - 1, rows + 2), (0, columns), ledge, Material.LEDGE)
