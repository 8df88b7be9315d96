"""A prepared RobotCar folder without images: any number of drives along one route.

All frames are in the training region, so that the sampler's tree holds every one of them.
"""

from __future__ import annotations

import datetime as dt
import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH_M = 10_000.0
LANE_M = 2.0
"""Standard deviation of how far a drive is from the middle of the road."""
_FIRST = dt.datetime(2014, 5, 6, 12, tzinfo=dt.UTC)
_ORIGIN_M = (620_000.0, 5_735_000.0)
_FRAME_US = 62_500
BYTES_PER_FRAME = 100
"""On disk, with room to spare."""

Facts = dict[str, float]


def build(root: Path, num_frames: int, num_traversals: int) -> Facts:
    """Write the index; returns ``seconds``, ``bytes`` on disk and ``peak_bytes``."""
    from mlcore_robotcar.prepare.index import FOLDER, SETTINGS, SUMMARY

    began = time.perf_counter()
    sizes = np.diff(np.linspace(0, num_frames, num_traversals + 1).astype(int))
    for number, size in enumerate(sizes.tolist()):
        _write_drive(root, number, size)
    (root / SETTINGS).write_text(json.dumps({"distortion_table": "none"}))
    (root / SUMMARY).write_text(
        json.dumps({"regions": "all frames are of the training region"})
    )
    seconds = time.perf_counter() - began
    on_disk = sum(path.stat().st_size for path in (root / FOLDER).iterdir())
    return {"seconds": seconds, "bytes": on_disk, "peak_bytes": _peak_bytes()}


def _write_drive(root: Path, number: int, size: int) -> None:
    from mlcore_robotcar.prepare.index import make_table, write_table

    generator = np.random.default_rng(number)
    date = f"{_FIRST + dt.timedelta(hours=7 * number):%Y-%m-%d-%H-%M-%S}"
    along_m = np.sort(generator.uniform(0, LENGTH_M, size))
    angle = 2 * np.pi * along_m / LENGTH_M
    radius_m = LENGTH_M / (2 * np.pi) + generator.normal(0, LANE_M)
    start_us = int((_FIRST.timestamp() + 7 * 3600 * number) * 1e6)
    columns: dict[str, NDArray[Any]] = {
        "timestamp": start_us + _FRAME_US * np.arange(size, dtype=np.int64),
        "chunk": np.ones(size, np.int32),
        "easting": _ORIGIN_M[0] + radius_m * np.sin(angle),
        "northing": _ORIGIN_M[1] + radius_m * np.cos(angle),
        "heading": np.pi / 2 - (np.pi - angle),
        "exposure": generator.uniform(1e7, 1e8, size),
        "arc_length": along_m,
    }
    condition = ("overcast", "sun", "rain", "night")[number % 4]
    table = make_table(
        date, columns, condition=condition, suffix="jpg", region=["train"] * size
    )
    write_table(root, date, table, condition=condition, suffix="jpg")


def use(root: Path, num_tuples: int) -> Facts:
    """Open the index as the data set and draw tuples: seconds and peak bytes of each step."""
    import scipy.spatial  # noqa: F401 - loading a library is not what is timed
    import torch  # noqa: F401

    from mlcore.data.positions import PositionIndex
    from mlcore.options.engine import SamplingOptions
    from mlcore.sampling.planner import TuplePlanner
    from mlcore_robotcar.config import RobotCarConfig
    from mlcore_robotcar.dataset import open_robotcar

    facts: Facts = {"libraries_bytes": _peak_bytes()}
    began = time.perf_counter()
    dataset = open_robotcar(RobotCarConfig(root=root, protocol="all"))
    facts["open_s"] = time.perf_counter() - began
    facts["open_bytes"] = _peak_bytes()
    positions_m = dataset.train.queries.positions_m
    began = time.perf_counter()
    PositionIndex(positions_m).nearest(positions_m[:1])
    facts["tree_s"] = time.perf_counter() - began
    facts["tree_bytes"] = _peak_bytes()
    began = time.perf_counter()
    options = SamplingOptions(near_radius_m=15.0, far_radius_m=15.0)
    planner = TuplePlanner(dataset.train, options, seed=0)
    planner.plan(0)
    facts["planner_s"] = time.perf_counter() - began
    facts["images"] = len(planner.images)
    began = time.perf_counter()
    drawn = [len(planner.plan(step).rows) for step in range(1, num_tuples + 1)]
    facts["tuples_s"] = time.perf_counter() - began
    facts["tuples_bytes"] = _peak_bytes()
    facts["images_per_tuple"] = float(np.mean(drawn))
    return facts


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
