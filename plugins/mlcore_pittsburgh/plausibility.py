"""Whether positions are metres, easting first."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError

Floats = NDArray[np.float64]

_LARGEST_M = 1e8
"""Further than any point of the earth from the origin of its projection."""
_UTM_EASTING_M = (100_000.0, 900_000.0)
_UTM_NORTHING_M = 1_000_000.0
"""Northings north of 9 degrees are larger, and no easting is."""


def in_metres(where: str, positions_m: Floats, warnings: list[str]) -> Floats:
    """Return positions ``(N, 2)``, easting first, whichever way round they were given.

    Args:
        where: File and field, for messages.
        positions_m: ``(N, 2)``.
        warnings: Gets a line if the axes were exchanged.

    Raises:
        DataError: A value is not finite, or they are degrees.
    """
    if not len(positions_m):
        return positions_m
    bad = np.flatnonzero(~(np.abs(positions_m) <= _LARGEST_M).all(axis=1))
    if len(bad):
        raise DataError(
            f"{where}: position {bad[0] + 1} is {tuple(positions_m[bad[0]].tolist())}, and "
            f"{len(bad) - 1} more are out of range for metres on earth; download the file again"
        )
    if _looks_like_degrees(positions_m):
        raise DataError(
            f"{where} is {positions_m.min():.7g} to {positions_m.max():.7g}, which looks "
            "like degrees but must be metres; project them to UTM (zone 17N for Pittsburgh)"
        )
    first, second = np.median(positions_m, axis=0)
    low, high = _UTM_EASTING_M
    if first > _UTM_NORTHING_M and low <= second <= high:
        warnings.append(
            f"{where}: its first row is around {first:.0f} m and its second around "
            f"{second:.0f} m: northing before easting; they were exchanged"
        )
        return np.ascontiguousarray(positions_m[:, ::-1])
    return positions_m


def _looks_like_degrees(positions: Floats) -> bool:
    """Return whether positions span less than 1, away from 0: a city in degrees."""
    extent = np.ptp(positions, axis=0)
    away = np.abs(np.median(positions, axis=0)) > 1.0
    within = np.abs(positions).max() <= 180.0
    return bool(within and extent.any() and (extent < 1.0).all() and away.all())
