"""Shared by all benchmarks: options, timing, and results that record how they were made."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"

DISTRIBUTIONS = (
    "mlcore-localization",
    "torch",
    "lightning",
    "faiss-cpu",
    "pytorch-metric-learning",
    "cupy-cuda13x",
    "cupy-cuda12x",
    "numba",
    "numpy",
)


@dataclass(frozen=True)
class Timing:
    """Seconds of repeated runs.

    Attributes:
        seconds: Every measured run, in order, warm-ups left out.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median in seconds."""
        return statistics.median(self.seconds)

    def __str__(self) -> str:
        """Median [smallest, largest] in milliseconds."""
        low, middle, high = (
            1e3 * value for value in (min(self.seconds), self.median, max(self.seconds))
        )
        return f"{middle:.1f} ms [{low:.1f}, {high:.1f}]"


def measure(
    runs: Mapping[str, Callable[[], object]],
    *,
    repeats: int,
    warmup: int = 1,
    settle: bool = False,
    turn_s: float = 0.0,
    synchronize: Callable[[], object] | None = None,
) -> dict[str, Timing]:
    """Time the runs in turns, so that a busy machine slows all of them alike.

    Args:
        runs: What to time, by name.
        repeats: Measured rounds.
        warmup: Rounds before them that do not count.
        settle: Whether each timed run follows one of its own that is not timed, so that none
            pays for the memory and caches that another one left behind.
        turn_s: In a turn, a run is timed once more until this many seconds have passed: a
            quick one among slow ones would have few figures.
        synchronize: Called before each reading of the clock; for a GPU.
    """
    wait = synchronize or (lambda: None)
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in [*runs.values()] * warmup:
        run()
    for _ in range(repeats):
        for name, run in runs.items():
            if settle:
                run()
            wait()
            begun = end = time.perf_counter()
            while True:
                run()
                wait()
                start, end = end, time.perf_counter()
                seconds[name].append(end - start)
                if end - begun >= turn_s:
                    break
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def parser(module: str, purpose: str) -> argparse.ArgumentParser:
    """Return the parser of a benchmark, with the options that all benchmarks have.

    Args:
        module: The benchmark's ``__name__`` or file name.
        purpose: Its docstring; the first line is shown.
    """
    made = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name_of(module)}",
        description=purpose.splitlines()[0],
        allow_abbrev=False,
    )
    made.add_argument("--quick", action="store_true", help="a smaller version, for CI")
    made.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="default: cpu")
    made.add_argument(
        "--save", action="store_true", help="write the result to benchmarks/results"
    )
    return made


def compare(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run ``mlcore compare``, one thread per run, and return its exit code and tables."""
    return subprocess.run(  # noqa: S603
        [sys.executable, "-m", "mlcore", "compare", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


def report(
    file: str,
    purpose: str,
    body: str,
    *,
    options: argparse.Namespace,
    argv: Sequence[str],
    method: str,
    result: str | None = None,
    quiet: bool = False,
) -> None:
    """Print a result under its header and, with ``--save``, write it to the results.

    Args:
        file: The benchmark's ``__file__``.
        purpose: Its docstring.
        body: The result as Markdown: a table, as a rule.
        options: The parsed common options.
        argv: The arguments it was called with.
        method: Warm-ups, repeats, and which spread is shown, in words.
        result: Name of the file to write; the benchmark's own by default.
        quiet: Save without printing: more results are to come.
    """
    name = name_of(file)
    text = header(name, purpose, device=options.device, argv=argv, method=method) + body + "\n"
    if not quiet:
        print(text)
    if options.save:
        path = RESULTS / f"{result or name}.md"
        path.write_text(text, encoding="utf-8")
        if quiet:
            return
        print(f"saved to {path.relative_to(ROOT)}")


def header(name: str, purpose: str, *, device: str, argv: Sequence[str], method: str) -> str:
    """Return the facts that a figure needs: device, versions, commit, date, command, method."""
    command = " ".join([f"python -m benchmarks.{name}", *argv])
    facts = {
        "device": describe_device(device),
        "versions": describe_versions(),
        "commit": describe_commit(),
        "date": f"{dt.datetime.now(tz=dt.UTC):%Y-%m-%d}",
        "command": f"`{command}`",
        "method": method,
    }
    lines = [f"# {name}: {purpose.splitlines()[0]}", ""]
    lines += [f"- {key}: {value}" for key, value in facts.items()]
    return "\n".join(lines) + "\n\n"


def read_header(path: Path) -> dict[str, str]:
    """Return the facts in the header of a saved result."""
    facts = {}
    for line in path.read_text(encoding="utf-8").splitlines()[2:]:
        if not line.startswith("- "):
            break
        key, _, value = line.removeprefix("- ").partition(": ")
        facts[key] = value
    return facts


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def name_of(module: str) -> str:
    """Return a benchmark's short name from its ``__file__``."""
    return Path(module).stem


def describe_device(device: str) -> str:
    """Return the processor and its cores, and the GPU if that is what was measured."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    described = f"{_processor()}, {cores} cores"
    if device == "cuda":
        import torch

        described = f"{torch.cuda.get_device_name()}; {described}"
    return described


def describe_versions() -> str:
    """Return the versions of Python and of the packages that affect speed."""
    found = [f"Python {platform.python_version()}"]
    for name in DISTRIBUTIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def describe_commit() -> str:
    """Return the commit, and whether tracked files differ from it."""
    try:
        commit = _git("rev-parse", "--short=10", "HEAD")
        changed = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit} with changes" if changed else commit


def run_python(*words: str, environment: Mapping[str, str] | None = None) -> None:
    """Run this Python in a fresh process, without its output.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    subprocess.run(  # noqa: S603
        [sys.executable, *words],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )


def processor_seconds(run: Callable[[], object]) -> float:
    """Return the processor time of the processes that a call starts and waits for."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    run()
    return spent() - before


def _git(*words: str) -> str:
    done = subprocess.run(  # noqa: S603
        ["git", *words],  # noqa: S607
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
