"""One traversal of the download: its images with their poses, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.data import wrap_rad
from mlcore.errors import DataError
from mlcore_robotcar.config import RobotCarConfig
from mlcore_robotcar.download.conditions import condition_of
from mlcore_robotcar.download.frames import Frames, list_frames
from mlcore_robotcar.download.poses import (
    MICROSECONDS,
    REASONS,
    PoseStatus,
    arc_length_m,
    interpolate,
    quarter_turns,
)
from mlcore_robotcar.download.tables import Track, read_ins, read_rtk, read_tags
from mlcore_robotcar.download.tar_members import Tables
from mlcore_robotcar.download.tree import Traversal


@dataclass(frozen=True, kw_only=True)
class PosedFrames:
    """The images of a traversal that have a pose, in the order of time.

    Attributes:
        date: Name of the traversal.
        frames: All images.
        rows: ``(N,)`` int64, the rows of ``frames`` that have a pose; the columns below are
            theirs.
        positions_m: ``(N, 2)`` float64, easting and northing.
        headings_rad: ``(N,)`` float64, clockwise from north in (-pi, pi].
        arc_length_m: ``(N,)`` float64 along these images.
        condition: Word of the tags.
        tags: All of them.
        without_pose: Numbers of images without pose, by reason.
        track: The rows of positions; None if there are none.
        turned: Quarter turns that were added to the yaw, clockwise.
        notes: What was found odd, and how it was taken.
        faults: Problems that make results wrong.
    """

    date: str
    frames: Frames
    rows: NDArray[np.int64]
    positions_m: NDArray[np.float64]
    headings_rad: NDArray[np.float64]
    arc_length_m: NDArray[np.float64]
    condition: str
    tags: tuple[str, ...]
    without_pose: dict[str, int]
    track: Track | None
    turned: int
    notes: tuple[str, ...]
    faults: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)


def read_traversal(
    traversal: Traversal, config: RobotCarConfig, cache_dir: Path | None = None
) -> PosedFrames:
    """Return the images of a traversal that have a pose; a table that is missing is a fault.

    Raises:
        DataError: A folder cannot be listed.
    """
    frames = list_frames(traversal, config.camera, cache_dir)
    notes, faults = _of_frames(traversal.date, frames)
    tables = Tables(traversal, config.camera, cache_dir)
    track = _track(traversal.date, tables, config, notes, faults)
    tags = _tags(tables, notes)
    faults += tables.faults
    turned: int | None = 0
    if track is not None:
        notes += _of_track(track, config.max_gap_s)
        turned = _turns(track, config, notes)
        if turned is None:
            faults.append(
                f"{track.source}: its yaw has an unknown zero, and the car does not move "
                f"enough to find it; {traversal.date} is left out"
            )
            track, turned = None, 0
    rows, positions_m, headings_rad, without = _posed(track, frames, config.max_gap_s)
    return PosedFrames(
        date=traversal.date,
        frames=frames,
        rows=rows,
        positions_m=positions_m,
        headings_rad=wrap_rad(headings_rad + (turned or 0) * (np.pi / 2)),
        arc_length_m=arc_length_m(positions_m),
        condition=condition_of(traversal.date, tags),
        tags=tags,
        without_pose=without,
        track=track,
        turned=turned or 0,
        notes=tuple(notes),
        faults=tuple(faults),
    )


def _posed(
    track: Track | None, frames: Frames, max_gap_s: float
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], dict[str, int]]:
    if track is None:
        nothing = np.empty((0, 2))
        without = {"in a traversal without poses": len(frames)} if len(frames) else {}
        return np.empty(0, np.int64), nothing, nothing[:, 0], without
    poses = interpolate(track, frames.timestamps, max_gap_s)
    rows = np.flatnonzero(poses.status == PoseStatus.GOOD)
    counts = {reason: int((poses.status == status).sum()) for status, reason in REASONS.items()}
    without = {reason: count for reason, count in counts.items() if count}
    return rows, poses.positions_m[rows], poses.headings_rad[rows], without


def _track(
    date: str, tables: Tables, config: RobotCarConfig, notes: list[str], faults: list[str]
) -> Track | None:
    path = tables.track(config.poses)
    if path is None:
        name = "gps/ins.csv" if config.poses == "ins" else "rtk.csv"
        remedy = "download its gps tar" if config.poses == "ins" else "set dataset.rtk_root"
        notes.append(f"{date} has no {name} and is left out; {remedy}")
        return None
    try:
        return read_ins(path) if config.poses == "ins" else read_rtk(path)
    except DataError as error:
        faults.append(f"{error}; {date} is left out")
        return None


def _tags(tables: Tables, notes: list[str]) -> tuple[str, ...]:
    path = tables.tags()
    if path is None:
        return ()
    try:
        return read_tags(path)
    except DataError as error:
        notes.append(str(error))
        return ()


def _of_frames(date: str, frames: Frames) -> tuple[list[str], list[str]]:
    notes: list[str] = []
    faults = [f"{date}: {fault}" for fault in frames.faults]
    if frames.num_reversed:
        notes.append(
            f"{date}: {frames.num_reversed} lines of the timestamps step back in time; sorted"
        )
    if frames.num_repeated:
        notes.append(f"{date}: {frames.num_repeated} frames are listed twice; taken once")
    if frames.absent_chunks:
        named = ", ".join(f"{chunk} ({n})" for chunk, n in frames.absent_chunks.items())
        notes.append(f"{date}: chunks listed without any image (frames): {named}")
    if frames.num_absent:
        notes.append(f"{date}: {frames.num_absent} frames of existing chunks have no image")
    if frames.num_unlisted and frames.num_listed:
        notes.append(f"{date}: {frames.num_unlisted} images are not listed in the timestamps")
    if len(frames) and not frames.num_listed:
        notes.append(f"{date}: no file of timestamps; images are found by their names")
    return notes, faults


def _of_track(track: Track, max_gap_s: float) -> list[str]:
    notes = []
    if track.num_nan:
        notes.append(f"{track.source}: {track.num_nan} rows with NaN or infinity are dropped")
    if track.num_reversed:
        notes.append(f"{track.source}: {track.num_reversed} rows step back in time; sorted")
    if track.num_repeated:
        notes.append(f"{track.source}: {track.num_repeated} rows repeat a time; dropped")
    if track.swapped:
        notes.append(f"{track.source}: northing and easting were swapped; exchanged by range")
    if len(track.zones) > 1:
        zones = ", ".join(track.zones)
        notes.append(f"{track.source}: rows in UTM zones {zones}: distances are meaningless")
    gaps = int((np.diff(track.timestamps) > max_gap_s * MICROSECONDS).sum())
    if gaps:
        notes.append(f"{track.source}: {gaps} gaps of more than {max_gap_s:g} s")
    return notes


def _turns(track: Track, config: RobotCarConfig, notes: list[str]) -> int | None:
    """Return how many quarter turns bring the yaw to the direction of travel; 0 for INS.

    None if RTK's cannot be told.
    """
    turns = quarter_turns(track)
    if turns is None and config.poses == "rtk":
        return None
    if turns is None:
        notes.append(f"{track.source}: yaw cannot be checked against the direction of travel")
        return 0
    if not turns:
        return 0
    degrees = {1: "90", 2: "180", 3: "-90"}[turns]
    if config.poses == "rtk":
        notes.append(
            f"{track.source}: {degrees} degrees are added to its yaw, as the direction of "
            "travel shows"
        )
        return turns
    notes.append(f"{track.source}: its yaw is {degrees} degrees off the direction of travel")
    return 0
