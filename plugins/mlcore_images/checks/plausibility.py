"""Whether positions and headings can be what their columns, or file names, say they are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlcore.data import FAULTS, MAX_EXAMPLES, grid_step
from mlcore.errors import DataError
from mlcore.factories import Finding
from mlcore_images.readers.listing import Listing, as_mask

Floats = NDArray[np.float64]

_UTM_EASTING_M = (100_000.0, 900_000.0)
_FALSE_NORTHING_M = 10_000_000.0
_ONE_PLACE_M = 20_000.0
"""Rows of one data set may lie this far beyond the box around the others: a city's width."""
_LARGEST_M = 1e8
"""Further than any point of the earth from the origin of its projection."""
_MANY_HEADINGS = 20
_LARGEST_HEADING_DEG = 900.0
"""GSV-Cities has headings up to 731; 999 is how some files write that there is none."""


def check_metres(listing: Listing, columns: Mapping[str, Floats], *, swap_axes: bool) -> None:
    """Refuse degrees in columns of metres, and swapped easting and northing.

    Args:
        listing: Where the columns come from.
        columns: Easting, then northing, by column name.
        swap_axes: Whether they were already exchanged.

    Raises:
        DataError: The values cannot be metres, or the columns are swapped.
    """
    for name, values in columns.items():
        listing.refuse(
            np.abs(values) > _LARGEST_M, name, "is too large for metres", "correct the row"
        )
    in_degrees = {name: _looks_like_degrees(values) for name, values in columns.items()}
    other_is_utm = [np.abs(np.median(values)) > 10_000.0 for values in columns.values()]
    from_names = listing.layout == "file names" and _within_the_globe(listing, columns)
    for name, values in columns.items():
        # A straight walk along a parallel: one column is constant, the other within a degree.
        if np.ptp(values) == 0.0 and 0.0 < abs(values[0]) <= 180.0:
            in_degrees[name] = all(
                in_degrees[other] and np.ptp(columns[other]) < 1.0
                for other in columns
                if other != name
            )
    for (name, values), other in zip(columns.items(), reversed(other_is_utm), strict=True):
        if from_names or (in_degrees[name] and (all(in_degrees.values()) or other)):
            raise DataError(_degrees_message(listing, name, values))
    easting, northing = columns.values()
    if _is_utm_easting(northing) and np.median(easting) > 1_000_000.0:
        raise DataError(
            f"{listing.source}: the median easting is {np.median(easting):.0f} m and the "
            f"median northing {np.median(northing):.0f} m, which for UTM means that they are "
            f"swapped; set dataset.swap_axes = {'false' if swap_axes else 'true'}"
        )
    _refuse_two_conventions(listing, easting, northing)


def _refuse_two_conventions(listing: Listing, easting: Floats, northing: Floats) -> None:
    """Refuse UTM rows that fall among the others once they are written as the others are.

    Medians do not see it when half of the rows are wrong, and to the search for outliers two
    halves are two cities.
    """
    low, high = _UTM_EASTING_M
    is_utm = (easting >= low) & (easting <= high)
    usual = is_utm & (northing >= 0.0) & ((northing < low) | (northing > high))
    if not usual.any() or usual.all():
        return
    others = np.stack([easting[usual], northing[usual]])
    lowest, highest = others.min(axis=1) - _ONE_PLACE_M, others.max(axis=1) + _ONE_PLACE_M

    def among_others(x: Floats, y: Floats) -> NDArray[np.bool_]:
        inside = (x >= lowest[0]) & (x <= highest[0]) & (y >= lowest[1]) & (y <= highest[1])
        return np.asarray(inside & ~usual)

    swapped = ~is_utm & among_others(northing, easting)
    problem = "and northing are swapped, unlike those of other rows"
    listing.refuse(swapped, "easting_m", problem, "exchange them in these rows")
    south = (northing < 0.0) & among_others(easting, northing + _FALSE_NORTHING_M)
    problem = (
        "is negative, but other rows have 10,000,000 m added, as in UTM south of the equator"
    )
    listing.refuse(south, "northing_m", problem, "add 10000000 to these rows")


def _degrees_message(listing: Listing, name: str, values: Floats) -> str:
    found = f"{values.min():.7g} to {values.max():.7g}"
    if listing.layout == "file names":
        field = {"easting_m": "first", "northing_m": "second"}[name]
        return (
            f"{listing.source}: the {field} field of the file names is {found}, which looks "
            "like degrees but must be metres. Rename the files to UTM metres, or write a "
            "positions.csv with path, latitude and longitude (or, if these are metres, path, "
            "easting_m and northing_m)"
        )
    return (
        f"{listing.source}: column {name!r} is {found}, which looks like degrees but must be "
        "metres. Name columns in degrees latitude and longitude, and they are projected to "
        "metres"
    )


def _is_utm_easting(values: Floats) -> bool:
    low, high = _UTM_EASTING_M
    return bool(low <= np.median(values) <= high)


def _within_the_globe(listing: Listing, columns: Mapping[str, Floats]) -> bool:
    """Return whether all values could be a longitude and a latitude, in either order.

    File names hold UTM metres, which are larger, or numbers of frames, which are whole; a few
    metres written with two decimals or more do not occur there.
    """
    first, second = (np.abs(values).max() for values in columns.values())
    if max(first, second) > 180.0 or min(first, second) > 90.0:
        return False
    decimals = [
        pc.match_substring_regex(listing.column(name), r"\.\d{2}").fill_null(False)
        for name in columns
    ]
    return bool(as_mask(pc.or_(*decimals)).mean() > 0.5)


def _looks_like_degrees(values: Floats) -> bool:
    """Return whether values are more likely degrees than metres.

    Degrees lie away from 0 by more than they span. Either they span less than 1, where
    metres would be a route of less than 1 m, or a few, with more digits than metres need.
    A local route of 0 to 100 m is none of this.
    """
    span = np.ptp(values)
    if np.abs(values).max() > 180.0 or not 0.0 < span < np.abs(np.median(values)):
        return False
    thousandths = values * 1e3
    has_decimals = np.abs(thousandths - np.round(thousandths)) > 1e-6
    return bool(span < 1.0 or has_decimals.mean() > 0.5)


def check_degrees(listing: Listing, longitude: Floats, latitude: Floats) -> None:
    """Refuse values that cannot be latitude and longitude.

    Raises:
        DataError: A value is out of range, or a row is at 0, 0: the position of a receiver
            that has none.
    """
    remedy = "correct the row, or set dataset.swap_axes if the columns are exchanged"
    bad_latitude = np.abs(latitude) > 90.0
    if bad_latitude.all() and (np.abs(longitude) <= 90.0).all() and latitude.max() <= 180.0:
        remedy = "latitude and longitude are swapped: set dataset.swap_axes"
    elif np.abs(latitude).max() > 1e3 and bad_latitude.mean() > 0.5:
        remedy = "if these are metres, name the columns easting_m and northing_m"
    listing.refuse(bad_latitude, "latitude", "is not within -90 to 90 degrees", remedy)
    bad_longitude = np.abs(longitude) > 180.0
    listing.refuse(bad_longitude, "longitude", "is not within -180 to 180 degrees", remedy)
    polar = (latitude > 84.0) | (latitude < -80.0)
    listing.refuse(
        polar, "latitude", "is outside UTM, -80 to 84 degrees", "give metres instead"
    )
    if len(latitude) > 1 and _within_radians(longitude, latitude):
        raise DataError(
            f"{listing.source}: latitude is {latitude.min():.7g} to {latitude.max():.7g} and "
            f"longitude {longitude.min():.7g} to {longitude.max():.7g}, which looks like "
            "radians: in degrees, all images lie in the sea off Africa. Write degrees"
        )
    nowhere = (latitude == 0.0) & (longitude == 0.0)
    problem = "is 0 and longitude is 0, as receivers without a GPS fix write"
    listing.refuse(nowhere, "latitude", problem, "correct the row or remove it")


def _within_radians(longitude: Floats, latitude: Floats) -> bool:
    """Return whether all values fit into a half turn and a full one, none at the null island.

    In degrees, that is a rectangle of the Gulf of Guinea without land: the coast of Ghana is
    at 4.7 degrees north, Annobón at 5.6 degrees east.
    """
    is_within = (np.abs(latitude) <= np.pi / 2) & (np.abs(longitude) <= np.pi)
    return bool((is_within & ((latitude != 0.0) | (longitude != 0.0))).all())


def coarse_degrees(listing: Listing, longitude: Floats, latitude: Floats) -> list[Finding]:
    """Return a fault if latitude and longitude have lost digits."""
    columns = np.stack([longitude, latitude], axis=1)
    step = grid_step(columns, np.zeros(len(columns), np.int64), in_degrees=True)
    if step is None:
        return []
    examples = tuple(listing.where(np.arange(min(MAX_EXAMPLES, len(columns)))))
    message = FAULTS["coarse-grid"].replace(" m,", " degrees,").format(step)
    return [Finding("fault", message, len(columns), examples, "coarse-grid")]


def check_headings(listing: Listing, name: str, values: Floats) -> list[Finding]:
    """Refuse degrees in a column of radians, and what is no heading at all.

    Raises:
        DataError: A value is more than a full turn of radians, or several of degrees.
    """
    if name == "heading_rad":
        problem = "is more than a full turn of 6.2832 radians"
        remedy = "if these are degrees, name the column heading_deg"
        listing.refuse(np.abs(values) > 2 * np.pi + 1e-6, name, problem, remedy)
        return []
    problem = f"is not a heading: it is not within {_LARGEST_HEADING_DEG:g} degrees of 0"
    listing.refuse(np.abs(values) > _LARGEST_HEADING_DEG, name, problem, "correct the row")
    beyond = np.flatnonzero(np.abs(values) > 360.0)
    if len(beyond):
        examples = tuple(listing.where(beyond[:MAX_EXAMPLES]))
        message = "headings beyond 360 degrees are wrapped to a full turn"
        return [Finding("info", message, len(beyond), examples)]
    few = len(values) < _MANY_HEADINGS or np.ptp(values) < 1.0
    if few or np.abs(values).max() > 2 * np.pi + 1e-6:
        return []
    note = f"heading_deg is {values.min():.2f} to {values.max():.2f} in all rows; "
    return [Finding("warning", note + "if these are radians, name the column heading_rad")]
