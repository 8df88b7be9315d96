"""File names of GSV-Cities, which hold everything that is known of an image.

``CITY_PLACE_YEAR_MONTH_HEADING_LATITUDE_LONGITUDE_PANORAMA.JPG``; the identifier of a panorama
may contain ``_`` and ``-``.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

_NUM_FIELDS = 8


class View(NamedTuple):
    """What a file name says of its image.

    Attributes:
        name: The file name.
        place: Number of the place in its city.
        month: Months since the year 0.
        heading_deg: Clockwise from north, not wrapped.
        latitude_deg: Of the camera.
        longitude_deg: Of the camera.
        panorama: Identifier of the panorama.
    """

    name: str
    place: int
    month: int
    heading_deg: float
    latitude_deg: float
    longitude_deg: float
    panorama: str


def parse(name: str) -> View | None:
    """Return what a file name says; None if it has another form."""
    stem, _, _ = name.rpartition(".")
    fields = stem.split("_", _NUM_FIELDS - 1)
    if len(fields) != _NUM_FIELDS:
        return None
    _, place, year, month, heading, latitude, longitude, panorama = fields
    try:
        view = View(
            name,
            int(place),
            12 * int(year) + int(month) - 1,
            float(heading),
            float(latitude),
            float(longitude),
            panorama,
        )
    except ValueError:
        return None
    numbers = view.heading_deg, view.latitude_deg, view.longitude_deg
    is_position = abs(view.latitude_deg) <= 90.0 and abs(view.longitude_deg) <= 180.0
    return view if all(map(math.isfinite, numbers)) and is_position else None


def parse_all(names: Iterable[str]) -> tuple[list[View], list[str]]:
    """Return the views of a city in the order of place, time and name, and other names."""
    views: list[View] = []
    others: list[str] = []
    for name in sorted(names):
        view = parse(name)
        if view is None:
            others.append(name)
        else:
            views.append(view)
    return sorted(views, key=lambda view: (view.place, view.month, view.name)), others
