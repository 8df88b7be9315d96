"""Textures: RGBA images whose fourth channel is the material, and their atlas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlcore_streets.conditions import Colour
from mlcore_streets.scenery.materials import Material
from mlcore_streets.scenery.panels import Ints

Texture = NDArray[np.uint8]
"""``(h, w, 4)``: red, green, blue, material; row 0 is the top."""

TEXEL_M = 0.125
NUM_LEVELS = 5


@dataclass(frozen=True, kw_only=True)
class Atlas:
    """All textures at full, half, quarter... resolution in one array.

    Attributes:
        texels: ``(M,)`` uint32, an RGBA texel each.
        start: ``(NUM_LEVELS, T)`` where in ``texels`` a texture begins.
        width: ``(NUM_LEVELS, T)`` in texels.
        height: ``(NUM_LEVELS, T)`` in texels.
    """

    texels: NDArray[np.uint32]
    start: Ints
    width: Ints
    height: Ints


def build_atlas(textures: Sequence[Texture]) -> Atlas:
    """Return the atlas of ``textures``, each numbered by its place."""
    pieces: list[NDArray[np.uint32]] = []
    shape = (NUM_LEVELS, len(textures))
    start, width, height = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    used = 0
    for number, texture in enumerate(textures):
        for level, smaller in enumerate(pyramid(texture)):
            height[level, number], width[level, number] = smaller.shape[:2]
            start[level, number] = used
            pieces.append(packed(smaller).reshape(-1))
            used += pieces[-1].size
    return Atlas(texels=np.concatenate(pieces), start=start, width=width, height=height)


def pyramid(texture: Texture) -> list[Texture]:
    """Return the texture at ``NUM_LEVELS`` resolutions, each half the one before."""
    levels = [texture]
    while len(levels) < NUM_LEVELS:
        levels.append(_halved(levels[-1]))
    return levels


def packed(texture: Texture) -> NDArray[np.uint32]:
    """Return ``(h, w)``, one number a texel, so that one look-up fetches all channels."""
    return np.ascontiguousarray(texture).view(np.uint32)[..., 0]


def _halved(texture: Texture) -> Texture:
    rows, columns = (max(2, side + side % 2) for side in texture.shape[:2])
    padding = [(0, rows - texture.shape[0]), (0, columns - texture.shape[1]), (0, 0)]
    even = np.pad(texture, padding, mode="edge")
    half = even[::2, ::2].copy()
    total = sum(even[i::2, j::2, :3].astype(np.uint16) for i in (0, 1) for j in (0, 1))
    half[..., :3] = np.asarray(total) // 4
    return half


def plain(colour: Colour, material: Material = Material.PLAIN, size: int = 4) -> Texture:
    """Return a texture of one colour, ``size`` texels a side."""
    return canvas(size, size, colour, material)


def canvas(rows: int, columns: int, colour: Colour, material: Material) -> Texture:
    """Return a texture of one colour."""
    texture = np.empty((rows, columns, 4), dtype=np.uint8)
    texture[..., :3] = np.clip(colour, 0, 255)
    texture[..., 3] = material
    return texture


def fill(
    texture: Texture,
    rows: tuple[float, float],
    columns: tuple[float, float],
    colour: Colour,
    material: Material = Material.PLAIN,
) -> None:
    """Paint a rectangle, given in texels; what lies outside the texture is left out."""
    top, bottom = (max(0, round(row)) for row in rows)
    left, right = (max(0, round(column)) for column in columns)
    texture[top:bottom, left:right, :3] = np.clip(colour, 0, 255).astype(np.uint8)
    texture[top:bottom, left:right, 3] = material


def speckle(texture: Texture, amount: float, rng: np.random.Generator, grain: int = 1) -> None:
    """Vary the brightness of the texture in blobs of ``grain`` texels."""
    rows, columns = texture.shape[:2]
    coarse = rng.normal(0, amount, (-(-rows // grain), -(-columns // grain)))
    noise = np.repeat(np.repeat(coarse, grain, axis=0), grain, axis=1)[:rows, :columns]
    varied = texture[..., :3] + noise[..., None]
    texture[..., :3] = np.clip(varied, 0, 255).astype(np.uint8)


def scaled(colour: Colour, factor: float) -> Colour:
    """Return a darker or lighter colour."""
    red, green, blue = colour
    return (red * factor, green * factor, blue * factor)
