"""Panels: upright rectangles in the plane, all that the town is built of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

CULLED = -1
"""As ``back_texture``: the panel is not drawn from behind."""

PROFILE_STEPS = 64


@dataclass(frozen=True, kw_only=True)
class Panels:
    """Upright panels, as columns.

    The front is on the right of the way from the first to the second end, so that a
    rectangle listed counter-clockwise shows its fronts outwards. East is x, north is y.

    Attributes:
        ends_m: ``(P, 4)`` x and y of the first end, x and y of the second.
        bottom_m: ``(P,)`` height of the lower edge above the ground.
        top_m: ``(P,)`` height of the highest point of the upper edge.
        profile: ``(P,)`` outline, a row of :func:`profiles`.
        texture: ``(P,)`` number in the atlas, stretched over the panel.
        back_texture: ``(P,)`` texture seen from behind, or ``CULLED``.
        faces_camera: ``(P,)`` bool, a flat stand-in for a round thing, lit from all sides.
    """

    ends_m: Floats
    bottom_m: Floats
    top_m: Floats
    profile: Ints
    texture: Ints
    back_texture: Ints
    faces_camera: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ends_m)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> Panels:
        """Return the given rows."""
        return Panels(**{name: column[rows] for name, column in vars(self).items()})


def join(parts: Sequence[Panels]) -> Panels:
    """Return all panels of ``parts`` (at least one) as one table."""
    return Panels(
        **{
            name: np.concatenate([getattr(part, name) for part in parts])
            for name in vars(parts[0])
        }
    )


def make(
    ends_m: Sequence[Sequence[float]] | Floats,
    *,
    bottom_m: Sequence[float] | Floats | float = 0.0,
    top_m: Sequence[float] | Floats | float,
    texture: Sequence[int] | Ints | int,
    back_texture: Sequence[int] | Ints | int = CULLED,
    profile: Sequence[int] | Ints | int = 0,
    faces_camera: bool = False,
) -> Panels:
    """Return panels; a single value stands for all of them."""
    ends = np.asarray(ends_m, dtype=np.float32).reshape(-1, 4)
    size = len(ends)

    def floats(value: Sequence[float] | Floats | float) -> Floats:
        return np.broadcast_to(np.asarray(value, dtype=np.float32), size)

    def ints(value: Sequence[int] | Ints | int) -> Ints:
        return np.broadcast_to(np.asarray(value, dtype=np.int64), size)

    return Panels(
        ends_m=ends,
        bottom_m=floats(bottom_m),
        top_m=floats(top_m),
        profile=ints(profile),
        texture=ints(texture),
        back_texture=ints(back_texture),
        faces_camera=np.full(size, faces_camera),
    )


def rectangle_ends(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    """Return the south, east, north and west side of a rectangle, fronts outwards."""
    return [[x0, y0, x1, y0], [x1, y0, x1, y1], [x1, y1, x0, y1], [x0, y1, x0, y0]]


FLAT, GABLE, STEPPED, CROWN, BARE, CAR, HIP = range(7)
"""Outlines, as rows of :func:`profiles`."""


def profiles() -> Floats:
    """Return outlines ``(7, 2, PROFILE_STEPS)``: lower and upper edge from 0 to 1."""
    along = (np.arange(PROFILE_STEPS) + 0.5) / PROFILE_STEPS
    flat = np.ones(PROFILE_STEPS)
    centred = np.abs(2 * along - 1)
    gable = 1 - 0.28 * centred
    stepped = 1 - 0.28 * np.ceil(centred * 5) / 5
    hip = 1 - 0.16 * np.clip((centred - 0.75) / 0.25, 0, 1)
    half = 0.5 * np.sqrt(1 - centred**2)
    bumps = 0.05 * np.sin(along * 37) + 0.04 * np.sin(along * 71 + 1)
    comb = np.random.default_rng(0).uniform(0.0, 1.0, PROFILE_STEPS) ** 2
    car = np.interp(
        along,
        [0, 0.02, 0.1, 0.24, 0.36, 0.72, 0.9, 0.98, 1],
        [0.4, 0.55, 0.6, 0.66, 1.0, 1.0, 0.66, 0.6, 0.4],
    )
    edges = {
        FLAT: (0 * flat, flat),
        GABLE: (0 * flat, gable),
        STEPPED: (0 * flat, stepped),
        CROWN: (0.5 - half + bumps, np.clip(0.5 + half + bumps, 0, 1)),
        BARE: (0.1 + 0.4 * centred, 0.1 + (0.4 + half) * comb),
        CAR: (0.12 * flat, car),
        HIP: (0 * flat, hip),
    }
    return np.array([edges[number] for number in range(len(edges))], dtype=np.float32)
