"""Where an image was taken: the two rows of a track that bracket its time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from mlcore.data import wrap_rad
from mlcore_robotcar.download.tables import Track

MICROSECONDS = 1_000_000
_COURSE_STEP_M = 2.0
_LEAST_AGREEMENT = 0.5
"""Of course and yaw, as the length of their mean difference on the unit circle."""


class PoseStatus(IntEnum):
    """Why an image has a pose or not."""

    GOOD = 0
    OUTSIDE = 1
    GAP = 2
    BAD_STATUS = 3


REASONS = {
    PoseStatus.OUTSIDE: "before the first or after the last row of the track",
    PoseStatus.GAP: "in a gap of the track",
    PoseStatus.BAD_STATUS: "between rows that are not INS_SOLUTION_GOOD",
}


@dataclass(frozen=True, kw_only=True)
class Poses:
    """Poses of images; NaN where the status is not GOOD.

    Attributes:
        positions_m: ``(N, 2)`` float64, easting and northing.
        headings_rad: ``(N,)`` float64 in (-pi, pi], the track's yaw.
        status: ``(N,)`` int8, values of :class:`PoseStatus`.
    """

    positions_m: NDArray[np.float64]
    headings_rad: NDArray[np.float64]
    status: NDArray[np.int8]


def interpolate(track: Track, timestamps: NDArray[np.int64], max_gap_s: float) -> Poses:
    """Return poses at ``timestamps`` ``(N,)``, in any order.

    Position is linear in time between the two rows, yaw turns the shorter way. Where a row
    has exactly the timestamp of the image, it is the pose, whatever its neighbours.

    Args:
        track: Rows in the order of time.
        timestamps: Microseconds.
        max_gap_s: Largest time between the two rows, in seconds.
    """
    size = len(track)
    if not size:
        return Poses(
            positions_m=np.full((len(timestamps), 2), np.nan),
            headings_rad=np.full(len(timestamps), np.nan),
            status=np.full(len(timestamps), PoseStatus.OUTSIDE, np.int8),
        )
    stamps = track.timestamps
    before = np.searchsorted(stamps, timestamps, side="right") - 1
    after = np.searchsorted(stamps, timestamps, side="left")
    outside = (before < 0) | (after >= size)
    before, after = before.clip(0, size - 1), after.clip(0, size - 1)
    span = (stamps[after] - stamps[before]).astype(np.float64)
    part = np.divide(timestamps - stamps[before], span, out=np.zeros(len(span)), where=span > 0)
    status = np.full(len(timestamps), PoseStatus.GOOD, np.int8)
    status[~(track.is_good[before] & track.is_good[after])] = PoseStatus.BAD_STATUS
    status[span > max_gap_s * MICROSECONDS] = PoseStatus.GAP
    status[outside] = PoseStatus.OUTSIDE
    start, stop = track.positions_m[before], track.positions_m[after]
    positions_m = start + part[:, None] * (stop - start)
    turn = wrap_rad(track.yaw_rad[after] - track.yaw_rad[before])
    headings_rad = wrap_rad(track.yaw_rad[before] + part * turn)
    bad = status != PoseStatus.GOOD
    positions_m[bad], headings_rad[bad] = np.nan, np.nan
    return Poses(positions_m=positions_m, headings_rad=headings_rad, status=status)


def quarter_turns(track: Track) -> int | None:
    """Return by how many quarter turns, clockwise, the yaw lags the direction of travel.

    0 for the yaw of a car that drives where it looks. The yaw of RTK files has another
    zero; this tells which. None if the car hardly moves, or yaw and course disagree.
    """
    steps = np.linalg.norm(np.diff(track.positions_m, axis=0), axis=1)
    along = np.concatenate([[0.0], np.cumsum(steps)]) if len(track) else np.zeros(1)
    # None twice: a jump over many steps is one move, not one and many that go nowhere.
    rows = np.unique(np.searchsorted(along, np.arange(0.0, along[-1], _COURSE_STEP_M)))
    if len(rows) < 4:
        return None
    moves = np.diff(track.positions_m[rows], axis=0)
    course = np.arctan2(moves[:, 0], moves[:, 1])
    yaw = track.yaw_rad[rows[:-1]] + wrap_rad(np.diff(track.yaw_rad[rows])) / 2
    mean = complex(np.exp(1j * (course - yaw)).mean())
    if abs(mean) < _LEAST_AGREEMENT:
        return None
    return round(math.atan2(mean.imag, mean.real) / (math.pi / 2)) % 4


def arc_length_m(positions_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the distance along ``positions_m`` ``(N, 2)``, 0 at the first."""
    steps = np.linalg.norm(np.diff(positions_m, axis=0), axis=1)
    return np.concatenate([np.zeros(min(1, len(positions_m))), np.cumsum(steps)])
