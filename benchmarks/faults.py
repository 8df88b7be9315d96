"""Training runs that are killed at random moments and resumed, against one left alone.

Each run is killed several times while it starts, steps, writes a checkpoint and evaluates,
by SIGKILL or SIGTERM, and resumed after each; in the end its weights, metrics, tuples (by
the metrics) and evaluation must equal those of the run left alone, byte for byte. Further:
a disk that fills up and a folder that turns read-only under a running training (needs the
right to mount a tmpfs; left out and said so elsewhere).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import _common as common

DURATION = "20 minutes"

SUPPORT = common.ROOT / "tests" / "support"
KILLS_IN_TRAINING = 8
KILLS_IN_EVALUATION = 2
NUM_STEPS = 60
WORDS = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.checkpoint_every", "4"),
    *("--training.log_every", "1", "--training.accelerator", "cpu"),
    *("--training.max_steps", str(NUM_STEPS), "--evaluation.dimensions", "8"),
]
MOMENTS = ("starting", "steps", "checkpoint")


@dataclass(frozen=True)
class Kill:
    """One kill.

    Attributes:
        moment: What the run was doing.
        number: The signal.
        code: The exit code.
        before: Newest checkpoint's step when it was started.
        after: The same after the kill.
    """

    moment: str
    number: signal.Signals
    code: int
    before: int
    after: int

    @property
    def lost(self) -> bool:
        """Whether what was saved is not there any more, or the exit code is another."""
        # A SIGTERM before Python has its handler ends the process as SIGKILL does.
        clean = {-self.number, 143} if self.number is signal.SIGTERM else {-self.number}
        return self.after < self.before or self.code not in clean


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; 1 if a run is lost or differs."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=600.0, help="begin no further run after this time"
    )
    options = parser.parse_args(argv)
    kills = 4 if options.quick else options.kills
    per_run = KILLS_IN_TRAINING + KILLS_IN_EVALUATION
    generator = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        alone = Path(folder) / "alone"
        finish(start("--out", alone))
        made: list[Kill] = []
        differing = []
        until = time.monotonic() + 60 * options.minutes
        for number in range(-(-kills // per_run)):
            if time.monotonic() > until:
                break
            run = Path(folder) / f"killed-{number}"
            wanted = min(per_run, kills - len(made))
            made += killed_run(run, wanted, generator)
            differing += [f"run {number}: {what}" for what in differences(run, alone)]
            print(f"{len(made)} kills, {len(differing)} differences", file=sys.stderr)
        rows = [*full_disk(alone), *read_only(alone)]
    common.report(
        __file__,
        __doc__ or "",
        f"{kill_table(made)}\n\n{common.markdown_table(['fault', 'result'], rows)}\n\n"
        f"Runs that differ from the one left alone: {'; '.join(differing) or 'none'}.",
        options=options,
        argv=argv,
        method=f"{len(made)} kills of runs of {NUM_STEPS} steps, a checkpoint every 4, seed "
        f"{options.seed}; the moment and the signal are drawn at random",
    )
    bad = differing or any(kill.lost for kill in made) or any("WRONG" in row[1] for row in rows)
    return 1 if bad else 0


def killed_run(run: Path, kills: int, generator: random.Random) -> list[Kill]:
    """Train a run to its end, killing it ``kills`` times; the last times in evaluation."""
    made = []
    in_evaluation = min(KILLS_IN_EVALUATION, kills // 2)
    for number in range(kills):
        number_left = kills - number
        moment = "evaluation" if number_left <= in_evaluation else generator.choice(MOMENTS)
        stop = generator.choice([signal.SIGKILL, signal.SIGTERM])
        before = newest_step(run)
        if before >= NUM_STEPS:
            moment = "evaluation"
        process = start(
            *(["--resume", run] if (run / "config.toml").exists() else ["--out", run])
        )
        WAIT[moment](run, before, process, generator)
        process.send_signal(stop)
        process.communicate(timeout=120)
        if process.returncode != 0:  # it may have ended in the very moment
            made.append(Kill(moment, stop, process.returncode, before, newest_step(run)))
    finish(start(*(["--resume", run] if (run / "config.toml").exists() else ["--out", run])))
    return made


def _starting(
    _run: Path, _before: int, _process: subprocess.Popen[str], generator: random.Random
) -> None:
    time.sleep(generator.uniform(0.0, 4.0))


def _steps(
    run: Path, before: int, process: subprocess.Popen[str], generator: random.Random
) -> None:
    at = before + generator.randint(1, 12)
    wait_until(lambda: num_rows(run) >= at, process)
    time.sleep(generator.uniform(0.0, 0.02))


def _checkpoint(
    run: Path, before: int, process: subprocess.Popen[str], generator: random.Random
) -> None:
    """Wait for the temporary file of some checkpoint, and a part of the time it takes."""
    at = before + 4 * generator.randint(0, 2)
    wait_until(lambda: num_rows(run) >= at, process)
    writing = run / "checkpoints"
    wait_until(lambda: any(writing.glob(".*.tmp")), process, pause=0.0)
    time.sleep(generator.uniform(0.0, 0.01))


def _evaluation(
    run: Path, before: int, process: subprocess.Popen[str], generator: random.Random
) -> None:
    wait_until(lambda: newest_step(run) >= NUM_STEPS, process)
    if before >= NUM_STEPS:  # it has nothing left but to evaluate, which it starts to do
        time.sleep(generator.uniform(2.0, 5.0))
    else:
        time.sleep(generator.uniform(0.0, 1.0))


WAIT: dict[str, Callable[[Path, int, subprocess.Popen[str], random.Random], None]] = {
    "starting": _starting,
    "steps": _steps,
    "checkpoint": _checkpoint,
    "evaluation": _evaluation,
}


def kill_table(kills: Sequence[Kill]) -> str:
    """Return how often each moment and signal came, and what became of the run."""
    count = Counter((kill.moment, kill.number.name) for kill in kills)
    lost = Counter((kill.moment, kill.number.name) for kill in kills if kill.lost)
    went_on = Counter(
        (kill.moment, kill.number.name) for kill in kills if kill.after > kill.before
    )
    rows = [(*key, count[key], went_on[key], lost[key]) for key in sorted(count)]
    rows.append(("all", "", len(kills), sum(went_on.values()), sum(lost.values())))
    columns = ["killed while", "by", "times", "with a newer checkpoint", "lost"]
    return common.markdown_table(columns, rows)


def differences(run: Path, alone: Path) -> list[str]:
    """Return the names of what differs from the run left alone."""
    import torch

    names = ["metrics.jsonl", "evaluation.json"]
    found = [n for n in names if (run / n).read_bytes() != (alone / n).read_bytes()]
    states = [
        torch.load(newest(path), weights_only=True)["state_dict"] for path in (run, alone)
    ]
    if any(not torch.equal(states[0][name], states[1][name]) for name in states[1]):
        found.append("weights")
    if list((run / "checkpoints").glob(".*.tmp")):
        found.append("a temporary file is left")
    return found


def full_disk(alone: Path) -> Iterator[tuple[str, str]]:
    """Yield what happens where the disk fills up during a checkpoint."""
    what = "disk full during a checkpoint"
    with small_disk(8) as disk:
        if disk is None:
            yield what, "not tried: no right to mount"
            return
        run = disk / "run"
        process = start("--out", run)
        wait_until(lambda: newest_step(run) >= 8, process)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        _, said = process.communicate(timeout=120)
        yield what, _went_on(run, alone, process.returncode, said, filler.unlink)


def read_only(alone: Path) -> Iterator[tuple[str, str]]:
    """Yield what happens where the folder turns read-only."""
    what = "folder turns read-only"
    with small_disk(20) as disk:
        if disk is None:
            yield what, "not tried: no right to mount"
            return
        run = disk / "run"
        process = start("--out", run)
        wait_until(lambda: newest_step(run) >= 8, process)
        # Files that are open for writing keep a plain remount from being allowed.
        _mount("-o", "remount,ro,force", str(disk)) or _mount("--bind", str(disk), str(disk))
        _mount("-o", "remount,bind,ro", str(disk))
        _, said = process.communicate(timeout=120)
        yield (
            what,
            _went_on(
                run,
                alone,
                process.returncode,
                said,
                lambda: _mount("-o", "remount,bind,rw", str(disk)),
            ),
        )


def _went_on(run: Path, alone: Path, code: int, said: str, mend: Callable[[], object]) -> str:
    last = said.strip().splitlines()[-1].replace(str(run), "RUN") if said.strip() else ""
    step = newest_step(run)
    mend()
    finish(start("--resume", run))
    differing = differences(run, alone)
    clean = code == 2 and "Traceback" not in said and step >= 8 and not differing
    return (
        f"{'' if clean else 'WRONG: '}exit {code}, `{last}`; resumed from step {step}: "
        f"{', '.join(differing) or 'equal'}"
    )


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path | None]:
    """Give a folder on a disk of its own, None where that is not allowed."""
    with tempfile.TemporaryDirectory() as folder:
        if not _mount("-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder):
            yield None
            return
        try:
            yield Path(folder)
        finally:
            while subprocess.run(["umount", folder], capture_output=True).returncode == 0:  # noqa: S603, S607, PLW1510
                pass


def _mount(*words: str) -> bool:
    mount = shutil.which("mount")
    if mount is None:
        return False
    done = subprocess.run([mount, *words], capture_output=True, check=False)  # noqa: S603
    return done.returncode == 0


def start(*words: object) -> subprocess.Popen[str]:
    """Start ``mlcore train``; a new run gets the benchmark's options."""
    chosen = [] if "--resume" in words else WORDS
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "mlcore", "train", *chosen, *map(str, words)],
        cwd=common.ROOT,
        env={**os.environ, "PYTHONPATH": str(SUPPORT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a run to end well."""
    _, said = process.communicate(timeout=300)
    if process.returncode != 0:
        raise RuntimeError(f"exit code {process.returncode}:\n{said}")


def wait_until(
    holds: Callable[[], bool], process: subprocess.Popen[str], *, pause: float = 0.001
) -> None:
    """Wait for something that a process does, or for its end."""
    while not holds() and process.poll() is None:
        time.sleep(pause)


def newest(run: Path) -> Path:
    """Return the newest checkpoint."""
    return max((run / "checkpoints").glob("step-*.ckpt"))


def newest_step(run: Path) -> int:
    """Return the newest checkpoint's step, 0 if there is none."""
    found = sorted((run / "checkpoints").glob("step-*.ckpt"))
    return int(found[-1].stem.removeprefix("step-")) if found else 0


def num_rows(run: Path) -> int:
    """Return how many steps the metrics tell of."""
    metrics = run / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
