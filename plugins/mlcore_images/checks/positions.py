"""From the position and heading columns of a listing to metres and radians."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mlcore.data import wrap_rad
from mlcore.errors import ConfigError, DataError, did_you_mean
from mlcore.factories import Finding
from mlcore_images.checks.plausibility import (
    check_degrees,
    check_headings,
    check_metres,
    coarse_degrees,
)
from mlcore_images.checks.regions import Located, locate_degrees, locate_metres
from mlcore_images.config import HeadingConvention, ImagesConfig
from mlcore_images.readers.listing import Listing

METRES = ("easting_m", "northing_m")
DEGREES = ("longitude", "latitude")

Floats = NDArray[np.float64]
Findings = tuple[Finding, ...]


def read_positions(listing: Listing, config: ImagesConfig) -> Located:
    """Return easting and northing in metres and the regions, and what was found.

    Raises:
        ConfigError: The option region names no column.
        DataError: Columns are missing, values no numbers, their unit or order implausible, or
            an image has no region where others have one.
    """
    swap_axes = config.swap_axes
    if any(name in listing for name in METRES) or not any(name in listing for name in DEGREES):
        columns = _pair(listing, METRES, swap_axes=swap_axes)
        check_metres(listing, columns, swap_axes=swap_axes)
        found = locate_metres(listing, np.stack(list(columns.values()), axis=1), config.region)
        if any(name in listing for name in DEGREES):
            note = "positions are from easting_m and northing_m, not from degrees"
            found = found.also(Finding("info", note))
        return found
    columns = _pair(listing, DEGREES, swap_axes=swap_axes)
    longitude_deg, latitude_deg = columns["longitude"], columns["latitude"]
    check_degrees(listing, longitude_deg, latitude_deg)
    found = locate_degrees(listing, longitude_deg, latitude_deg, config.region)
    return found.also(*coarse_degrees(listing, longitude_deg, latitude_deg))


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


def read_headings(
    listing: Listing, convention: HeadingConvention
) -> tuple[Floats | None, Findings]:
    """Return headings ``(N,)``, clockwise from north in (-pi, pi], and what was found.

    None if there are none, or if some images have none: half a column would make a loss
    treat images without heading as looking north.

    Raises:
        ConfigError: There are none, whose convention the option could say.
        DataError: Values are not numbers, or not in the unit of the column's name.
    """
    names = [name for name in ("heading_rad", "heading_deg") if name in listing]
    if not names:
        if convention != "clockwise-from-north":
            raise ConfigError(
                f"dataset.heading_convention {convention} has no effect: {listing.source} has "
                "no headings (heading_rad or heading_deg); leave it out"
            )
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
