"""Commands that write many files, killed at random moments and started again.

What such a command has finished must equal the same file of the command left alone, after
every kill; so must the whole folder in the end.
"""

from __future__ import annotations

import random
import shutil
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks._kills import Kill, finish, launch, wait_until, wait_until_gone

DATA = ["--from", "synthetic"]


@dataclass(frozen=True)
class Job:
    """A command that writes a folder.

    Attributes:
        name: As the table has it.
        words: The command line, without the folder.
        goes_on: Whether it continues in a folder that it was killed in; else it starts anew.
        result: What it writes, as a glob pattern of names.
    """

    name: str
    words: tuple[str, ...]
    goes_on: bool
    result: str = "**/*"

    def start(self, out: Path, *, beside: str = "") -> list[str]:
        """Return the command line that writes to ``out``, or to a file in it."""
        return [*self.words, "--out", str(out / beside if beside else out)]


def jobs(folder: Path, run: Path) -> list[Job]:
    """Return the jobs; what they read is written to ``folder`` first.

    Args:
        folder: A folder to make.
        run: A trained run.
    """
    folder.mkdir()
    download = folder / "download"
    as_robotcar = ("data", "write", "robotcar", *DATA, "--enlarge", "1")
    finish(launch([*as_robotcar, "--out", str(download)], mark=str(download)))
    prepare = ("--protocol", "all", "--num_processes", "2", "--image_format", "png")
    return [
        Job("data write", ("data", "write", "pittsburgh", *DATA), goes_on=False),
        Job(
            "data prepare",
            ("data", "prepare", "robotcar", "--root", str(download), *prepare),
            goes_on=True,
            result="images/**/*.png",
        ),
        Job("embed", ("embed", str(run), "--shard_size", "9"), goes_on=True),
        Job("report", ("report", str(run)), goes_on=True),
    ]


def killed_job(
    job: Job, folder: Path, kills: int, generator: random.Random
) -> tuple[list[Kill], list[str]]:
    """Kill a job ``kills`` times and let it end; return the kills, and what differs then.

    Args:
        job: The command.
        folder: Where it writes, beside the same left alone.
        kills: How often.
        generator: Draws moments and signals.
    """
    page = "report.html" if job.name == "report" else ""
    alone, out = folder / "alone", folder / "killed"
    for made in (alone, out) if page else ():
        made.mkdir(parents=True)
    folder.mkdir(exist_ok=True)
    began = time.monotonic()
    finish(launch(job.start(alone, beside=page), mark=str(alone)))
    took_s = time.monotonic() - began
    wanted = contents(alone, job.result)
    made_kills: list[Kill] = []
    wrong: list[str] = []
    for _ in range(kills):
        stop = generator.choice([signal.SIGKILL, signal.SIGTERM])
        before = len(contents(out, job.result))
        process = launch(job.start(out, beside=page), mark=str(out))
        if generator.random() < 0.5:
            at = before + generator.randint(1, max(1, len(wanted) // 3))
            wait_until(lambda at=at: len(contents(out, job.result)) >= at, process, pause=0.01)  # type: ignore[misc]
        else:
            time.sleep(generator.uniform(0.0, took_s))
        step = len(contents(out, job.result))
        process.send_signal(stop)
        process.communicate(timeout=120)
        wait_until_gone(out)
        found = contents(out, job.result)
        wrong += [f"{job.name}: half of {n}" for n in _others(found, wanted, page)]
        if process.returncode != 0:
            after = len(found)
            made_kills.append(Kill(job.name, stop, process.returncode, before, after, step))
        if not job.goes_on:
            shutil.rmtree(out, ignore_errors=True)
    if not job.goes_on or page:
        shutil.rmtree(out, ignore_errors=True)
    if page:
        out.mkdir()
    finish(launch(job.start(out, beside=page), mark=str(out)))
    found = contents(out, job.result)
    wrong += [f"{job.name}: {n} is missing" for n in wanted.keys() - found.keys()]
    wrong += [f"{job.name}: {n} differs" for n in _others(found, wanted, page)]
    return made_kills, wrong


def contents(folder: Path, pattern: str) -> Mapping[str, bytes]:
    """Return the finished files of a folder, by name: hidden ones are being written."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.glob(pattern)
        if path.is_file() and not path.name.startswith(".")
    }


def _others(found: Mapping[str, bytes], wanted: Mapping[str, bytes], page: str) -> list[str]:
    """Return the names of files that are not those of the command left alone."""
    if page:  # it names its folder and the time
        return [name for name, content in found.items() if b"</html>" not in content[-200:]]
    return [name for name, content in found.items() if wanted.get(name) != content]
