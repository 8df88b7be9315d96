"""Images that carry their position as EXIF GPS."""

from __future__ import annotations

import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from mlcore.data import DAMAGED_EXIF, MAX_EXAMPLES, open_image
from mlcore.factories import Finding
from mlcore_images.readers.folders import folder_labels
from mlcore_images.readers.listing import Listing

_GPS, _EXIF = 0x8825, 0x8769
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _STATUS, _DIRECTION = 1, 2, 3, 4, 9, 17
_TAKEN = 0x9003

_HAS_DATE = re.compile("[1-9]")
"""An unknown date is written as blanks between colons, or as zeros."""

NO_GPS = "images have no EXIF GPS and are left out"

_TYPES = {
    "path": pa.large_string(),
    "latitude": pa.float64(),
    "longitude": pa.float64(),
    "heading_deg": pa.float64(),
    "timestamp": pa.large_string(),
    "split": pa.string(),
    "role": pa.string(),
    "condition": pa.string(),
}


class _NoPositionError(Exception):
    """The image has no position that can be used; the text says why."""


def list_exif(root: Path, folders: Iterable[tuple[PurePosixPath, list[str]]]) -> Listing | None:
    """Return the images with a GPS position, or None if not one has any.

    Opens every image, reads its header only: about a thousand per second.

    Args:
        root: Folder that the paths are relative to.
        folders: Folders relative to it, and the names of the images in them.
    """
    columns: dict[str, list[Any]] = {name: [] for name in _TYPES}
    without: dict[str, list[str]] = defaultdict(list)
    for folder, names in folders:
        labels = folder_labels(folder)
        for name in names:
            path = str(folder / name)
            found = read_position(root / folder / name)
            if isinstance(found, str):
                without[found].append(path)
                continue
            row = {**labels, **found, "path": path}
            for column, values in columns.items():
                values.append(row.get(column))
    if not columns["path"]:
        return None
    table = pa.table({name: pa.array(columns[name], kind) for name, kind in _TYPES.items()})
    empty = [name for name in _TYPES if table[name].null_count == len(table)]
    table = table.drop_columns(empty)
    findings = tuple(
        Finding("warning", reason, len(paths), tuple(paths[:MAX_EXAMPLES]), "exif-positions")
        for reason, paths in without.items()
    )
    return Listing(root, root, table, tuple(table.column_names), "EXIF", findings)


def read_gps(path: Path) -> Mapping[str, float | str] | None:
    """Return latitude, longitude and, where known, heading_deg and timestamp of an image.

    None if the file is not an image or has no usable position.
    """
    found = read_position(path)
    return None if isinstance(found, str) else found


def read_position(path: Path) -> Mapping[str, float | str] | str:
    """Return what :func:`read_gps` does, or why an image has no usable position."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged EXIF: the image counts as without
            with open_image(path) as image:
                exif = image.getexif()
                gps, taken = exif.get_ifd(_GPS), exif.get_ifd(_EXIF).get(_TAKEN)
        latitude, longitude = _coordinates(gps)
    except _NoPositionError as reason:
        return str(reason)
    except DAMAGED_EXIF:
        return "images are damaged, or their EXIF block is, and are left out"
    heading = _heading(gps.get(_DIRECTION))
    found: dict[str, float | str] = {"latitude": latitude, "longitude": longitude}
    if heading is not None:
        found["heading_deg"] = heading
    if isinstance(taken, str) and _HAS_DATE.search(taken):
        found["timestamp"] = taken.strip("\0 ")
    return found


def _coordinates(gps: Mapping[int, Any]) -> tuple[float, float]:
    """Return latitude and longitude in degrees.

    Raises:
        _NoPositionError: There are none, or they are no position.
    """
    if _LATITUDE not in gps or _LONGITUDE not in gps:
        raise _NoPositionError(NO_GPS)
    if _text(gps.get(_STATUS)).strip().upper() == "V":
        raise _NoPositionError(
            "images have an EXIF position marked void (GPSStatus V) and are left out"
        )
    latitude = signed_degrees(gps[_LATITUDE], gps.get(_LATITUDE_REF), "NS")
    longitude = signed_degrees(gps[_LONGITUDE], gps.get(_LONGITUDE_REF), "EW")
    if latitude == longitude == 0.0:
        raise _NoPositionError("images are at latitude 0, longitude 0: no GPS fix, left out")
    if abs(latitude) > 90.0 or abs(longitude) > 180.0:
        raise _NoPositionError(
            "images have an EXIF latitude or longitude out of range and are left out"
        )
    return latitude, longitude


def signed_degrees(parts: object, reference: object, letters: str) -> float:
    """Return a latitude or longitude in degrees; south and west are negative.

    Args:
        parts: Degrees, minutes and seconds, the latter two optional.
        reference: The hemisphere, as any writer may have stored it.
        letters: The letter of the positive hemisphere, then that of the negative one.

    Raises:
        _NoPositionError: The hemisphere is missing, unknown or contradicts the sign, or a
            part is not a number.
    """
    values = _numbers(parts)
    degrees = sum(abs(value) / unit for value, unit in zip(values, (1, 60, 3600), strict=False))
    letter = _text(reference).strip()[:1].upper()
    if letter == letters[1]:
        return -degrees
    if not letter or letter not in letters:
        raise _NoPositionError(
            f"images have no {letters[0]} or {letters[1]} beside their EXIF position and are "
            "left out"
        )
    if min(values) < 0:
        raise _NoPositionError(
            f"images have a negative EXIF position marked {letter} and are left out"
        )
    return degrees


def _numbers(parts: object) -> list[float]:
    """Return up to three finite numbers; 0/0 seconds are how some cameras write none."""
    listed = list(parts) if isinstance(parts, tuple | list | bytes) else [parts]
    values = [_number(part) for part in listed]
    if len(values) == 3 and getattr(listed[2], "numerator", 1) == 0 and math.isnan(values[2]):
        values[2] = 0.0
    first = next((value for value in values if value), 0.0)
    if (
        not 1 <= len(values) <= 3
        or not all(map(math.isfinite, values))
        or any(abs(value) > 60 for value in values[1:])  # 60 itself is 59.99997, rounded
        or (first > 0 > min(values))
    ):
        raise _NoPositionError(
            "images have an EXIF position that is not degrees, minutes and seconds, left out"
        )
    return values


def _number(part: object) -> float:
    try:
        return float(part)  # type: ignore[arg-type]  # numbers and Pillow's rationals
    except (TypeError, ValueError, ArithmeticError):
        return math.nan


def _text(reference: object) -> str:
    """Return the text of an EXIF field without NULs, whatever type it was written as."""
    if isinstance(reference, int):
        reference = [reference]
    if isinstance(reference, tuple | list):
        reference = bytes(
            value for value in reference if isinstance(value, int) and 0 <= value < 256
        )
    if isinstance(reference, bytes):
        reference = reference.decode("latin-1")
    return reference.replace("\0", "") if isinstance(reference, str) else ""


def _heading(direction: object) -> float | None:
    value = _number(direction)
    return value if math.isfinite(value) else None
