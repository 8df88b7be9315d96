"""Opens images with camera poses: one traversal, its frames in the order of the poses."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.data import MAX_EXAMPLES, ImageWalk, ListedImages, wrap_rad
from mlcore.errors import ConfigError, DataError
from mlcore.factories import Finding
from mlcore.option_types import require_unchanged
from mlcore.protocols import PlaceTable, Split
from mlcore_poses.config import PosesConfig
from mlcore_poses.plane import DEFAULT_AXES, in_plane
from mlcore_poses.readers import READERS, Trajectory

Rows = NDArray[np.int64]

_RANGE = re.compile(r"(\d*)\.\.(\d*)")
_NO_SPLIT = "set dataset.{} to a range of frames such as 0..999"


def open_poses(config: PosesConfig) -> ListedImages:
    """Open images with camera poses.

    Raises:
        ConfigError: Options are missing or malformed.
        DataError: A file is missing or malformed, images and poses do not match, or the axes
            are others.
    """
    root, file = _root(config), _poses(config)
    if config.format == "colmap" and config.metres_per_unit is None:
        raise ConfigError(
            "dataset.metres_per_unit is missing: the scale of a COLMAP model is arbitrary; "
            "measure a distance in it"
        )
    trajectory = READERS[config.format](file)
    axes = config.axes or DEFAULT_AXES[config.format]
    positions, headings_rad = in_plane(trajectory, axes)
    images, poses, findings = _matched(config, root, file, trajectory)
    scale = config.metres_per_unit or 1.0
    positions_m = positions[poses] * scale
    steps_m = np.linalg.norm(np.diff(trajectory.centres, axis=0), axis=1) * scale
    along_m = np.concatenate([[0.0], np.cumsum(steps_m)])
    table = PlaceTable(
        index=np.arange(len(images)),
        positions_m=positions_m,
        headings_rad=wrap_rad(headings_rad[poses]),
        arc_length_m=None if config.format == "colmap" else along_m[poses],
        traversal=np.zeros(len(images), np.int64),
        traversals=("trajectory",),
        condition=np.zeros(len(images), np.int64),
        conditions=("all",),
    )
    note = (
        f"{len(images):,} images with poses of {file.name}, axes {axes} are east and north, "
        f"{scale:g} m per unit"
    )
    if config.format != "colmap":
        note += f", {along_m[-1]:,.0f} m"
    return ListedImages(
        root,
        np.array(images),
        _splits(config, table, poses),
        (Finding("info", note), *findings),
        times_s=None if trajectory.times_s is None else trajectory.times_s[poses],
        without={name: _NO_SPLIT.format(name) for name in ("train", "validation", "test")},
    )


def _root(config: PosesConfig) -> Path:
    if config.root is None:
        raise ConfigError("data set 'poses' needs dataset.root, the folder of the images")
    root = config.root.expanduser()
    if not root.is_dir():
        raise DataError(f"dataset.root is {root}, which is not a folder")
    return root


def _poses(config: PosesConfig) -> Path:
    if config.poses is None or config.root is None:
        raise ConfigError("data set 'poses' needs dataset.poses, the file of the poses")
    given = config.poses.expanduser()
    inside = config.root.expanduser() / given
    file = inside if inside.is_file() else given
    if not file.is_file():
        raise DataError(f"dataset.poses is {given}, which does not exist")
    return file


def _matched(
    config: PosesConfig, root: Path, file: Path, trajectory: Trajectory
) -> tuple[list[str], Rows, list[Finding]]:
    """Return paths of images, the pose of each, and what was left out."""
    walk = ImageWalk(root)
    there = sorted(str(folder / name) for folder, names in walk.folders for name in names)
    if not there:
        raise DataError(f"{root} holds no image")
    if trajectory.names is not None:
        _require_times(config, trajectory)
        return _by_name(root, file, trajectory.names, there)
    times_s = _times_of(there)
    if trajectory.times_s is not None and times_s is not None:
        return _by_time(config, file, trajectory.times_s, there, times_s)
    _require_times(config, trajectory)
    if len(there) != len(trajectory):
        raise DataError(
            f"{file} has {len(trajectory)} poses and {root} has {len(there)} images; there "
            "must be one pose per image, in the order of the names"
        )
    return there, np.arange(len(there)), []


def _require_times(config: PosesConfig, trajectory: Trajectory) -> None:
    """Raise ConfigError for a largest gap where no image is found by its time."""
    which = f"format {config.format}"
    if trajectory.times_s is not None:
        which += " and images that are not named by their timestamps"
    require_unchanged("dataset", config, ("max_gap_s",), f"{which}; leave it out")


def _by_name(
    root: Path, file: Path, names: tuple[str, ...], there: list[str]
) -> tuple[list[str], Rows, list[Finding]]:
    known = set(there)
    rows = np.array([row for row, name in enumerate(names) if name in known], np.int64)
    absent = [name for name in names if name not in known]
    if not len(rows):
        raise DataError(
            f"none of the {len(names)} images of {file} is in {root}, such as {names[0]}; "
            "dataset.root must be the image folder of the COLMAP project"
        )
    findings = []
    if absent:
        examples = tuple(absent[:MAX_EXAMPLES])
        message = "images have a pose and no file, and are left out"
        findings.append(Finding("warning", message, len(absent), examples, "left-out"))
    others = sorted(known - set(names))
    if others:
        examples = tuple(others[:MAX_EXAMPLES])
        message = "images have no pose and are left out"
        findings.append(Finding("info", message, len(others), examples))
    return [names[row] for row in rows.tolist()], rows, findings


def _by_time(
    config: PosesConfig,
    file: Path,
    pose_s: NDArray[np.float64],
    there: list[str],
    image_s: NDArray[np.float64],
) -> tuple[list[str], Rows, list[Finding]]:
    order = np.argsort(pose_s, kind="stable")
    after = np.searchsorted(pose_s[order], image_s).clip(1, max(len(pose_s) - 1, 1))
    candidates = order[np.stack([after - 1, after.clip(max=len(pose_s) - 1)])]
    gaps_s = np.abs(pose_s[candidates] - image_s)
    nearest = gaps_s.argmin(axis=0)
    columns = np.arange(len(there))
    poses, gap_s = candidates[nearest, columns], gaps_s[nearest, columns]
    rows = np.flatnonzero(gap_s <= config.max_gap_s)
    if not len(rows):
        raise DataError(
            f"no image has a pose of {file} within {config.max_gap_s:g} s, the nearest "
            f"{gap_s.min():g} s away; check dataset.max_gap_s and the unit of the names"
        )
    rows = rows[np.argsort(image_s[rows], kind="stable")]
    findings = []
    if len(rows) < len(there):
        left_out = np.setdiff1d(columns, rows)
        examples = tuple(there[row] for row in left_out[:MAX_EXAMPLES].tolist())
        message = f"images have no pose within {config.max_gap_s:g} s and are left out"
        findings.append(Finding("warning", message, len(left_out), examples, "left-out"))
    return [there[row] for row in rows.tolist()], poses[rows], findings


def _times_of(paths: list[str]) -> NDArray[np.float64] | None:
    """Return the timestamps that images are named by; None if their names are none."""
    stems = [Path(path).stem for path in paths]
    if not all(re.fullmatch(r"\d{9,}\.\d+", stem) for stem in stems):
        return None
    return np.array([float(stem) for stem in stems])


def _splits(config: PosesConfig, table: PlaceTable, frame: Rows) -> dict[str, Split]:
    queries = _in_range("queries", config.queries, frame)
    splits = {}
    taken = np.zeros(len(frame), bool)
    for name in ("train", "validation", "test"):
        text = getattr(config, name)
        if not text:
            continue
        mine = _in_range(name, text, frame)
        if not mine.any():
            raise DataError(f"dataset.{name} is {text}, which has none of {len(frame)} frames")
        if (mine & taken).any():
            raise ConfigError(f"dataset.{name} is {text}, which overlaps another split")
        taken |= mine
        splits[name] = Split(
            references=table.take(mine & ~queries), queries=table.take(mine & queries)
        )
    return splits


def _in_range(option: str, text: str, frame: Rows) -> NDArray[np.bool_]:
    if not text:
        return np.zeros(len(frame), bool)
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise ConfigError(
            f"dataset.{option} must be a range of frames such as 0..999 or 1000.., got {text!r}"
        )
    low, high = int(found[1] or 0), int(found[2] or np.iinfo(np.int64).max)
    return (frame >= low) & (frame <= high)
