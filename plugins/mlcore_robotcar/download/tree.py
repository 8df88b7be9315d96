"""The download on disk: which traversals are there, and where their parts are.

Tars are extracted into one folder, or each into its own, or not at all; all at once is
common. Whatever lies in a folder named like a traversal belongs to it.
"""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mlcore.errors import DataError
from mlcore_robotcar.config import Camera

DATE = re.compile(r"\d{4}-\d{2}-\d{2}-\d{2}-\d{2}-\d{2}", re.ASCII)
_TAR = re.compile(rf"({DATE.pattern})_(.+?)(?:_(\d+))?\.tar", re.ASCII | re.IGNORECASE)
_DEPTH = 4
_SENSORS = frozenset(
    {"stereo", "mono_left", "mono_right", "mono_rear", "lms_front", "lms_rear"}
)
"""Folders of a traversal with too many files to be looked through."""


@dataclass
class Traversal:
    """The parts of one traversal.

    Attributes:
        date: Its name.
        folders: Folders of that name.
        tars: Tars of the camera's images, by chunk; several where a chunk is there twice.
        other_tars: Its tars of other sensors.
    """

    date: str
    folders: list[Path] = field(default_factory=list)
    tars: dict[int, list[Path]] = field(default_factory=lambda: defaultdict(list))
    other_tars: list[Path] = field(default_factory=list)

    def find(self, *names: str) -> Path | None:
        """Return the first of these files that is there."""
        paths = (folder / name for name in names for folder in self.folders)
        return next((path for path in paths if path.is_file()), None)

    def tars_of(self, sensor: str) -> list[Path]:
        """Return the tars of another sensor than the camera, such as gps."""
        name = f"{self.date}_{sensor}.tar"
        return [path for path in self.other_tars if path.name.lower() == name]

    def image_folders(self, camera: Camera) -> list[Path]:
        """Return the folders of extracted images."""
        return [path for folder in self.folders if (path := folder / camera).is_dir()]


def find_traversals(
    root: Path, camera: Camera, rtk_root: Path | None = None
) -> dict[str, Traversal]:
    """Return the traversals below a folder by date, in the order of time.

    Args:
        root: Folder of the download.
        camera: Whose tars are looked for.
        rtk_root: Another folder in which traversals' ``rtk.csv`` are; it adds no traversal.

    Raises:
        DataError: A folder cannot be listed.
    """
    found: dict[str, Traversal] = {}
    for path in _entries(root, root.name):
        _add(found, path, camera)
    if rtk_root is not None:
        others: dict[str, Traversal] = {}
        for path in _entries(rtk_root, rtk_root.name):
            _add(others, path, camera)
        for date, traversal in others.items():
            if date in found:
                found[date].folders += traversal.folders
    return {date: found[date] for date in sorted(found)}


def _add(found: dict[str, Traversal], path: Path, camera: Camera) -> None:
    tar = _TAR.fullmatch(path.name)
    if tar is None:
        date = path.name
        found.setdefault(date, Traversal(date)).folders.append(path)
        return
    date, sensor, chunk = tar.groups()
    traversal = found.setdefault(date, Traversal(date))
    if sensor == camera.replace("/", "_") and chunk is not None:
        traversal.tars[int(chunk)].append(path)
    else:
        traversal.other_tars.append(path)


def _entries(folder: Path, name: str, depth: int = 0) -> Iterator[Path]:
    """Yield folders named like a traversal, and tars named like one of it."""
    is_traversal = DATE.fullmatch(name) is not None
    if is_traversal:
        yield folder
    try:
        with os.scandir(folder) as listed:
            entries = sorted((e for e in listed if _may_matter(e)), key=lambda e: e.name)
    except OSError as error:
        raise DataError(
            f"folder {folder} cannot be listed: {error.strerror or error}"
        ) from error
    for entry in entries:
        if entry.name.lower().endswith(".tar"):
            if _TAR.fullmatch(entry.name) and entry.is_file():
                yield Path(entry.path)
        elif depth < _DEPTH and entry.name not in _SENSORS and entry.is_dir():
            yield from _entries(Path(entry.path), entry.name, depth + 1)


def _may_matter(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry may be a folder or a tar: a folder of images has thousands."""
    return not entry.name.startswith(".") and not entry.name.endswith((".png", ".jpg", ".csv"))
