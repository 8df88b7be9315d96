"""Images that carry their position as EXIF GPS."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image

from mlcore_images.readers.folders import folder_labels
from mlcore_images.readers.listing import Listing, shown

_GPS, _EXIF = 0x8825, 0x8769
_LATITUDE_REF, _LATITUDE, _LONGITUDE_REF, _LONGITUDE, _DIRECTION = 1, 2, 3, 4, 17
_TAKEN = 0x9003

_DAMAGED = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    Image.DecompressionBombError,
)
"""What Pillow raises for files that are no image, and EXIF that is none."""

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


def list_exif(root: Path, folders: Iterable[tuple[PurePosixPath, list[str]]]) -> Listing | None:
    """Return the images with a GPS position, or None if not one has any.

    Opens every image, reads its header only: about a thousand a second.

    Args:
        root: Folder that the paths are relative to.
        folders: What :func:`mlcore_images.readers.folders.image_folders` yields.
    """
    columns: dict[str, list[Any]] = {name: [] for name in _TYPES}
    skipped = []
    for folder, names in folders:
        labels = folder_labels(folder)
        for name in names:
            path = str(folder / name)
            found = read_gps(root / folder / name)
            if found is None:
                skipped.append(path)
                continue
            row = {**labels, **found, "path": path}
            for column, values in columns.items():
                values.append(row.get(column))
    if not columns["path"]:
        return None
    table = pa.table({name: pa.array(columns[name], kind) for name, kind in _TYPES.items()})
    empty = [name for name in _TYPES if table[name].null_count == len(table)]
    table = table.drop_columns(empty)
    note = f"{len(skipped)} images have no EXIF GPS and are left out: {shown(skipped)}"
    notes = (note,) if skipped else ()
    return Listing(root, root, table, tuple(table.column_names), "EXIF", notes)


def read_gps(path: Path) -> Mapping[str, float | str] | None:
    """Return latitude, longitude and, where known, heading_deg and timestamp of an image.

    None if the file is no image or has no usable position.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF: the image counts as without
            with Image.open(path) as image:
                exif = image.getexif()
                gps, taken = exif.get_ifd(_GPS), exif.get_ifd(_EXIF).get(_TAKEN)
        latitude = _degrees(gps[_LATITUDE], gps.get(_LATITUDE_REF, "N"), "S")
        longitude = _degrees(gps[_LONGITUDE], gps.get(_LONGITUDE_REF, "E"), "W")
        heading = float(gps.get(_DIRECTION, np.nan))
    except _DAMAGED:
        return None
    if not np.isfinite([latitude, longitude]).all():
        return None
    found: dict[str, float | str] = {"latitude": latitude, "longitude": longitude}
    if np.isfinite(heading):
        found["heading_deg"] = heading
    if isinstance(taken, str) and taken.strip():
        found["timestamp"] = taken.strip()
    return found


def _degrees(parts: Iterable[Any], reference: object, negative: str) -> float:
    degrees, minutes, seconds = (float(part) for part in parts)
    value = degrees + minutes / 60.0 + seconds / 3600.0
    return -value if str(reference).strip().upper() == negative else value
