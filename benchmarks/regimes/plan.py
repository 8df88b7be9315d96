"""Which runs the comparison consists of, and doing those that are left.

Every run is kept as it ends, so that the comparison can stop between two runs and continue
later from the same folder.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from torch import nn

from benchmarks.regimes.rows import REGIMES, SEARCH_TOWN, Regime, Row, Setting
from benchmarks.regimes.runs import (
    PLAIN,
    Job,
    Result,
    differences,
    evaluate,
    keep,
    kept,
    run,
)
from benchmarks.regimes.towns import TopOfNetwork, Town, open_town
from mlcore.evaluation.results import Evaluation
from mlcore.experiment import assemble
from mlcore.models.networks import Network
from mlcore.registry.discovery import Registry

AREA_LIMIT_M = 25.0
OFF_THE_SHELF = "off-the-shelf"
VALIDATION = ("validation", PLAIN)
"""The evaluation that decides settings."""


class OutOfTimeError(Exception):
    """The minutes of this call have passed; the rest is for the next one."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What all runs of a comparison share.

    Attributes:
        folder: Of the results and caches.
        rows: The losses.
        max_steps: Steps of every run; None: those of its regime.
        extra: Further options of ``mlcore train``, such as lengths of routes.
        noise_m: Standard deviation of the noise on training positions; not in the search.
        deadline: No run begins after this reading of ``time.monotonic``.
        registry: Of the components.
    """

    folder: Path
    rows: tuple[Row, ...]
    max_steps: int | None
    extra: tuple[str, ...]
    noise_m: float
    deadline: float
    registry: Registry

    def options(self, regime: Regime, *words: str) -> tuple[str, ...]:
        """Return the options of ``mlcore train`` of a run in a regime."""
        steps = ("--training.max_steps", str(self.max_steps or regime.max_steps))
        return (*regime.options(), *words, *steps, *self.extra)

    def job(self, regime: Regime, row: Row, setting: Setting, town: int, seed: int) -> Job:
        """Return one run of a row."""
        noise = f"-noise-{self.noise_m:g}" if self.noise_m else ""
        folder = self.folder / f"{regime.name}{noise}" / row.name
        return Job(
            row=row.name,
            path=folder / f"town-{town}-seed-{seed}.json",
            options=self.options(regime, *row.options(setting)),
            town=town,
            seed=seed,
            noise_m=self.noise_m,
        )

    def town(self, job: Job, regime: Regime) -> Town:
        """Return the town of a run with its cache; the last one stays open."""
        return _opened(self, regime, job.town, job.seed if job.noise_m else 0, job.noise_m)

    def do(self, jobs: Sequence[Job], regime: Regime) -> list[Result]:
        """Return the results of runs, doing those that are left.

        Raises:
            OutOfTimeError: There is no time for all of them.
        """
        results = []
        for number, job in enumerate(jobs, start=1):
            result = kept(job)
            if result is None:
                if time.monotonic() > self.deadline:
                    raise OutOfTimeError
                result = run(job, regime, self.town(job, regime), self.registry)
                keep(job, result)
                where = job.path.relative_to(self.folder)
                shown = result.failure or ", ".join(
                    f"{' '.join(key)} {100 * one.area(AREA_LIMIT_M):.1f}"
                    for key, one in result.evaluations.items()
                )
                print(
                    f"{number}/{len(jobs)} {where} {result.seconds:.1f} s: {shown}", flush=True
                )
            results.append(result)
        return results


@lru_cache(maxsize=1)
def _opened(
    comparison: Comparison, regime: Regime, town: int, seed: int, noise_m: float
) -> Town:
    job = Job(
        row="",
        path=comparison.folder,
        options=comparison.options(regime),
        town=town,
        seed=seed,
    )
    config = job.config(comparison.registry)
    return open_town(config, regime, comparison.folder / "features", noise_m)


def search(comparison: Comparison) -> dict[str, Setting]:
    """Return the best setting of each row: by validation of one town, frozen backbone.

    A try that diverges is never the best.

    Raises:
        OutOfTimeError: It is not finished.
    """
    return {name: best(areas) for name, areas in search_areas(comparison).items()}


def best(areas: Mapping[Setting, float]) -> Setting:
    """Return the setting with the largest area, the first of equals."""
    return max(areas, key=areas.__getitem__)


def search_jobs(comparison: Comparison, row: Row) -> list[Job]:
    """Return the tries of a row, in the order of its settings."""
    frozen = REGIMES["frozen"]
    folder = comparison.folder / "search" / row.name
    return [
        Job(
            row=row.name,
            path=folder / f"{setting.learning_rate} {setting.value}.json",
            options=comparison.options(frozen, *row.options(setting)),
            town=SEARCH_TOWN,
            seed=0,
            splits=("validation",),
        )
        for setting in row.settings
    ]


def search_areas(comparison: Comparison) -> dict[str, dict[Setting, float]]:
    """Return the area to 25 m on validation of each try of each row; -1 where it diverged.

    Raises:
        OutOfTimeError: It is not finished.
    """
    frozen = REGIMES["frozen"]
    areas: dict[str, dict[Setting, float]] = {}
    for row in comparison.rows:
        jobs = search_jobs(comparison, row)
        areas[row.name] = {
            setting: _area(result.evaluations.get(VALIDATION))
            for setting, result in zip(row.settings, comparison.do(jobs, frozen), strict=True)
        }
    return areas


def _area(evaluation: Evaluation | None) -> float:
    return -1.0 if evaluation is None else evaluation.area(AREA_LIMIT_M)


def jobs_of(
    comparison: Comparison,
    regime: Regime,
    rows: Sequence[Row],
    settings: Mapping[str, Setting],
) -> list[Job]:
    """Return the runs of a regime in the order they are done: all rows of a town and seed."""
    return [
        comparison.job(regime, row, settings[row.name], town, seed)
        for town in regime.towns
        for seed in regime.seeds
        for row in rows
    ]


Runs = Mapping[str, Mapping[tuple[int, int], Result]]
"""The results of each row, by town and seed."""


def results_of(jobs: Sequence[Job]) -> Runs:
    """Return what is kept of runs, by row, town and seed."""
    found: dict[str, dict[tuple[int, int], Result]] = {}
    for job in jobs:
        result = kept(job)
        if result is not None:
            found.setdefault(job.row, {})[job.town, job.seed] = result
    return found


def best_rows(comparison: Comparison, frozen: Regime, number: int) -> list[Row]:
    """Return the rows with the largest mean area on validation, frozen.

    Args:
        comparison: With all rows.
        frozen: The regime with the towns and seeds that decide.
        number: Of rows.

    Raises:
        OutOfTimeError: The runs are not finished.
    """
    jobs = jobs_of(comparison, frozen, comparison.rows, search(comparison))
    found: dict[str, list[float]] = {}
    for job, result in zip(jobs, comparison.do(jobs, frozen), strict=True):
        found.setdefault(job.row, []).append(_area(result.evaluations.get(VALIDATION)))
    ranked = sorted(comparison.rows, key=lambda row: -float(np.mean(found[row.name])))
    return ranked[:number]


def off_the_shelf(comparison: Comparison, regime: Regime) -> dict[int, Result]:
    """Return the results of the frozen features without a head, by town."""
    frozen = REGIMES["frozen"]
    found = {}
    for number in regime.towns:
        job = Job(
            row=OFF_THE_SHELF,
            path=comparison.folder / OFF_THE_SHELF / f"town-{number}.json",
            options=comparison.options(frozen),
            town=number,
            seed=0,
        )
        result = kept(job)
        if result is None:
            town = comparison.town(job, frozen)
            config = job.config(comparison.registry)
            model = assemble(config, dataset=town.dataset, data_notes=()).model.eval()
            assert isinstance(model, Network)
            model.projection = nn.Identity()
            network = TopOfNetwork(model, frozen.blocks)
            result = Result(evaluate(network, town, config.evaluation, job.splits), "", 0.0)
            keep(job, result)
        found[number] = result
    return found


def repeat(comparison: Comparison, regime: Regime, jobs: Sequence[Job]) -> list[str]:
    """Do runs again that were kept; return what differs."""
    found = []
    for job in jobs:
        result = kept(job)
        if result is None:
            found.append(f"{job.path} is not there")
            continue
        again = run(job, regime, comparison.town(job, regime), comparison.registry)
        where = job.path.relative_to(comparison.folder)
        found += [f"{where}: {what}" for what in differences(again, result)]
        print(f"repeated {where}", flush=True)
    return found
