"""100,000 optimizer steps in one run: memory over time, and the files it leaves.

The steps are tiny (four images of 32 x 64 px), so that what grows with the number of steps
shows: as many steps as days of training with a real network.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from benchmarks import _common as common

DURATION = "30 minutes"

SUPPORT = common.ROOT / "tests" / "support"
LOG_EVERY = 10
SECONDS_BETWEEN_LOOKS = 0.5
PARTS = 10
ALLOWED_GROWTH = 0.02
"""Of resident memory, between the second tenth of the steps and the last."""


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; 1 if memory grows or a file is not well-formed."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--steps", type=int, default=100_000)
    options = parser.parse_args(argv)
    steps = 300 if options.quick else options.steps
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        started = time.monotonic()
        looks = watch(start(run, steps, options.device), run, steps)
        seconds = time.monotonic() - started
        faults = malformed(run, steps)
        sizes = {path.name: _size(path) for path in sorted(run.iterdir())}
    rows = [(f"{step}", f"{held / 1e6:.1f} MB") for step, held in by_part(looks, steps)]
    early, late = _median(looks, steps, 0.1, 0.2), _median(looks, steps, 0.9, 1.0)
    growth = late / early - 1
    if not options.quick and growth > ALLOWED_GROWTH:
        faults.append(f"memory grew by {growth:.1%}")
    files = ", ".join(f"{name} {size / 1e6:.2f} MB" for name, size in sizes.items())
    common.report(
        __file__,
        __doc__ or "",
        f"{common.markdown_table(['steps done', 'resident memory (median)'], rows)}\n\n"
        f"From the second tenth to the last: {growth:+.2%}. Files: {files}. "
        f"Faults: {'; '.join(faults) or 'none'}.",
        options=options,
        argv=argv,
        method=f"{steps} steps in {seconds:.0f} s, resident memory read every "
        f"{SECONDS_BETWEEN_LOOKS} s",
    )
    return 1 if faults else 0


def start(run: Path, steps: int, device: str) -> subprocess.Popen[bytes]:
    """Start the run."""
    words = [
        *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
        *("--sampling.near_per_tuple", "1", "--sampling.far_per_tuple", "2"),
        *("--training.max_steps", str(steps), "--training.log_every", str(LOG_EVERY)),
        *("--training.checkpoint_every", "1000", "--evaluation.dimensions", "8"),
        *("--training.accelerator", "gpu" if device == "cuda" else "cpu"),
        *("--evaluation.baselines", "false", "--out", str(run)),
    ]
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "mlcore", "train", *words],
        cwd=common.ROOT,
        env={**os.environ, "PYTHONPATH": str(SUPPORT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=run.with_suffix(".log").open("wb"),
    )


def watch(process: subprocess.Popen[bytes], run: Path, steps: int) -> list[tuple[int, int]]:
    """Return step and resident bytes, looked at until training ends.

    Raises:
        RuntimeError: The run failed.
    """
    looks: list[tuple[int, int]] = []
    metrics = run / "metrics.jsonl"
    while process.poll() is None:
        time.sleep(SECONDS_BETWEEN_LOOKS)
        try:
            statm = Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()
            step = LOG_EVERY * metrics.read_bytes().count(b"\n")
        except (OSError, IndexError):
            continue  # not there yet, or gone
        if 0 < step < steps and len(statm) > 1:  # evaluation comes after
            looks.append((step, int(statm[1]) * os.sysconf("SC_PAGE_SIZE")))
    if process.returncode != 0:
        said = run.with_suffix(".log").read_text()
        raise RuntimeError(f"the run ended with exit code {process.returncode}:\n{said}")
    return looks


def malformed(run: Path, steps: int) -> list[str]:
    """Return what is wrong with the files of the run."""
    faults = []
    lines = (run / "metrics.jsonl").read_text().splitlines()
    try:
        found = [json.loads(line)["step"] for line in lines]
    except (ValueError, KeyError) as error:
        return [f"metrics.jsonl: {error}"]
    if found != list(range(LOG_EVERY, steps + 1, LOG_EVERY)):
        faults.append(f"metrics.jsonl has {len(found)} rows, last of step {found[-1]}")
    names = sorted(path.name for path in (run / "checkpoints").iterdir())
    if len(names) > 2 or names[-1] != f"step-{steps:09d}.ckpt":
        faults.append(f"checkpoints: {names}")
    return faults


def by_part(looks: Sequence[tuple[int, int]], steps: int) -> list[tuple[int, float]]:
    """Return the median of memory in each tenth of the steps."""
    bounds = [number / PARTS for number in range(PARTS + 1)]
    return [
        (int(steps * to), _median(looks, steps, since, to))
        for since, to in pairwise(bounds)
        if any(since * steps < step <= to * steps for step, _ in looks)
    ]


def _median(looks: Sequence[tuple[int, int]], steps: int, since: float, to: float) -> float:
    held = sorted(size for step, size in looks if since * steps < step <= to * steps)
    return float(held[len(held) // 2]) if held else float("nan")


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(part.stat().st_size for part in path.rglob("*") if part.is_file())
    return path.stat().st_size


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
