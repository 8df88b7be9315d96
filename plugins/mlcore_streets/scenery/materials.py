"""What a surface is made of: the fourth channel of every texture."""

from __future__ import annotations

from enum import IntEnum


class Material(IntEnum):
    """Decides what light and weather do to a texel."""

    PLAIN = 0
    GLASS = 1
    SHOP = 2
    """A shop window, lit at night."""
    ROOF = 3
    LEDGE = 4
    """A sill or cornice, on which snow lies."""
    SIGN = 5
    """Glows at night."""
    FOLIAGE = 6
    TAIL_LAMP = 7
    HEAD_LAMP = 8
    ROAD = 9
    TRACK = 10
    """Road where wheels run: snow melts there first."""
    MARKING = 11
    PAVEMENT = 12
    GRASS = 13
    CAR = 14
    CAR_TOP = 15
    LAMP = 16


NUM_MATERIALS = len(Material)
