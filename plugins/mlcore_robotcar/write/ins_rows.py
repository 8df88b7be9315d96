"""The rows of ``gps/ins.csv``, such that interpolation gives back each image's pose."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from mlcore.data import wrap_rad
from mlcore_robotcar.write.drives import FRAME_US, Stretch

HEADER = (
    "timestamp,ins_status,latitude,longitude,altitude,northing,easting,down,utm_zone,"
    "velocity_north,velocity_east,velocity_down,roll,pitch,yaw"
)
_ASIDE_US = FRAME_US // 6
_FRAMES_PER_S = 1_000_000 / FRAME_US


def ins_rows(stretch: Stretch) -> Iterator[str]:
    """Yield three rows an image: shortly before it, shortly after it, halfway to the next.

    The two around an image lie opposite each other about its pose, so that what lies halfway
    between them is the pose itself. Latitude, longitude, zone, roll and pitch are not known of
    a data set: nan, and no zone; so is the altitude where positions have two coordinates.
    """
    table = stretch.table
    assert table.headings_rad is not None, "required before anything is written"
    columns = [*table.positions_m.T, np.unwrap(table.headings_rad)]
    values = np.stack(columns, axis=1)
    each = np.gradient(values, axis=0) if len(values) > 1 else np.zeros_like(values)
    aside = each * (_ASIDE_US / FRAME_US)
    halfway = values + each / 2
    halfway[:-1] = (values[:-1] + values[1:]) / 2
    rows = np.stack([values - aside, values + aside, halfway], axis=1)
    speeds = each * _FRAMES_PER_S
    for stamp, of_image, speed in zip(
        stretch.timestamps.tolist(), rows.tolist(), speeds.tolist(), strict=True
    ):
        for moment, row in zip((-_ASIDE_US, _ASIDE_US, FRAME_US // 2), of_image, strict=True):
            yield _row(stamp + moment, row, speed)


def _row(stamp: int, values: list[float], speed: list[float]) -> str:
    easting, northing, *height, heading = values
    (altitude, climb) = (height[0], speed[2]) if height else (float("nan"), float("nan"))
    yaw = float(wrap_rad(np.array(heading)))
    return (
        f"{stamp},INS_SOLUTION_GOOD,nan,nan,{altitude:.6f},{northing:.6f},{easting:.6f},"
        f"{-altitude:.6f},,{speed[1]:.6f},{speed[0]:.6f},{-climb:.6f},nan,nan,{yaw:.6f}"
    )
