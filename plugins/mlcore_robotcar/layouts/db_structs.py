"""RobotCar in dbStruct files: MATLAB v5, one per split, next to folders of colour images."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlcore.data import MatArray, fields_of, numbers_of, read_mat, texts_of
from mlcore.errors import DataError
from mlcore_robotcar.config import RobotCarConfig
from mlcore_robotcar.download.tree import DATE
from mlcore_robotcar.layouts.listed import Listed, ListedSource

_SPLITS = {"train": "train", "val": "validation", "validation": "validation", "test": "test"}
_WORD = re.compile(r"[a-z]+")
_STAMP = re.compile(r"(\d{1,18})\.(?:png|jpe?g)", re.ASCII | re.IGNORECASE)
_LISTS = {"references": ("dbImageFns", "utmDb"), "queries": ("qImageFns", "utmQ")}
_UTM_NORTHING_M = 1_000_000.0
"""Northings north of 9 degrees are larger, and no easting is."""
_UTM_EASTING_M = (100_000.0, 900_000.0)
_LARGEST_M = 1e8
_MAGIC = b"MATLAB 5.0"


class _Part(NamedTuple):
    """References or queries of a file: images and ``(N, 2)`` positions, easting first."""

    key: tuple[str, str]
    paths: list[str]
    dates: list[str]
    stamps: list[int]
    positions_m: NDArray[np.float64]


def find_db_structs(root: Path) -> list[Path]:
    """Return the MATLAB files of a folder that hold a dbStruct, or are too damaged to tell."""
    paths = sorted((*root.glob("*.mat"), *root.glob("*.db")))
    return [path for path in paths if _is_ours(path)]


def _is_ours(path: Path) -> bool:
    if path.suffix == ".db" and not _is_matlab(path):
        return False  # seqNet's are MATLAB files; other programs have databases of that name
    try:
        return "dbStruct" in (variables := read_mat(path)) or "dbImageFns" in variables
    except DataError:
        return True


def _is_matlab(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_MAGIC)) == _MAGIC
    except OSError:
        return False


def open_db_structs(config: RobotCarConfig, root: Path) -> ListedSource:
    """Return images ``RUN/stereo/left/images/TIMESTAMP.png`` as dbStruct files list them.

    Their references and queries are the splits, unless options name others.

    Raises:
        DataError: A file is damaged, foreign or implausible, or leads out of the root.
    """
    paths = find_db_structs(root)
    if not paths:
        raise DataError(f"no .mat or .db file in {root} holds a dbStruct; set dataset.layout")
    notes: list[str] = []
    parts = [part for path in paths for part in _parts(path, notes)]
    names = np.array([name for part in parts for name in part.paths])
    if not len(names):
        raise DataError(f"{paths[0]} names no image; download it again")
    unique, first, row = np.unique(names, return_index=True, return_inverse=True)
    positions_m = np.concatenate([part.positions_m for part in parts])
    apart = np.abs(positions_m - positions_m[first][row]).max(axis=1) > 1.0
    if apart.any():
        raise DataError(
            f"{names[apart][0]} and {int(apart.sum()) - 1} more images of {root} have two "
            "positions, more than 1 m apart; take the files of one release"
        )
    ends = np.cumsum([len(part.paths) for part in parts])
    rows: dict[tuple[str, str], list[NDArray[np.int64]]] = {}
    for part, end in zip(parts, ends.tolist(), strict=True):
        rows.setdefault(part.key, []).append(row[end - len(part.paths) : end])
    listed = Listed(
        dates=np.array([date for part in parts for date in part.dates])[first],
        timestamps=np.array([stamp for part in parts for stamp in part.stamps])[first],
        paths=pa.array(unique.tolist(), pa.large_string()),
        positions_m=np.ascontiguousarray(positions_m[first]),
        headings_rad=None,
        own={key: np.unique(np.concatenate(found)) for key, found in rows.items()}
        if _is_their_own(config)
        else None,
    )
    return ListedSource("dbStruct files (MATLAB)", root, listed, config.leave_out, notes)


def _is_their_own(config: RobotCarConfig) -> bool:
    """Return whether no option names other splits than those of the files."""
    named = (config.reference, config.validation_reference, config.queries)
    return (
        config.protocol == "paper"
        and config.regions is None
        and not any(named)
        and not config.validation_queries
    )


def _parts(path: Path, notes: list[str]) -> Iterator[_Part]:
    variables = read_mat(path)
    fields = fields_of(variables["dbStruct"]) if "dbStruct" in variables else variables
    split = _split(path, fields, notes)
    counts = []
    for role, (names_field, positions_field) in _LISTS.items():
        for field in (names_field, positions_field):
            if field not in fields:
                raise DataError(
                    f"{path} has no {field}; it needs dbImageFns, utmDb, qImageFns and utmQ, "
                    f"and has {', '.join(fields)[:300] or 'none of them'}"
                )
        names = texts_of(fields[names_field]) if fields[names_field].size else []
        positions = numbers_of(fields[positions_field])
        where = f"{path}: {positions_field}"
        positions_m = _positions(where, positions, len(names), notes)
        found = [_image(f"{path}: {names_field}", name) for name in names]
        counts.append(f"{len(names)} {role}")
        yield _Part(
            (split, role), [one[0] for one in found], [one[1] for one in found],
            [one[2] for one in found], positions_m,
        )  # fmt: skip
    threshold = numbers_of(fields["posDistThr"]) if "posDistThr" in fields else np.empty(0)
    limit = f", posDistThr {threshold.item():g} m" if threshold.size == 1 else ""
    notes.append(f"{path.name}: {split}, {' and '.join(counts)}{limit}")


def _split(path: Path, fields: Mapping[str, MatArray], notes: list[str]) -> str:
    """Return the split of a file, by its field whichSet, or else by its name."""
    which = fields.get("whichSet")
    said = texts_of(which)[:1] if which is not None and which.size else []
    for words in (said, _WORD.findall(path.stem.lower())):
        for word in words:
            if word.lower() in _SPLITS:
                return _SPLITS[word.lower()]
    notes.append(f"{path.name} does not name its split: used as test")
    return "test"


def _positions(
    where: str, positions: NDArray[np.float64], count: int, notes: list[str]
) -> NDArray[np.float64]:
    """Return ``(count, 2)``, easting first: these files have northing in row 0."""
    if not count and not positions.size:
        return np.empty((0, 2))
    if positions.shape != (2, count):
        raise DataError(
            f"{where} is {' x '.join(map(str, positions.shape))} but must be 2 x {count}, "
            "a column per named image; take names and positions from one release"
        )
    bad = np.flatnonzero(~(np.abs(positions) <= _LARGEST_M).all(axis=0))
    if len(bad):
        raise DataError(
            f"{where}: position {bad[0] + 1} is {positions[:, bad[0]].tolist()}, and "
            f"{len(bad) - 1} more are out of range for metres on earth; download the file again"
        )
    first, second = np.median(positions, axis=1)
    if np.abs(positions).max() <= 180 and abs(first) > 1 and (np.ptp(positions, 1) < 1).all():
        raise DataError(
            f"{where} is around {first:.5f} and {second:.5f}, which looks like degrees but "
            "must be metres; project them to UTM"
        )
    low, high = _UTM_EASTING_M
    if low <= first <= high and second > _UTM_NORTHING_M:
        notes.append(
            f"{where}: its first row is around {first:.0f} m and its second around "
            f"{second:.0f} m: easting before northing; they were exchanged"
        )
        return positions.T
    return positions[::-1].T


def _image(where: str, name: str) -> tuple[str, str, int]:
    """Return path, traversal and timestamp of an image."""
    path = PurePosixPath(name.replace("\\", "/"))
    stamp = _STAMP.fullmatch(path.name)
    safe = not path.is_absolute() and ".." not in path.parts and "\0" not in name
    if not safe or stamp is None or len(path.parts) < 2:
        raise DataError(
            f"{where} names {name[:200]!r}; expected a path such as "
            "2014-12-02-15-30-08/stereo/left/images/1417534208124875.png"
        )
    dates = [part for part in path.parts if DATE.fullmatch(part)]
    return str(path), (dates or path.parts)[0], int(stamp[1])
