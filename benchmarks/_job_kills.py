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

from benchmarks._kills import FINISH_S, Kill, finish, launch, wait_until, wait_until_gone

DATA = ("--from", "synthetic")
STARTING = 0.2
"""Share of the kills that come while a command starts, before it writes."""


@dataclass(frozen=True)
class Job:
    """A command that writes a folder.

    Attributes:
        name: As the table has it.
        words: The command line, without the folder.
        goes_on: Whether it continues in a folder that it was killed in; else it starts anew.
        result: What it writes, as a glob pattern of names.
        page: The only file that it writes, which differs each time; empty: a folder of files
            that are the same each time.
    """

    name: str
    words: tuple[str, ...]
    goes_on: bool
    result: str = "**/*"
    page: str = ""

    def finish(self, out: Path) -> None:
        """Run the command to its end."""
        finish(launch(self.line(out), mark=str(out)))

    def line(self, out: Path) -> list[str]:
        """Return the command line that writes to ``out``, or to a file in it."""
        out.parent.mkdir(exist_ok=True)
        if self.page:
            out.mkdir(exist_ok=True)
        return [*self.words, "--out", str(out / self.page if self.page else out)]

    def contents(self, out: Path) -> Mapping[str, bytes]:
        """Return the finished files of a folder, by name: hidden ones are being written."""
        return {
            str(path.relative_to(out)): path.read_bytes()
            for path in out.glob(self.result)
            if path.is_file() and not path.name.startswith(".")
        }

    def damaged(self, found: Mapping[str, bytes], wanted: Mapping[str, bytes]) -> list[str]:
        """Return the names of files that are not those of the command left alone."""
        if self.page:  # it names its folder and the time
            return [n for n, content in found.items() if b"</html>" not in content[-200:]]
        return [n for n, content in found.items() if wanted.get(n) != content]


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
        Job("embed", ("embed", str(run), "--shard_size", "1"), goes_on=True),
        Job("report", ("report", str(run)), goes_on=False, page="report.html"),
    ]


def killed_job(
    job: Job, folder: Path, kills: int, generator: random.Random
) -> tuple[list[Kill], list[str]]:
    """Kill a job ``kills`` times and let it end; return the kills, and what differs then.

    A job that goes on starts anew once it has written nearly all of its files.

    Args:
        job: The command.
        folder: Where it writes, beside the same left alone.
        kills: How often.
        generator: Draws moments and signals.
    """
    alone, out = folder / "alone", folder / "killed"
    began = time.monotonic()
    job.finish(alone)
    took_s = time.monotonic() - began
    wanted = job.contents(alone)
    made: list[Kill] = []
    wrong: list[str] = []
    while len(made) < kills:
        before = len(job.contents(out))
        if not job.goes_on or before > 0.8 * len(wanted):
            shutil.rmtree(out, ignore_errors=True)
            before = 0
        stop = generator.choice([signal.SIGKILL, signal.SIGTERM])
        process = launch(job.line(out), mark=str(out))
        if generator.random() < STARTING:
            time.sleep(generator.uniform(0.0, 0.3 * took_s))
        elif job.page:
            time.sleep(generator.uniform(0.3 * took_s, took_s))
        else:
            at = before + generator.randint(1, max(1, len(wanted) // 3))
            wait_until(lambda at=at: len(job.contents(out)) >= at, process, pause=0.01)  # type: ignore[misc]
        step = len(job.contents(out))
        process.send_signal(stop)
        process.communicate(timeout=FINISH_S)
        wait_until_gone(out)
        found = job.contents(out)
        wrong += [f"{job.name}: {name} is damaged" for name in job.damaged(found, wanted)]
        if process.returncode != 0:  # it may have ended in the very moment
            made.append(Kill(job.name, stop, process.returncode, before, len(found), step))
    if not job.goes_on:
        shutil.rmtree(out, ignore_errors=True)
    job.finish(out)
    found = job.contents(out)
    wrong += [f"{job.name}: {name} is missing" for name in wanted.keys() - found.keys()]
    wrong += [f"{job.name}: {name} differs" for name in job.damaged(found, wanted)]
    return made, wrong
