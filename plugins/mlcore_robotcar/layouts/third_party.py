"""Third-party layouts of RobotCar: tables beside images, positions in names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import numpy as np
import pyarrow as pa

from mlcore.data import wrap_rad
from mlcore.errors import DataError
from mlcore_robotcar.config import RobotCarConfig
from mlcore_robotcar.download.columns import read_columns
from mlcore_robotcar.download.tree import DATE
from mlcore_robotcar.layouts.listed import Listed, ListedSource

CSV_COLUMNS = ("date", "folder", "t", "easting", "northing", "yaw")
_LONGEST_HEADER = 10_000
_NUMBER = re.compile(r"\d{1,3}", re.ASCII)
_NAME = re.compile(
    rf"@(-?[\d.]+)@(-?[\d.]+)@({DATE.pattern})@([^@]*)@(\d{{1,18}})@[^@]*\.(?:jpe?g|png)",
    re.ASCII | re.IGNORECASE,
)
_DEPTH = 4
_UTM_NORTHING_M = 1_000_000.0


def find_tables(root: Path) -> list[Path]:
    """Return the tables of the CSV layout in a folder."""
    return [path for path in sorted(root.glob("*.csv")) if _is_ours(path)]


def _is_ours(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            first = file.readline(_LONGEST_HEADER)
    except OSError:
        return False
    names = [name.strip() for name in first.decode("utf-8-sig", "replace").split(",")]
    return set(CSV_COLUMNS) <= set(names)


def open_tables(config: RobotCarConfig, root: Path) -> ListedSource:
    """Return images ``{date}_stereo_centre_{NN}/{t}.png`` with rows in CSV files.

    The column folder holds NN, or the folder's name.

    Raises:
        DataError: A table is malformed, or leads out of the root.
    """
    paths = find_tables(root)
    if not paths:
        raise DataError(
            f"no table in {root} has the columns {','.join(CSV_COLUMNS)}; set dataset.layout"
        )
    sensor = config.camera.replace("/", "_")
    parts = [_read_table(path, sensor) for path in paths]
    notes = [f"{len(part.dates)} images of {path}" for path, part in zip(paths, parts)]  # noqa: B905
    images = pa.concat_arrays([part.paths for part in parts])
    _, first = np.unique(images.to_numpy(zero_copy_only=False).astype(str), return_index=True)
    if len(first) < len(images):
        notes.append(f"{len(images) - len(first)} images are listed again; taken once")
    headings = [part.headings_rad for part in parts if part.headings_rad is not None]
    listed = Listed(
        dates=np.concatenate([part.dates for part in parts])[first],
        timestamps=np.concatenate([part.timestamps for part in parts])[first],
        paths=images.take(pa.array(first)),
        positions_m=np.concatenate([part.positions_m for part in parts])[first],
        headings_rad=np.concatenate(headings)[first],
    )
    return ListedSource("third-party tables (CSV)", root, listed, config.leave_out, notes)


def _read_table(path: Path, sensor: str) -> Listed:
    columns = read_columns(path, CSV_COLUMNS, texts=("date", "folder"), whole=("t",))
    values = np.stack([columns[name] for name in ("easting", "northing", "yaw")], axis=1)
    odd = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(odd):
        raise DataError(
            f"{path}, row {odd[0] + 1}: easting, northing or yaw is {values[odd[0]].tolist()}, "
            f"and {len(odd) - 1} more; remove these rows"
        )
    easting, northing = np.median(values[:, :2], axis=0)
    if easting > _UTM_NORTHING_M > northing:
        raise DataError(
            f"{path}: eastings are around {easting:.0f} and northings around {northing:.0f}: "
            "the columns are swapped; exchange their names"
        )
    dates = [str(date) for date in columns["date"]]
    names = [
        _image(path, row, date, str(folder), int(stamp), sensor)
        for row, (date, folder, stamp) in enumerate(
            zip(dates, columns["folder"], columns["t"], strict=True), start=1
        )
    ]
    return Listed(
        dates=np.array(dates),
        timestamps=columns["t"],
        paths=pa.array(names, pa.large_string()),
        positions_m=np.ascontiguousarray(values[:, :2]),
        headings_rad=wrap_rad(values[:, 2]),
    )


def _image(path: Path, row: int, date: str, folder: str, stamp: int, sensor: str) -> str:
    if _NUMBER.fullmatch(folder):
        folder = f"{date}_{sensor}_{int(folder):02d}"
    parts = PurePosixPath(folder).parts
    if not DATE.fullmatch(date) or ".." in parts or folder.startswith("/") or "\0" in folder:
        raise DataError(
            f"{path}, row {row}: date {date[:60]!r} and folder {folder[:60]!r} are not a "
            "folder; expected 2014-12-02-15-30-08 and 1, or "
            "2014-12-02-15-30-08_stereo_centre_01"
        )
    return f"{folder}/{stamp}.png"


def find_names(root: Path) -> Iterator[str]:
    """Yield the paths, relative to a folder, of images named with ``@``."""
    base = len(str(root).rstrip("/")) + 1
    for folder, folders, files in os.walk(root):
        folders.sort()
        if folder[base:].count("/") >= _DEPTH:
            folders.clear()
        for name in sorted(files):
            if name.startswith("@"):
                yield f"{folder[base:]}/{name}".lstrip("/")


def open_names(config: RobotCarConfig, root: Path) -> ListedSource:
    """Return images ``@northing@easting@date@frame@timestamp@.jpg``: northing first.

    Raises:
        DataError: No name is like this.
    """
    dates, stamps, paths, positions, skipped = [], [], [], [], []
    for path in find_names(root):
        found = _NAME.fullmatch(path.rpartition("/")[2])
        try:
            northing_easting = (float(found[1]), float(found[2])) if found else None
        except ValueError:  # 1.2.3
            northing_easting = None
        if found is None or northing_easting is None:
            skipped.append(path)
            continue
        positions.append(northing_easting)
        dates.append(found[3])
        stamps.append(int(found[5]))
        paths.append(path)
    if not paths:
        raise DataError(
            f"no image in {root} is named @northing@easting@date@frame@timestamp@.jpg"
            + (f"; {skipped[0]} is not" if skipped else "")
        )
    notes = [f"{len(paths)} images with positions in their names, northing first"]
    if skipped:
        notes.append(f"{len(skipped)} names are not of this form, left out: {skipped[0]}, ...")
    positions_m = np.array(positions)[:, ::-1]
    easting, northing = np.median(positions_m, axis=0)
    if easting > _UTM_NORTHING_M > northing:
        notes.append(
            f"the first field is around {northing:.0f}, the second around {easting:.0f}: "
            "easting before northing; they were exchanged"
        )
        positions_m = positions_m[:, ::-1]
    listed = Listed(
        dates=np.array(dates),
        timestamps=np.array(stamps, np.int64),
        paths=pa.array(paths, pa.large_string()),
        positions_m=np.ascontiguousarray(positions_m),
        headings_rad=None,
    )
    return ListedSource("third-party file names", root, listed, config.leave_out, notes)
