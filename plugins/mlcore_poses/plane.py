"""From poses to easting, northing and heading."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import ConfigError, DataError
from mlcore_poses.readers import Trajectory

Floats = NDArray[np.float64]

DEFAULT_AXES = {"kitti": "x,z", "tum": "x,y", "colmap": "x,y"}
_AXES = re.compile(r"(-?)([xyz])\s*,\s*(-?)([xyz])")
_SHORTEST = 0.1
"""A viewing direction shorter than this in the plane looks along its normal."""


def in_plane(trajectory: Trajectory, axes: str) -> tuple[Floats, Floats]:
    """Return positions ``(N, 2)`` in units of the file, and headings ``(N,)``.

    Headings are those of the viewing direction, clockwise from north.

    Raises:
        ConfigError: The axes are malformed.
        DataError: A camera looks along the normal of the plane: the axes are others.
    """
    found = _AXES.fullmatch(axes.strip())
    if found is None or found[2] == found[4]:
        raise ConfigError(
            "dataset.axes must be two different axes, east and north, such as x,z or x,-y; "
            f"got {axes!r}"
        )
    columns = ["xyz".index(found[2]), "xyz".index(found[4])]
    signs = np.array([-1.0 if found[1] else 1.0, -1.0 if found[3] else 1.0])
    positions = trajectory.centres[:, columns] * signs
    direction = trajectory.rotations[:, columns, 2] * signs
    steep = np.linalg.norm(direction, axis=1) < _SHORTEST
    if steep.any():
        raise DataError(
            f"{steep.sum()} of {len(steep)} cameras, the first is pose {steep.argmax()}, look "
            f"along the normal of the plane of dataset.axes {axes}; choose the axes that point "
            "east and north"
        )
    return positions, np.arctan2(direction[:, 0], direction[:, 1])
