"""What houses look like: designs drawn at random."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mlcore_streets.conditions import Colour
from mlcore_streets.scenery import panels
from mlcore_streets.scenery.textures import scaled

_WALLS: tuple[Colour, ...] = (
    (150, 78, 56), (118, 58, 46), (196, 158, 98), (212, 192, 146), (168, 164, 156),
    (224, 218, 202), (212, 126, 108), (138, 176, 122), (118, 148, 194), (222, 176, 66),
    (104, 96, 92), (192, 104, 52), (94, 148, 148), (184, 84, 72), (202, 190, 104),
    (96, 112, 150), (206, 164, 168), (126, 138, 84), (168, 130, 168), (232, 200, 140),
)  # fmt: skip
_ROOFS: tuple[Colour, ...] = ((128, 70, 54), (84, 82, 88), (100, 76, 64), (70, 78, 84))
ACCENTS: tuple[Colour, ...] = (
    (176, 40, 38), (36, 70, 140), (30, 104, 64), (226, 172, 40), (90, 40, 96), (30, 30, 34),
    (220, 110, 40), (24, 120, 130), (236, 232, 222), (110, 60, 40),
)  # fmt: skip

Ground = Literal["shops", "arcade", "doors", "garage", "plain"]
_GROUNDS: tuple[Ground, ...] = ("shops", "arcade", "doors", "garage", "plain")


@dataclass(frozen=True, kw_only=True)
class Design:
    """What houses of one design have in common.

    Attributes:
        num_floors: With the ground floor.
        num_bays: Windows (or shop windows, doors) side by side.
        floor_m: Height of an upper floor.
        bay_m: Width of a bay.
        ground_m: Height of the ground floor.
        roof_m: Height of the roof that shows above the wall.
        window_width: Share of a bay.
        window_height: Share of a floor.
        wall: Colour of the wall.
        trim: Colour of frames, bands and cornice.
        roof: Colour of the roof.
        accent: Colour of shutters and gates.
        courses: How the wall is laid.
        ground: What the ground floor is for.
        panes: Panes of a window.
        shutters: Whether windows have them.
        balcony_every: Every so many windows have a balcony; 0 for none.
        bands: Whether a band runs between floors.
        pilasters: Whether pilasters stand between bays.
        dormers: Whether there are windows in the roof.
        profile: Outline, a row of :func:`mlcore_streets.scenery.panels.profiles`.
    """

    num_floors: int
    num_bays: int
    floor_m: float
    bay_m: float
    ground_m: float
    roof_m: float
    window_width: float
    window_height: float
    wall: Colour
    trim: Colour
    roof: Colour
    accent: Colour
    courses: Literal["brick", "plaster", "panels"]
    ground: Ground
    panes: int
    shutters: bool
    balcony_every: int
    bands: bool
    pilasters: bool
    dormers: bool
    profile: int

    @property
    def width_m(self) -> float:
        """Width of the front."""
        return self.num_bays * self.bay_m + 0.6

    @property
    def height_m(self) -> float:
        """Height of the front with the roof that shows above it."""
        return self.ground_m + (self.num_floors - 1) * self.floor_m + self.roof_m


def draw_design(rng: np.random.Generator) -> Design:
    """Return a design at random."""
    gabled = rng.random() < 0.25
    wall = _WALLS[rng.integers(len(_WALLS))]
    tint = rng.uniform(0.8, 1.12)
    return Design(
        num_floors=int(rng.choice([2, 3, 3, 4, 4, 5])),
        num_bays=int(rng.integers(2, 4) if gabled else rng.integers(3, 7)),
        floor_m=float(rng.uniform(2.8, 3.6)),
        bay_m=float(rng.uniform(2.0, 3.4)),
        ground_m=float(rng.uniform(3.2, 4.4)),
        roof_m=0.9 if gabled else float(rng.choice([0.5, 1.8, 2.8])),
        window_width=float(rng.uniform(0.34, 0.72)),
        window_height=float(rng.uniform(0.42, 0.68)),
        wall=scaled(wall, tint),
        trim=scaled((232, 226, 212) if rng.random() < 0.6 else (96, 84, 76), tint),
        roof=_ROOFS[rng.integers(len(_ROOFS))],
        accent=ACCENTS[rng.integers(len(ACCENTS))],
        courses=("brick", "plaster", "panels")[rng.integers(3)],
        ground=_GROUNDS[rng.choice(5, p=[0.34, 0.12, 0.26, 0.13, 0.15])],
        panes=int(rng.integers(1, 4)),
        shutters=bool(rng.random() < 0.22),
        balcony_every=int(rng.choice([0, 0, 0, 1, 2])),
        bands=bool(rng.random() < 0.45),
        pilasters=bool(rng.random() < 0.25),
        dormers=bool(rng.random() < 0.5),
        profile=int(rng.choice([panels.GABLE, panels.STEPPED])) if gabled else panels.FLAT,
    )
