"""Runs and comparisons that are killed at random moments and started again."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import _common as common

SUPPORT = common.ROOT / "tests" / "support"
NUM_STEPS = 60
WORDS = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.checkpoint_every", "4"),
    *("--training.log_every", "1", "--training.accelerator", "cpu"),
    *("--training.max_steps", str(NUM_STEPS), "--evaluation.dimensions", "8"),
]
KILLS_IN_EVALUATION = 2
MOMENTS = ("starting", "steps", "checkpoint")
COMPARED = [
    *("--losses", "proposed,triplet", "--seeds", "0,1", "--learning-rates", "1e-3,1e-2"),
    *("--parallel", "2"),
]
FINISH_S = 1800
"""Seconds after which a command left alone counts as stuck, also on a busy machine."""
MARK = "MLCORE_BENCHMARK_FOLDER"
"""Environment variable that marks the processes of a command."""


@dataclass(frozen=True)
class Kill:
    """One kill of a run or of a comparison.

    Attributes:
        moment: What the run was doing.
        number: The signal.
        code: The exit code.
        before: Newest checkpoint's step when it was started; of a comparison, how many runs
            had ended; of other commands, how many files were finished.
        after: The same after the kill.
        step: Rows of ``metrics.jsonl`` when the signal was sent: the step in hand; of a
            comparison, of all its runs together; of other commands, finished files.
    """

    moment: str
    number: signal.Signals
    code: int
    before: int
    after: int
    step: int

    @property
    def lost(self) -> bool:
        """Whether what was saved is not there any more, or the exit code is another."""
        # A SIGTERM before Python has its handler ends the process as SIGKILL does.
        clean = {-self.number, 143} if self.number is signal.SIGTERM else {-self.number}
        return self.after < self.before or self.code not in clean


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
        process = train(run)
        WAIT[moment](run, before, process, generator)
        step = num_rows(run)
        process.send_signal(stop)
        process.communicate(timeout=FINISH_S)
        if process.returncode != 0:  # it may have ended in the very moment
            made.append(Kill(moment, stop, process.returncode, before, newest_step(run), step))
    finish(train(run))
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


def killed_comparison(folder: Path, kills: int, generator: random.Random) -> list[Kill]:
    """Compare losses to the end in two processes, killing the command ``kills`` times."""
    made = []
    for _ in range(kills):
        stop = generator.choice([signal.SIGKILL, signal.SIGTERM])
        before = num_ended(folder)
        process = start("compare", "--out", folder)
        at = before + generator.randint(0, 2)
        wait_until(lambda at=at: num_ended(folder) >= at, process, pause=0.01)  # type: ignore[misc]
        time.sleep(generator.uniform(0.0, 3.0))
        step = sum(num_rows(path.parent) for path in folder.glob("*/*/metrics.jsonl"))
        process.send_signal(stop)
        process.communicate(timeout=FINISH_S)
        wait_until_gone(folder)
        if process.returncode != 0:
            after = num_ended(folder)
            made.append(Kill("comparison", stop, process.returncode, before, after, step))
    finish(start("compare", "--out", folder))
    return made


def train(run: Path) -> subprocess.Popen[str]:
    """Start or resume a training run."""
    return start("train", "--resume" if (run / "config.toml").exists() else "--out", run)


def num_ended(folder: Path) -> int:
    """Return how many runs of a comparison have a result."""
    return len(list(folder.glob("*/*/evaluation.json")))


def wait_until_gone(folder: Path) -> None:
    """Wait for the processes of a killed command.

    Raises:
        RuntimeError: Some are there after five seconds: they would write beside the next.
    """
    until = time.monotonic() + 5
    while time.monotonic() < until:
        left = list(processes_of(folder))
        if not left:
            return
        time.sleep(0.05)
    raise RuntimeError(f"processes {left} outlived the command that started them")


def processes_of(folder: Path) -> Iterator[int]:
    """Yield the processes that a command on this folder has started."""
    mark = f"{MARK}={folder}".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes().split(b"\0"):
                yield int(path.parent.name)
        except OSError:
            continue  # gone, or another user's


def comparison_differences(folder: Path, alone: Path) -> list[str]:
    """Return the names of what differs from the comparison left alone."""
    names = ["comparison.json", "table.txt", "plan.json"]
    found = [n for n in names if (folder / n).read_bytes() != (alone / n).read_bytes()]
    for run in sorted(path.parent for path in alone.glob("*/*/evaluation.json")):
        name = run.relative_to(alone)
        found += [f"{name}: {what}" for what in differences(folder / name, run)]
    return found


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


def start(command: str, *words: object) -> subprocess.Popen[str]:
    """Start a command of mlcore; one that does not resume gets the benchmark's options."""
    chosen = (
        [] if "--resume" in words else [*WORDS, *(COMPARED if command == "compare" else [])]
    )
    return launch([command, *chosen, *map(str, words)], mark=str(words[-1]))


def launch(words: Sequence[str], *, mark: str) -> subprocess.Popen[str]:
    """Start a command line of mlcore, whose processes ``mark`` finds again."""
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "mlcore", *words],
        cwd=common.ROOT,
        env={
            **os.environ,
            "PYTHONPATH": str(SUPPORT),
            "OMP_NUM_THREADS": "1",
            MARK: mark,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> None:
    """Wait for a run to end well."""
    _, said = process.communicate(timeout=FINISH_S)
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
    """Return the number of steps in ``metrics.jsonl``."""
    metrics = run / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0
