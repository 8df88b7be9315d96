"""From the position and heading columns of a listing to metres and radians."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlcore.data import wrap_rad
from mlcore.errors import DataError, did_you_mean, require_library
from mlcore.factories import Finding
from mlcore_images.checks.plausibility import (
    check_degrees,
    check_headings,
    check_metres,
    coarse_degrees,
)
from mlcore_images.config import HeadingConvention
from mlcore_images.readers.listing import Listing

METRES = ("easting_m", "northing_m")
DEGREES = ("longitude", "latitude")

_WIDEST_ZONE_DEG = 6.0
"""Beyond this distance from the zone's middle, UTM metres are 0.5 % too long."""
_FARTHEST_ZONE_DEG = 30.0
"""Beyond this distance an image cannot belong to the others: 3,300 km at the equator."""

Floats = NDArray[np.float64]
Findings = tuple[Finding, ...]


def read_positions(listing: Listing, *, swap_axes: bool) -> tuple[Floats, Findings]:
    """Return easting and northing ``(N, 2)`` in metres, and what was found.

    Raises:
        DataError: Columns are missing, values no numbers, or their unit or order
            implausible.
    """
    if any(name in listing for name in METRES) or not any(name in listing for name in DEGREES):
        columns = _pair(listing, METRES, swap_axes=swap_axes)
        check_metres(listing, columns, swap_axes=swap_axes)
        positions_m = np.stack(list(columns.values()), axis=1)
        if any(name in listing for name in DEGREES):
            note = "positions are from easting_m and northing_m, not from degrees"
            return positions_m, (Finding("info", note),)
        return positions_m, ()
    columns = _pair(listing, DEGREES, swap_axes=swap_axes)
    check_degrees(listing, columns["longitude"], columns["latitude"])
    positions_m, findings = project(listing, columns["longitude"], columns["latitude"])
    coarse = coarse_degrees(listing, columns["longitude"], columns["latitude"])
    return positions_m, (*findings, *coarse)


def _pair(listing: Listing, names: tuple[str, str], *, swap_axes: bool) -> dict[str, Floats]:
    missing = [name for name in names if name not in listing]
    if missing:
        raise DataError(
            f"{listing.source} has no column {missing[0]!r}"
            f"{did_you_mean(missing[0], listing.names)} (its columns: "
            f"{', '.join(listing.names)}); positions are columns easting_m and northing_m "
            "(metres), or latitude and longitude (degrees)"
        )
    values = [listing.numbers(name) for name in names]
    return dict(zip(names, reversed(values) if swap_axes else values, strict=True))


def project(
    listing: Listing, longitude_deg: Floats, latitude_deg: Floats
) -> tuple[Floats, Findings]:
    """Return positions ``(N, 2)`` in metres in the UTM zone that holds the median longitude.

    All in one zone, also where the data cross an edge: two zones are two frames. Rows in
    wrong places do not move the zone as long as they are fewer than half.

    Raises:
        DataError: A row is too far from the zone to be projected; names it.
    """
    require_library("latitude and longitude", "pyproj", "mlcore-localization[geo]")
    from pyproj import Transformer

    zones = ((longitude_deg + 180.0) // 6.0).astype(np.int64) % 60
    centre_deg = 6.0 * np.bincount(zones).argmax() - 177.0
    # Counted from the most frequent zone, for data that cross the 180th meridian.
    middle_deg = centre_deg + np.median(_turn_deg(longitude_deg - centre_deg))
    zone = int((middle_deg + 180.0) // 6.0) % 60 + 1
    south = float(np.median(latitude_deg)) < 0.0
    code = (32700 if south else 32600) + zone
    transformer = Transformer.from_crs("EPSG:4326", f"EPSG:{code}", always_xy=True)
    positions_m = np.stack(transformer.transform(longitude_deg, latitude_deg), axis=1)
    offset_deg = np.abs(_turn_deg(longitude_deg - (6 * zone - 183)))
    unprojected = ~np.isfinite(positions_m).all(axis=1) | (offset_deg > _FARTHEST_ZONE_DEG)
    listing.refuse(
        unprojected,
        "longitude",
        f"is too far from UTM zone {zone} of most images to be projected to it",
        "correct the row, or make one data set per city",
    )
    name = f"{zone}{'S' if south else 'N'}"
    note = f"latitude and longitude are projected to UTM zone {name}"
    findings = [Finding("info", note)]
    wide = offset_deg > _WIDEST_ZONE_DEG
    if wide.any():
        message = (
            f"images lie up to {offset_deg.max():.1f} degrees from the central meridian of UTM "
            f"zone {name}, where its metres are too long; make one data set per city"
        )
        findings.append(Finding("warning", message, int(wide.sum())))
    return positions_m, tuple(findings)


def _turn_deg(angle_deg: Floats) -> Floats:
    """Return angles wrapped to [-180, 180)."""
    return (angle_deg + 180.0) % 360.0 - 180.0


def read_headings(
    listing: Listing, convention: HeadingConvention
) -> tuple[Floats | None, Findings]:
    """Return headings ``(N,)``, clockwise from north in (-pi, pi], and what was found.

    None if there are none, or if some images have none: half a column would make a loss
    treat images without heading as looking north.

    Raises:
        DataError: Values are not numbers, or not in the unit of the column's name.
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
        return None, (Finding("info", f"{note}, so headings are not used"),)
    findings = check_headings(listing, names[0], values)
    headings_rad = values if names[0] == "heading_rad" else np.radians(values)
    if convention == "counterclockwise-from-east":
        headings_rad = np.pi / 2 - headings_rad
    return wrap_rad(headings_rad), tuple(findings)
