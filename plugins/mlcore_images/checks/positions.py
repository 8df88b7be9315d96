"""From the position and heading columns of a listing to metres and radians."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlcore.data import wrap_rad
from mlcore.errors import DataError, did_you_mean, require_library
from mlcore_images.checks.plausibility import (
    check_degrees,
    check_headings,
    check_metres,
    far_away,
)
from mlcore_images.config import HeadingConvention
from mlcore_images.readers.listing import Listing

METRES = ("easting_m", "northing_m")
DEGREES = ("longitude", "latitude")

_WIDEST_ZONE_DEG = 6.0
"""Beyond this distance from the zone's middle, UTM metres are 0.5 % too long."""

Floats = NDArray[np.float64]
Notes = tuple[str, ...]


def read_positions(listing: Listing, *, swap_axes: bool) -> tuple[Floats, Notes]:
    """Return easting and northing ``(N, 2)`` in metres, and what is worth knowing.

    Raises:
        DataError: Columns are missing, values no numbers, or their unit or order
            implausible.
    """
    if any(name in listing for name in METRES) or not any(name in listing for name in DEGREES):
        columns = _pair(listing, METRES, swap_axes=swap_axes)
        check_metres(listing, columns, swap_axes=swap_axes)
        positions_m = np.stack(list(columns.values()), axis=1)
        notes: Notes = ()
        if any(name in listing for name in DEGREES):
            notes = ("positions are from easting_m and northing_m, not from degrees",)
    else:
        columns = _pair(listing, DEGREES, swap_axes=swap_axes)
        check_degrees(listing, columns["longitude"], columns["latitude"])
        positions_m, notes = project(columns["longitude"], columns["latitude"])
    return positions_m, (*notes, *far_away(listing, positions_m))


def _pair(listing: Listing, names: tuple[str, str], *, swap_axes: bool) -> dict[str, Floats]:
    missing = [name for name in names if name not in listing]
    if missing:
        raise DataError(
            f"{listing.source} has no column {missing[0]!r}"
            f"{did_you_mean(missing[0], listing.names)} Positions are columns easting_m and "
            "northing_m (metres), or latitude and longitude (degrees); "
            f"its columns: {', '.join(listing.names)}"
        )
    values = [listing.numbers(name) for name in names]
    return dict(zip(names, reversed(values) if swap_axes else values, strict=True))


def project(longitude_deg: Floats, latitude_deg: Floats) -> tuple[Floats, Notes]:
    """Return positions ``(N, 2)`` in metres in the one UTM zone of the data's middle.

    All in one zone, also where the data cross an edge: two zones are two frames.
    """
    require_library("latitude and longitude", "pyproj", "mlcore-localization[geo]")
    from pyproj import Transformer

    angle = np.radians(longitude_deg)
    # A mean that does not care whether the data cross the 180th meridian.
    middle_deg = float(np.degrees(np.arctan2(np.sin(angle).mean(), np.cos(angle).mean())))
    zone = int((middle_deg + 180.0) // 6.0) % 60 + 1
    south = float(latitude_deg.mean()) < 0.0
    code = (32700 if south else 32600) + zone
    transformer = Transformer.from_crs("EPSG:4326", f"EPSG:{code}", always_xy=True)
    positions_m = np.stack(transformer.transform(longitude_deg, latitude_deg), axis=1)
    if not np.isfinite(positions_m).all():
        raise DataError(
            "the images spread over so much of the globe that no UTM zone holds them; "
            "make one data set of each city"
        )
    notes = [f"latitude and longitude are projected to UTM zone {zone}{'S' if south else 'N'}"]
    offset_deg = np.abs((longitude_deg - (6 * zone - 183) + 180.0) % 360.0 - 180.0)
    if offset_deg.max() > _WIDEST_ZONE_DEG:
        notes.append(
            f"images lie up to {offset_deg.max():.1f} degrees from the middle of that zone, "
            "where its metres are too long; make one data set of each city"
        )
    return positions_m, tuple(notes)


def read_headings(
    listing: Listing, convention: HeadingConvention
) -> tuple[Floats | None, Notes]:
    """Return headings ``(N,)``, clockwise from north in (-pi, pi], and what is worth knowing.

    None if there are none, or if some images have none: half a column would make a loss
    treat images without heading as looking north.

    Raises:
        DataError: Values are no numbers, or of another unit than the column's name says.
    """
    names = [name for name in ("heading_rad", "heading_deg") if name in listing]
    if not names:
        return None, ()
    if len(names) == 2:
        raise DataError(f"{listing.source} has heading_rad and heading_deg; keep one of them")
    values, missing = listing.optional_numbers(names[0])
    if missing.any():
        first = listing.where(np.flatnonzero(missing)[:1])[0]
        note = f"{missing.sum()} of {len(listing)} images have no heading ({first} the first)"
        return None, (f"{note}, so headings are not used",)
    notes = check_headings(listing, names[0], values)
    headings_rad = values if names[0] == "heading_rad" else np.radians(values)
    if convention == "counterclockwise-from-east":
        headings_rad = np.pi / 2 - headings_rad
    return wrap_rad(headings_rad), notes
