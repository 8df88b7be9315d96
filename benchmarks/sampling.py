"""Drawing tuples where images are dense: processor time per tuple, against another checkout.

1,000 drives round one street with 2,000 images per metre, as in 20 million frames of RobotCar
on 10 km; fewer frames are a shorter street. Both checkouts must draw the same tuples.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import _common as common

if TYPE_CHECKING:
    from mlcore.protocols import Split

DURATION = "4 minutes; 2 GB of memory"

_DRIVES, _PER_METRE, _LANE_M = 1000, 2000, 2.0


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; 1 if the checkouts draw different tuples."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--frames", type=int, default=4_000_000)
    parser.add_argument("--tuples", type=int, default=200, help="per turn")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument(
        "--against", type=Path, metavar="CHECKOUT", help="with its own .venv, as make makes it"
    )
    parser.add_argument("--one", action="store_true", help="one turn, of this checkout")
    options = parser.parse_args(argv)
    if options.quick:
        options.frames, options.tuples, options.turns = 100_000, 20, 1
    if options.one:
        print(json.dumps(_turn(options.frames, options.tuples)))
        return 0
    checkouts = {"this checkout": common.ROOT}
    if options.against is not None:
        checkouts = {"before": options.against.resolve(), **checkouts}
    found: dict[str, list[list[float]]] = {name: [] for name in checkouts}
    tuples = set()
    for _ in range(options.turns):
        for name, checkout in checkouts.items():
            milliseconds, digest = _in_checkout(checkout, options)
            found[name].append(milliseconds)
            tuples.add(digest)
    rows = [
        (name, *(f"{np.percentile(np.concatenate(turns), at):.2f}" for at in (5, 25, 50, 75)))
        for name, turns in found.items()
    ]
    text = common.markdown_table(["ms of processor time per tuple", *_SHOWN], rows)
    if len(found) == 2:
        ratios = [
            np.median(after) / np.median(before)
            for before, after in zip(*found.values(), strict=True)
        ]
        text += (
            f"\n\nMedian now by median before, turn by turn: {np.median(ratios):.2f} "
            f"[{min(ratios):.2f}, {max(ratios):.2f}]. "
            + ("The same tuples." if len(tuples) == 1 else "OTHER TUPLES.")
        )
    common.report(
        __file__,
        __doc__ or "",
        f"{options.frames:,} frames, 25 images per tuple.\n\n{text}",
        options=options,
        argv=["CHECKOUT" if word == str(options.against) else word for word in argv],
        method=f"{options.turns} turns of {options.tuples} tuples each, checkouts alternating, "
        "each turn a process of one thread; percentiles over all tuples",
    )
    return 0 if len(tuples) == 1 else 1


_SHOWN = ("5 %", "25 %", "median", "75 %")


def _in_checkout(checkout: Path, options: argparse.Namespace) -> tuple[list[float], str]:
    """Run a turn of this file in another checkout's environment."""
    python = checkout / ".venv" / "bin" / "python"
    done = subprocess.run(  # noqa: S603
        [
            *(python if python.exists() else sys.executable, __file__, "--one"),
            *("--frames", str(options.frames), "--tuples", str(options.tuples)),
        ],
        cwd=checkout,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(checkout)},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    milliseconds, digest = json.loads(done.stdout)
    return milliseconds, digest


def _turn(num_frames: int, num_tuples: int) -> tuple[list[float], str]:
    """Return milliseconds of each tuple, and what tells the tuples from others."""
    from mlcore.options.engine import SamplingOptions
    from mlcore.sampling.planner import TuplePlanner

    planner = TuplePlanner(
        _split(num_frames), SamplingOptions(near_radius_m=15.0, far_radius_m=15.0), seed=0
    )
    planner.plan(0)
    digest, milliseconds = hashlib.sha256(), []
    for step in range(1, num_tuples + 1):
        began = time.process_time()
        plan = planner.plan(step)
        milliseconds.append(1e3 * (time.process_time() - began))
        digest.update(plan.rows.tobytes())
    return milliseconds, digest.hexdigest()


def _split(num_frames: int) -> Split:
    """Return drives along an arc of 10 km / (2 pi) in radius, the first as the reference."""
    from mlcore.protocols import PlaceTable, Split

    generator = np.random.default_rng(0)
    size = num_frames // _DRIVES
    length_m, radius_m = num_frames / _PER_METRE, 10_000 / (2 * np.pi)
    along_m = np.sort(generator.uniform(0, length_m, (_DRIVES, size)), axis=1).ravel()
    angle = along_m / radius_m
    aside_m = radius_m + generator.normal(0, _LANE_M, len(along_m))
    whole = PlaceTable(
        index=np.arange(len(along_m)),
        positions_m=np.stack(
            [620_000 + aside_m * np.sin(angle), 5_735_000 + aside_m * np.cos(angle)], axis=1
        ),
        headings_rad=np.pi - np.mod(3 * np.pi / 2 - angle, 2 * np.pi),
        arc_length_m=along_m,
        traversal=np.repeat(np.arange(_DRIVES), size),
        traversals=tuple(f"drive {number}" for number in range(_DRIVES)),
        condition=np.zeros(len(along_m), np.int64),
        conditions=("all",),
    )
    return Split(references=whole.take(slice(size)), queries=whole.take(slice(size, None)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
