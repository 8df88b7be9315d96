"""Pose files of COLMAP, TUM and KITTI, read to camera centres and camera-to-world rotations."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError

Floats = NDArray[np.float64]

_COUNT = struct.Struct("<Q")
_IMAGE = struct.Struct("<I4d3dI")
_POINT_BYTES = 24
_FEWEST_ROTATION = 1e-3
"""Largest error of the products of a rotation's rows in a text file of few digits."""


@dataclass(frozen=True, kw_only=True)
class Trajectory:
    """Poses of ``N`` cameras, in the order of the file.

    Attributes:
        centres: ``(N, 3)``, in units of the file.
        rotations: ``(N, 3, 3)``, from camera to world; the third column is the viewing
            direction.
        names: Names of the images, for COLMAP.
        times_s: ``(N,)``, for TUM.
    """

    centres: Floats
    rotations: Floats
    names: tuple[str, ...] | None = None
    times_s: Floats | None = None

    def __len__(self) -> int:
        return len(self.centres)


def read_kitti(file: Path) -> Trajectory:
    """Read 12 numbers per line: a 3 x 4 matrix from the camera to the world.

    Raises:
        DataError: The file cannot be read, or a line is no pose.
    """
    rows = _numbers(file, 12).reshape(-1, 3, 4)
    return _checked(file, Trajectory(centres=rows[:, :, 3], rotations=rows[:, :, :3]))


def read_tum(file: Path) -> Trajectory:
    """Read ``timestamp tx ty tz qx qy qz qw`` per line, from the camera to the world.

    Raises:
        DataError: The file cannot be read, or a line is no pose.
    """
    rows = _numbers(file, 8)
    rotations = _rotations(file, rows[:, [7, 4, 5, 6]])
    return Trajectory(centres=rows[:, 1:4], rotations=rotations, times_s=rows[:, 0])


def read_colmap(file: Path) -> Trajectory:
    """Read ``images.txt`` or ``images.bin``, from the world to the camera, by image name.

    Raises:
        DataError: The file cannot be read, or is no such file.
    """
    try:
        if file.suffix == ".bin":
            found = list(_binary_images(file.read_bytes()))
        else:
            found = list(_text_images(file))
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    except (struct.error, UnicodeDecodeError, ValueError) as error:
        raise DataError(f"{file} is not a file of images of a COLMAP model: {error}") from error
    if not found:
        raise DataError(f"{file} holds no image")
    found.sort(key=lambda item: item[0])
    numbers = np.array([values for _, values in found])
    to_camera = _rotations(file, numbers[:, :4])
    to_world = to_camera.transpose(0, 2, 1)
    centres = -(to_world @ numbers[:, 4:, None])[:, :, 0]
    names = tuple(name for name, _ in found)
    return Trajectory(centres=centres, rotations=to_world, names=names)


READERS = {"kitti": read_kitti, "tum": read_tum, "colmap": read_colmap}


def _text_images(file: Path) -> Iterator[tuple[str, list[float]]]:
    """Yield name and ``qw qx qy qz tx ty tz`` of every other line; between are points."""
    lines = file.read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if not line.startswith("#")]
    for number, line in enumerate(lines[::2]):
        fields = line.split(maxsplit=9)
        if len(fields) != 10:
            if not line.strip() and 2 * number + 1 >= len(lines):
                continue
            raise ValueError(f"an image needs 10 fields, got {line[:80]!r}")
        yield fields[9], [float(field) for field in fields[1:8]]


def _binary_images(content: bytes) -> Iterator[tuple[str, list[float]]]:
    (count,) = _COUNT.unpack_from(content)
    at = _COUNT.size
    for _ in range(count):
        _, *pose, _ = _IMAGE.unpack_from(content, at)
        at += _IMAGE.size
        end = content.index(b"\0", at)
        name = content[at:end].decode()
        (points,) = _COUNT.unpack_from(content, end + 1)
        at = end + 1 + _COUNT.size + points * _POINT_BYTES
        if at > len(content):
            raise ValueError("the file is cut off")
        yield name, pose


def _numbers(file: Path, per_line: int) -> Floats:
    """Return ``(N, per_line)`` finite numbers; lines that begin with # are left out."""
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file} cannot be read: {error}") from error
    rows: list[list[float]] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        fields = line.replace(",", " ").split()
        try:
            values = [float(field) for field in fields]
        except ValueError:
            raise DataError(f"{file}, line {number}: {line[:80]!r} is not numbers") from None
        if len(values) != per_line or not np.isfinite(values).all():
            raise DataError(
                f"{file}, line {number} must have {per_line} finite numbers, got "
                f"{len(values)}: {line[:80]!r}; check dataset.format"
            )
        rows.append(values)
    if not rows:
        raise DataError(f"{file} holds no pose")
    return np.array(rows)


def _rotations(file: Path, quaternions: Floats) -> Floats:
    """Return the rotation matrices ``(N, 3, 3)`` of quaternions ``(N, 4)``, w first."""
    length = np.linalg.norm(quaternions, axis=1)
    bad = np.flatnonzero(np.abs(length - 1.0) > 0.01)
    if len(bad):
        raise DataError(
            f"{file}: the quaternion of pose {bad[0]} has length {length[bad[0]]:.3g}, not 1; "
            "check dataset.format"
        )
    w, x, y, z = (quaternions / length[:, None]).T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def _checked(file: Path, trajectory: Trajectory) -> Trajectory:
    products = trajectory.rotations @ trajectory.rotations.transpose(0, 2, 1)
    error = np.abs(products - np.eye(3)).max(axis=(1, 2))
    bad = np.flatnonzero(error > _FEWEST_ROTATION)
    if len(bad):
        raise DataError(
            f"{file}: the matrix of pose {bad[0]} is not a rotation; check dataset.format"
        )
    return trajectory
