"""Runs and comparisons that are killed at random moments, compared with undisturbed ones.

Each run is killed several times while it starts, steps, writes a checkpoint and evaluates,
by SIGKILL or SIGTERM, and resumed after each; in the end its weights, metrics, tuples (by
the metrics) and evaluation must equal those of the run left alone, byte for byte. So must
those of every run of a comparison, and its tables. Further: a disk that fills up and a folder
that turns read-only under a running training (needs the right to mount a tmpfs; left out and
said so elsewhere).
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks import _common as common
from benchmarks._job_kills import jobs, killed_job
from benchmarks._kills import (
    FINISH_S,
    NUM_STEPS,
    Kill,
    comparison_differences,
    differences,
    finish,
    killed_comparison,
    killed_run,
    newest_step,
    start,
    train,
    wait_until,
)

DURATION = "20 minutes"

KILLS_OF_ONE = 10
COMPARISONS = 0.2
"""Share of the kills that are of comparisons."""
JOBS = 0.1
"""Share of the kills that are of each of data write, data prepare, embed and report."""


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; 1 if a run is lost or differs."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    wanted = 2 if options.quick else options.kills
    generator = random.Random(options.seed)
    made: list[Kill] = []
    differing: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        alone = folder / "alone"
        finish(train(alone))
        of_comparisons, of_job = int(COMPARISONS * wanted), int(JOBS * wanted)
        for job in jobs(folder / "data", alone) if of_job else ():
            job_kills, wrong = killed_job(job, folder / job.name, of_job, generator)
            made += job_kills
            differing += wrong
            print(f"{len(made)} kills, {len(differing)} differences", file=sys.stderr)
        while len(made) < wanted - of_comparisons:
            run = folder / f"run-{len(made)}"
            kills = min(KILLS_OF_ONE, wanted - of_comparisons - len(made))
            made += killed_run(run, kills, generator)
            differing += [f"{run.name}: {what}" for what in differences(run, alone)]
            print(f"{len(made)} kills, {len(differing)} differences", file=sys.stderr)
        if of_comparisons:
            finish(start("compare", "--out", folder / "compared-alone"))
        left = of_comparisons
        while left > 0:
            compared = folder / f"compared-{left}"
            found_kills = killed_comparison(compared, min(KILLS_OF_ONE, left), generator)
            made += found_kills
            left -= max(1, len(found_kills))
            found = comparison_differences(compared, folder / "compared-alone")
            differing += [f"{compared.name}: {what}" for what in found]
            print(f"{len(made)} kills, {len(differing)} differences", file=sys.stderr)
        print(step_table(made), file=sys.stderr)
        rows = [*full_disk(alone), *read_only(alone)]
    common.report(
        __file__,
        __doc__ or "",
        f"{kill_table(made)}\n\n{step_table(made)}\n\n"
        f"{common.markdown_table(['fault', 'result'], rows)}\n\n"
        f"Runs that differ from the one left alone: {'; '.join(differing) or 'none'}.",
        options=options,
        argv=argv,
        method=f"{len(made)} kills of runs of {NUM_STEPS} steps, a checkpoint every 4, of "
        "comparisons of eight such runs, two at a time, and of data write, data prepare, embed "
        f"and report; seed {options.seed}; the moment and the signal are drawn at random",
    )
    bad = differing or any(kill.lost for kill in made) or any("WRONG" in row[1] for row in rows)
    return 1 if bad else 0


def kill_table(kills: Sequence[Kill]) -> str:
    """Return how often each moment and signal came, and what became of the run."""
    count = Counter((kill.moment, kill.number.name) for kill in kills)
    lost = Counter((kill.moment, kill.number.name) for kill in kills if kill.lost)
    went_on = Counter(
        (kill.moment, kill.number.name) for kill in kills if kill.after > kill.before
    )
    rows = [(*key, count[key], went_on[key], lost[key]) for key in sorted(count)]
    rows.append(("all", "", len(kills), sum(went_on.values()), sum(lost.values())))
    columns = ["killed while", "by", "times", "had saved more", "lost"]
    return common.markdown_table(columns, rows)


def step_table(kills: Sequence[Kill]) -> str:
    """Return the step at which each kill came, and the checkpoints before and after it."""
    columns = ["kill", "killed while", "by", "at step", "saved before", "saved after"]
    rows = [
        (number, kill.moment, kill.number.name, kill.step, kill.before, kill.after)
        for number, kill in enumerate(kills, start=1)
    ]
    return common.markdown_table(columns, rows)


def full_disk(alone: Path) -> Iterator[tuple[str, str]]:
    """Yield what happens where the disk fills up during a checkpoint."""
    what = "disk full during a checkpoint"
    with small_disk(8) as disk:
        if disk is None:
            yield what, "not tried: no right to mount"
            return
        run = disk / "run"
        process = train(run)
        wait_until(lambda: newest_step(run) >= 8, process)
        filler = disk / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                pass
        _, said = process.communicate(timeout=FINISH_S)
        yield what, _went_on(run, alone, process.returncode, said, filler.unlink)


def read_only(alone: Path) -> Iterator[tuple[str, str]]:
    """Yield what happens where the folder turns read-only."""
    what = "folder turns read-only"
    with small_disk(20) as disk:
        if disk is None:
            yield what, "not tried: no right to mount"
            return
        run = disk / "run"
        process = train(run)
        wait_until(lambda: newest_step(run) >= 8, process)
        # Files that are open for writing keep a plain remount from being allowed.
        _mount("-o", "remount,ro,force", str(disk)) or _mount("--bind", str(disk), str(disk))
        _mount("-o", "remount,bind,ro", str(disk))
        _, said = process.communicate(timeout=FINISH_S)
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
    finish(train(run))
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


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
