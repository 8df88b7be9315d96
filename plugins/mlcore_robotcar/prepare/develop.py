"""What a process of ``prepare`` does: survey a traversal, develop frames, write its index.

Work that is done is noted in small files beside the images (``parts/<traversal>/``), each
written when all images it names are: a process that is killed loses at most one of them.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore.files import atomic_write
from mlcore_robotcar.config import RobotCarConfig
from mlcore_robotcar.download.poses import arc_length_m
from mlcore_robotcar.download.traversal import PosedFrames, read_traversal
from mlcore_robotcar.download.tree import Traversal
from mlcore_robotcar.prepare.decode import decode_png, develop, encode, one_thread
from mlcore_robotcar.prepare.index import (
    SCHEMA,
    image_path,
    index_path,
    make_table,
    read_rows,
    write_table,
)

PARTS = "parts"
SUFFIXES = {"jpeg": "jpg", "png": "png"}


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What a traversal holds, and what of it is to be done.

    Attributes:
        date: Name of the traversal.
        missing: ``(M,)`` int64 timestamps of images to develop.
        num_frames: Images that are there.
        num_posed: Those with a pose.
        without_pose: The others, by reason.
        notes: What was found odd.
        faults: Problems that make results wrong.
        is_indexed: Whether it has an index.
    """

    date: str
    missing: NDArray[np.int64]
    num_frames: int
    num_posed: int
    without_pose: dict[str, int]
    notes: tuple[str, ...]
    faults: tuple[str, ...]
    is_indexed: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Job:
    """What a process has to know. Jobs on one traversal in one call are equal.

    Attributes:
        call: Names the call of ``prepare``; files may have changed since another one.
        config: Options.
        traversal: Where its parts are.
        out: The prepared folder.
    """

    call: str
    config: RobotCarConfig
    traversal: Traversal
    out: Path

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Job) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[str, str]:
        return self.call, self.traversal.date

    @property
    def suffix(self) -> str:
        """Of the images."""
        return SUFFIXES[self.config.image_format]


def survey(job: Job) -> Survey:
    """Return what a traversal holds; reads tables and lists images, decodes none."""
    posed = _posed(job)
    date = job.traversal.date
    stamps = posed.frames.timestamps[posed.rows]
    done = np.concatenate([_indexed(job.out, date), *(p[0] for p in _parts(job.out, date))])
    return Survey(
        date=date,
        missing=np.setdiff1d(stamps, done),
        num_frames=len(posed.frames),
        num_posed=len(posed),
        without_pose=posed.without_pose,
        notes=posed.notes,
        faults=posed.faults,
        is_indexed=index_path(job.out, date).is_file(),
    )


def develop_part(job: Job, stamps: NDArray[np.int64]) -> tuple[int, list[str]]:
    """Develop images and note that they are done.

    Returns:
        How many can be read, and what is wrong with the others.

    Raises:
        DataError: The distortion table does not fit, or the disk is full.
    """
    one_thread()
    date = job.traversal.date
    posed = _posed(job)
    rows = np.searchsorted(posed.frames.timestamps, stamps)
    exposures = np.full(len(stamps), np.nan)
    unreadable = []
    try:
        (job.out / image_path(date, 0, job.suffix)).parent.mkdir(parents=True, exist_ok=True)
        for at, row in enumerate(rows.tolist()):
            name = posed.frames.name(row)
            try:
                raw = decode_png(posed.frames.read(row), name)
            except DataError as error:
                unreadable.append(str(error))
                continue
            exposures[at] = raw.sum(dtype=np.int64)
            config = job.config
            image = develop(raw, config.camera, config.distortion_table, config.longest_side_px)
            data = encode(image, config.image_format, config.jpeg_quality)
            _put(job.out / image_path(date, int(stamps[at]), job.suffix), data)
        _note(job.out, date, stamps, exposures)
    except OSError as error:
        raise DataError(
            f"cannot write to {error.filename or job.out}: {error.strerror or error}; free "
            "some space and run the command again to continue"
        ) from error
    return len(stamps) - len(unreadable), unreadable


def finish(job: Job) -> int:
    """Write the index of a traversal whose images are all done; returns its rows."""
    date = job.traversal.date
    posed = _posed(job)
    stamps = posed.frames.timestamps[posed.rows]
    old = index_path(job.out, date)
    exposure = dict.fromkeys(stamps.tolist(), np.nan)
    for part_stamps, part_exposures in _parts(job.out, date):
        exposure.update(zip(part_stamps.tolist(), part_exposures.tolist(), strict=True))
    if old.is_file():
        kept = read_rows(old, ("timestamp", "exposure"))
        exposure.update(
            zip(kept["timestamp"].to_pylist(), kept["exposure"].to_pylist(), strict=True)
        )
    exposures = np.array([exposure[stamp] for stamp in stamps.tolist()])
    readable = np.isfinite(exposures)
    columns = {
        "timestamp": stamps[readable],
        "chunk": posed.frames.chunks[posed.rows][readable],
        "easting": posed.positions_m[readable, 0],
        "northing": posed.positions_m[readable, 1],
        "heading": posed.headings_rad[readable],
        "exposure": exposures[readable],
        "arc_length": arc_length_m(posed.positions_m[readable]),
    }
    table = make_table(date, columns, condition=posed.condition, suffix=job.suffix)
    table = _with_gone(table, old)
    write_table(job.out, date, table, condition=posed.condition, suffix=job.suffix)
    shutil.rmtree(job.out / PARTS / date, ignore_errors=True)
    for leftover in (job.out / image_path(date, 0, job.suffix)).parent.glob(".*.tmp"):
        leftover.unlink(missing_ok=True)
    return len(table)


def _with_gone(table: pa.Table, old: Path) -> pa.Table:
    """Return the table with the rows of an index whose raw images are there no more."""
    if not old.is_file():
        return table
    kept = read_rows(old, SCHEMA.names).cast(SCHEMA)
    gone = ~np.isin(kept["timestamp"].to_numpy(), table["timestamp"].to_numpy())
    if not gone.any():
        return table
    joined = pa.concat_tables([table, kept.filter(pa.array(gone))]).unify_dictionaries()
    joined = joined.sort_by("timestamp")
    positions_m = np.stack(
        [joined["easting"].to_numpy(), joined["northing"].to_numpy()], axis=1
    )
    arc = pa.array(arc_length_m(positions_m))
    return joined.set_column(SCHEMA.names.index("arc_length"), "arc_length", arc)


@lru_cache(maxsize=2)
def _posed(job: Job) -> PosedFrames:
    return read_traversal(job.traversal, job.config)


def _put(path: Path, data: bytes) -> None:
    """Write an image under another name first: what has its name is whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _note(
    out: Path, date: str, stamps: NDArray[np.int64], exposures: NDArray[np.float64]
) -> None:
    buffer = BytesIO()
    np.savez(buffer, timestamps=stamps, exposures=exposures)
    path = out / PARTS / date / f"{stamps[0]}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())


def _parts(out: Path, date: str) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
    """Return timestamps and exposures of the parts that are done."""
    parts = []
    for path in sorted((out / PARTS / date).glob("[0-9]*.npz")):
        try:
            with np.load(path) as arrays:
                parts.append((arrays["timestamps"], arrays["exposures"]))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            path.unlink(missing_ok=True)  # it will be made again, and its images with it
    return parts


def _indexed(out: Path, date: str) -> NDArray[np.int64]:
    path = index_path(out, date)
    if not path.is_file():
        return np.empty(0, np.int64)
    stamps: NDArray[np.int64] = read_rows(path, ("timestamp",))["timestamp"].to_numpy()
    return stamps
