"""Whether positions and headings can be what their columns say they are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore_images.readers.listing import MAX_EXAMPLES, Listing, shown

Floats = NDArray[np.float64]

_UTM_EASTING_M = (100_000.0, 900_000.0)
_LARGEST_M = 1e8
"""Further than any point of the earth from the origin of its projection."""
_FAR_MADS = 50.0
_FAR_M = 5_000.0
_MANY_HEADINGS = 20


def check_metres(listing: Listing, columns: Mapping[str, Floats], *, swap_axes: bool) -> None:
    """Refuse degrees in columns of metres, and easting and northing in each other's place.

    Args:
        listing: Where the columns come from.
        columns: Easting, then northing, by column name.
        swap_axes: Whether they were already exchanged.

    Raises:
        DataError: The values cannot be metres, or are in each other's place.
    """
    for name, values in columns.items():
        listing.refuse(
            np.abs(values) > _LARGEST_M, name, "is too large for metres", "correct the row"
        )
    in_degrees = {name: _looks_like_degrees(values) for name, values in columns.items()}
    other_is_utm = [np.abs(np.median(values)) > 10_000.0 for values in columns.values()]
    for (name, values), other in zip(columns.items(), reversed(other_is_utm), strict=True):
        if in_degrees[name] and (all(in_degrees.values()) or other):
            raise DataError(
                f"{listing.source}: column {name!r} is {values.min():.7g} to "
                f"{values.max():.7g}: degrees, it seems, where metres are due. Name columns in "
                "degrees latitude and longitude, and they are projected to metres"
            )
    easting, northing = columns.values()
    if _is_utm_easting(northing) and np.median(easting) > 1_000_000.0:
        raise DataError(
            f"{listing.source}: easting is {np.median(easting):.0f} m and northing "
            f"{np.median(northing):.0f} m in the middle: in UTM these are in each other's "
            f"place; set dataset.swap_axes = {'false' if swap_axes else 'true'}"
        )


def _is_utm_easting(values: Floats) -> bool:
    low, high = _UTM_EASTING_M
    return bool(low <= np.median(values) <= high)


def _looks_like_degrees(values: Floats) -> bool:
    """Return whether values are more likely degrees than metres.

    Degrees of one city span less than 1, lie away from 0 and have many decimals. A local
    route of 0 to 100 m is none of this.
    """
    if np.abs(values).max() > 180.0 or not 0.0 < np.ptp(values) < 1.0:
        return False
    thousandths = values * 1e3
    has_decimals = np.abs(thousandths - np.round(thousandths)) > 1e-6
    return bool(np.abs(np.median(values)) > np.ptp(values) and has_decimals.mean() > 0.5)


def check_degrees(listing: Listing, longitude: Floats, latitude: Floats) -> None:
    """Refuse what is no latitude and longitude.

    Raises:
        DataError: A value is out of range; the message tells metres and swapped columns.
    """
    remedy = "correct the row, or set dataset.swap_axes if the columns are exchanged"
    bad_latitude = np.abs(latitude) > 90.0
    if bad_latitude.all() and (np.abs(longitude) <= 90.0).all() and latitude.max() <= 180.0:
        remedy = "latitude and longitude are in each other's place: set dataset.swap_axes"
    elif np.abs(latitude).max() > 1e3 and bad_latitude.mean() > 0.5:
        remedy = "if these are metres, name the columns easting_m and northing_m"
    listing.refuse(bad_latitude, "latitude", "is not within -90 to 90 degrees", remedy)
    bad_longitude = np.abs(longitude) > 180.0
    listing.refuse(bad_longitude, "longitude", "is not within -180 to 180 degrees", remedy)
    polar = (latitude > 84.0) | (latitude < -80.0)
    listing.refuse(
        polar, "latitude", "is outside UTM, -80 to 84 degrees", "give metres instead"
    )


def far_away(listing: Listing, positions_m: Floats) -> tuple[str, ...]:
    """Return a note naming images kilometres from the rest, if there are any.

    Far is more than 5 km from the median position and more than 50 times the median of
    that distance.
    """
    distance_m = np.linalg.norm(positions_m - np.median(positions_m, axis=0), axis=1)
    usual_m = float(np.median(distance_m))
    rows = np.flatnonzero(distance_m > max(_FAR_M, _FAR_MADS * usual_m))
    if not len(rows):
        return ()
    named = shown(listing.where(rows[: MAX_EXAMPLES + 1]))
    note = (
        f"{len(rows)} positions lie up to {distance_m.max() / 1000:.0f} km from the rest, "
        f"half of which lies within {usual_m:.0f} m; are they right? {named}"
    )
    return (note,)


def check_headings(listing: Listing, name: str, values: Floats) -> tuple[str, ...]:
    """Refuse degrees in a column of radians; return a note on the opposite.

    Raises:
        DataError: A value is more than a full turn.
    """
    if name == "heading_rad":
        problem = "is more than a full turn of 6.2832 radians"
        remedy = "if these are degrees, name the column heading_deg"
        listing.refuse(np.abs(values) > 2 * np.pi + 1e-6, name, problem, remedy)
        return ()
    problem = "is more than a full turn of 360 degrees"
    listing.refuse(np.abs(values) > 360.0, name, problem, "correct the row")
    few = len(values) < _MANY_HEADINGS or np.ptp(values) < 1.0
    if few or np.abs(values).max() > 2 * np.pi + 1e-6:
        return ()
    note = f"heading_deg is {values.min():.2f} to {values.max():.2f} in all rows; "
    return (note + "if these are radians, name the column heading_rad",)
