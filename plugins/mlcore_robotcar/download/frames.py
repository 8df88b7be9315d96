"""The frames of a traversal: which are listed, and where the image of each is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore_robotcar.config import Camera
from mlcore_robotcar.download.tables import Timestamps, read_timestamps
from mlcore_robotcar.download.tar_members import TableFile, Tables
from mlcore_robotcar.download.tars import (
    IMAGE,
    MAX_MEMBER_BYTES,
    TarIndex,
    index_tar,
    read_member,
)
from mlcore_robotcar.download.tree import Traversal


@dataclass(frozen=True, kw_only=True)
class Frames:
    """Images that are there, in the order of time.

    Attributes:
        timestamps: ``(N,)`` int64 microseconds, ascending.
        chunks: ``(N,)`` int32; 0 where it is not known.
        source: ``(N,)`` int16 codes into ``sources``.
        offsets: ``(N,)`` int64, where an image begins in its tar; -1 for a file.
        sizes: ``(N,)`` int64 bytes; -1 for a file.
        sources: Folders and tars.
        num_listed: Frames in the file of timestamps; 0 without one.
        num_reversed: Lines of it that step back in time.
        num_repeated: Lines of it that name a frame again.
        absent_chunks: Chunks listed of which no image is there, with their frames.
        num_absent: Frames listed without image in chunks of which some are there.
        num_unlisted: Images that are not listed.
        faults: Tars and tables that cannot be used, in words.
    """

    timestamps: NDArray[np.int64]
    chunks: NDArray[np.int32]
    source: NDArray[np.int16]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    sources: tuple[Path, ...]
    num_listed: int
    num_reversed: int
    num_repeated: int
    absent_chunks: dict[int, int]
    num_absent: int
    num_unlisted: int
    faults: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.timestamps)

    def name(self, row: int) -> str:
        """Return what a person would call the image of a row."""
        return f"{self.sources[self.source[row]]}/{self.timestamps[row]}.png"

    def read(self, row: int) -> bytes:
        """Return the bytes of the image of a row.

        Raises:
            DataError: It is not there any more.
        """
        source = self.sources[self.source[row]]
        if self.offsets[row] >= 0:
            return read_member(source, int(self.offsets[row]), int(self.sizes[row]))
        path = source / f"{self.timestamps[row]}.png"
        try:
            with path.open("rb") as file:
                data: bytes = file.read(MAX_MEMBER_BYTES)
        except OSError as error:
            raise DataError(
                f"image {path} cannot be read: {error.strerror or error}"
            ) from error
        return data


def list_frames(traversal: Traversal, camera: Camera, cache_dir: Path | None = None) -> Frames:
    """Return the images of a traversal, from folders before tars where both have one.

    Args:
        traversal: Where its parts are.
        camera: Whose images.
        cache_dir: Folder in which the indices of tars are kept; None for the user's.
    """
    faults: list[str] = []
    blocks = [_folder(path) for path in traversal.image_folders(camera)]
    sources = traversal.image_folders(camera)
    known_chunks: dict[int, int] = {}
    for chunk, paths in sorted(traversal.tars.items()):
        for path in paths:
            index = _tar(path, camera, cache_dir, faults)
            if index is None:
                continue
            rows = np.stack([index.timestamps, index.offsets, index.sizes])
            known_chunks[len(blocks)] = chunk
            blocks.append(rows)
            sources.append(path)
    sensor = camera.replace("/", "_")
    faults += [
        f"{path} is not named like {traversal.date}_{sensor}_01.tar and is left out; rename it"
        for path in traversal.other_tars
        if f"_{sensor}" in path.name
    ]
    every = np.concatenate([np.empty((3, 0), np.int64), *blocks], axis=1)
    source = np.repeat(np.arange(len(blocks), dtype=np.int16), [b.shape[1] for b in blocks])
    stamps, first = np.unique(every[0], return_index=True)
    source = source[first]
    listed = _listed(Tables(traversal, camera, cache_dir).timestamps(), faults)
    chunks = np.array([known_chunks.get(at, 0) for at in range(len(blocks))], np.int32)[source]
    return _joined(stamps, source, every[1:, first], chunks, listed, sources, faults)


def _joined(
    stamps: NDArray[np.int64],
    source: NDArray[np.int16],
    places: NDArray[np.int64],
    chunks: NDArray[np.int32],
    listed: Timestamps | None,
    sources: list[Path],
    faults: list[str],
) -> Frames:
    absent_chunks: dict[int, int] = {}
    num_absent = num_unlisted = 0
    if listed is not None and len(listed.timestamps):
        at = np.searchsorted(listed.timestamps, stamps).clip(max=len(listed.timestamps) - 1)
        is_listed = listed.timestamps[at] == stamps
        chunks = np.where(is_listed, listed.chunks[at], chunks).astype(np.int32)
        num_unlisted = int((~is_listed).sum())
        absent = ~np.isin(listed.timestamps, stamps)
        there = np.unique(chunks[is_listed])
        for chunk in np.setdiff1d(listed.chunks, there).tolist():
            absent_chunks[chunk] = int((listed.chunks == chunk).sum())
        num_absent = int(absent.sum()) - sum(absent_chunks.values())
    return Frames(
        timestamps=stamps,
        chunks=chunks,
        source=source,
        offsets=np.ascontiguousarray(places[0]),
        sizes=np.ascontiguousarray(places[1]),
        sources=tuple(sources),
        num_listed=0 if listed is None else len(listed.timestamps),
        num_reversed=0 if listed is None else listed.num_reversed,
        num_repeated=0 if listed is None else listed.num_repeated,
        absent_chunks=absent_chunks,
        num_absent=num_absent,
        num_unlisted=num_unlisted,
        faults=tuple(faults),
    )


def _listed(path: TableFile | None, faults: list[str]) -> Timestamps | None:
    if path is None:
        return None
    try:
        return read_timestamps(path)
    except DataError as error:
        faults.append(f"{error}; the images are taken by their names alone")
        return None


def _folder(path: Path) -> NDArray[np.int64]:
    """Return timestamps of the images in a folder, with -1 for offset and size."""
    try:
        with os.scandir(path) as entries:
            found = [match for entry in entries if (match := IMAGE.fullmatch(entry.name))]
    except OSError as error:
        raise DataError(f"folder {path} cannot be listed: {error.strerror or error}") from error
    rows = np.full((3, len(found)), -1, np.int64)
    rows[0] = [int(match[1]) for match in found]
    return rows


def _tar(
    path: Path, camera: Camera, cache_dir: Path | None, faults: list[str]
) -> TarIndex | None:
    try:
        index = index_tar(path, camera, cache_dir)
    except DataError as error:
        faults.append(str(error))
        return None
    if index.truncated:
        faults.append(f"{path} is truncated: {index.truncated}; download it again")
    if not len(index.timestamps):
        faults.append(f"{path} has no image of {camera}, but {index.num_others} other files")
    return index
