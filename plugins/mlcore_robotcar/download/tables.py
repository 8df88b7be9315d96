"""The tables of a traversal: frame timestamps, positions, tags. Columns are read by name.

Each function takes one file, on disk or in a tar, reads at most 128 MiB of it and either
returns NumPy columns or raises one :class:`mlcore.errors.DataError` with file, row and remedy.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore_robotcar.download.columns import read_columns, read_text
from mlcore_robotcar.download.tar_members import TableFile

GOOD = "INS_SOLUTION_GOOD"
_MAX_CHUNK = 9_999
_MAX_TIMESTAMP = 2**62
_TAG = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
_MAX_TAG = 64


@dataclass(frozen=True, kw_only=True)
class Timestamps:
    """The frames of a traversal, also those of chunks that were not downloaded.

    Attributes:
        timestamps: ``(N,)`` int64 microseconds, ascending, none twice.
        chunks: ``(N,)`` int32, the tar each frame is in.
        num_reversed: Lines that step back in time; they were sorted.
        num_repeated: Lines whose timestamp was there before; they were dropped.
    """

    timestamps: NDArray[np.int64]
    chunks: NDArray[np.int32]
    num_reversed: int = 0
    num_repeated: int = 0


@dataclass(frozen=True, kw_only=True)
class Track:
    """Positions along a traversal, in the order of time.

    Attributes:
        source: The file.
        timestamps: ``(N,)`` int64 microseconds, ascending, none twice.
        positions_m: ``(N, 2)`` float64, easting and northing.
        yaw_rad: ``(N,)`` float64, as in the file.
        is_good: ``(N,)`` bool: the status says so, or there is none (RTK).
        zones: UTM zones named, such as "30U"; none where there is no such column.
        num_nan: Rows with NaN or infinity; they were dropped.
        num_reversed: Rows that step back in time; they were sorted.
        num_repeated: Rows whose timestamp was there before; they were dropped.
        swapped: Whether the columns northing and easting held each other's values, by
            their range; they were exchanged.
    """

    source: TableFile
    timestamps: NDArray[np.int64]
    positions_m: NDArray[np.float64]
    yaw_rad: NDArray[np.float64]
    is_good: NDArray[np.bool_]
    zones: tuple[str, ...] = ()
    num_nan: int = 0
    num_reversed: int = 0
    num_repeated: int = 0
    swapped: bool = False

    def __len__(self) -> int:
        return len(self.timestamps)


def read_timestamps(path: TableFile) -> Timestamps:
    """Read ``stereo.timestamps``: ``<microseconds> <chunk>`` a line, in any order.

    Raises:
        DataError: The file is missing or too large, or a line is something else.
    """
    lines = read_text(path).splitlines()
    rows = [line.split() for line in lines]
    numbers = np.array([at for at, row in enumerate(rows, start=1) if row], dtype=np.int64)
    if not len(numbers):
        raise DataError(f"{path} names no frame: it is empty; download it again")
    values = np.empty((len(numbers), 2), dtype=np.int64)
    for at, number in enumerate(numbers.tolist()):
        values[at] = _frame(path, number, rows[number - 1])
    stamps, num_reversed, num_repeated, order = _in_time(values[:, 0])
    return Timestamps(
        timestamps=stamps,
        chunks=values[order, 1].astype(np.int32),
        num_reversed=num_reversed,
        num_repeated=num_repeated,
    )


def _frame(path: TableFile, number: int, row: Sequence[str]) -> tuple[int, int]:
    plain = len(row) == 2 and all(word.isascii() and word.isdigit() for word in row)
    if plain and len(row[0]) < 20 and len(row[1]) < 10:
        stamp, chunk = int(row[0]), int(row[1])
        if stamp < _MAX_TIMESTAMP and chunk <= _MAX_CHUNK:
            return stamp, chunk
    text = " ".join(row)
    raise DataError(
        f"{path}, line {number}: {text[:60]!r} is not a frame; expected "
        "'<microseconds> <chunk>', such as '1417534208124875 1'"
    )


def read_ins(path: TableFile) -> Track:
    """Read ``gps/ins.csv``; a row is good if its ``ins_status`` is INS_SOLUTION_GOOD.

    Raises:
        DataError: The file is missing, too large or malformed, or its positions are degrees.
    """
    return _track(path, ("timestamp", "ins_status", "northing", "easting", "yaw"))


def read_rtk(path: TableFile) -> Track:
    """Read ``rtk.csv``: every row is good. Its yaw has another zero than that of the INS.

    Raises:
        DataError: As of :func:`read_ins`.
    """
    return _track(path, ("timestamp", "northing", "easting", "yaw"))


def read_gps(path: TableFile) -> Track:
    """Read ``gps/gps.csv``, raw fixes about five times a second; yaw is 0 throughout.

    Raises:
        DataError: As of :func:`read_ins`.
    """
    return _track(path, ("timestamp", "northing", "easting"))


def read_tags(path: TableFile) -> tuple[str, ...]:
    """Read the words of ``tags.csv`` or of a YAML list, lower case, in order, none twice.

    Raises:
        DataError: The file is missing, too large, or something else than a few words.
    """
    text = read_text(path)
    words = []
    for raw in re.split(r"[,;\s\[\]]+", re.sub(r"#[^\n]*", "", text)):
        word = raw.strip("\"'-:").lower()
        if not word or word in ("tags", "tag"):
            continue
        if len(word) > _MAX_TAG or not _TAG.fullmatch(word):
            raise DataError(
                f"{path}: {word[:60]!r} is not a tag; expected words such as sun, overcast or "
                "night, separated by commas or lines"
            )
        words.append(word)
    return tuple(dict.fromkeys(words))


def _track(path: TableFile, needed: Sequence[str]) -> Track:
    columns = read_columns(
        path, needed, also=("utm_zone",), texts=("ins_status", "utm_zone"), whole=("timestamp",)
    )
    stamps: NDArray[np.int64] = columns["timestamp"]
    yaw_rad = columns.get("yaw", np.zeros(len(stamps)))
    values = np.stack([columns["easting"], columns["northing"], yaw_rad], axis=1)
    odd = np.flatnonzero((stamps < 0) | (stamps >= _MAX_TIMESTAMP))
    if len(odd):
        raise DataError(
            f"{path}, row {odd[0] + 1}: timestamp {stamps[odd[0]]} is not a time in "
            "microseconds"
        )
    finite = np.isfinite(values).all(axis=1)
    stamps, values = stamps[finite], values[finite]
    stamps, num_reversed, num_repeated, order = _in_time(stamps)
    status = columns.get("ins_status")
    good = np.ones(len(finite), bool) if status is None else (status == GOOD).astype(bool)
    values = values[order]
    zones = columns.get("utm_zone", np.empty(0, dtype=object))
    track = Track(
        source=path,
        timestamps=stamps,
        positions_m=np.ascontiguousarray(values[:, :2]),
        yaw_rad=np.ascontiguousarray(values[:, 2])
        if "yaw" in columns
        else np.zeros(len(order)),
        is_good=good[finite][order],
        zones=tuple(sorted({str(zone) for zone in zones if zone})),
        num_nan=int((~finite).sum()),
        num_reversed=num_reversed,
        num_repeated=num_repeated,
    )
    return _metres(track)


def _in_time(
    stamps: NDArray[np.int64],
) -> tuple[NDArray[np.int64], int, int, NDArray[np.int64]]:
    """Return sorted timestamps, the numbers reversed and repeated, and the rows kept."""
    num_reversed = int((np.diff(stamps) < 0).sum())
    order = np.argsort(stamps, kind="stable")
    ordered = stamps[order]
    first = np.concatenate([np.ones(min(1, len(stamps)), bool), np.diff(ordered) > 0])
    return ordered[first], num_reversed, int((~first).sum()), order[first]


_LARGEST_M = 1e8
_UTM_EASTING_M = (100_000.0, 900_000.0)
_UTM_NORTHING_M = 1_000_000.0
"""Northings north of 9 degrees are larger, and no easting is."""


def _metres(track: Track) -> Track:
    """Return the track in metres, easting first; refuse degrees."""
    positions = track.positions_m
    if not len(positions):
        return track
    far = np.flatnonzero(np.abs(positions).max(axis=1) > _LARGEST_M)
    if len(far):
        raise DataError(
            f"{track.source}: easting and northing {tuple(positions[far[0]].tolist())} at "
            f"{track.timestamps[far[0]]} and {len(far) - 1} more are out of range for "
            "metres on earth; download the file again"
        )
    middle, extent = np.median(positions, axis=0), np.ptp(positions, axis=0)
    if np.abs(positions).max() <= 180 and (extent < 1).all() and (np.abs(middle) > 1).all():
        raise DataError(
            f"{track.source}: easting and northing are around {middle[0]:.5f} and "
            f"{middle[1]:.5f}, which look like degrees but must be metres; download it again"
        )
    low, high = _UTM_EASTING_M
    if middle[0] > _UTM_NORTHING_M and low <= middle[1] <= high:
        flipped = np.ascontiguousarray(positions[:, ::-1])
        return replace(track, positions_m=flipped, swapped=True)
    return track
