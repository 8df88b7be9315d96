"""How losses degrade when training positions have noise; the test positions have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from benchmarks import _common as common
from benchmarks.regimes.plan import AREA_LIMIT_M, Comparison, jobs_of, results_of
from benchmarks.regimes.rows import Regime, Setting
from benchmarks.regimes.runs import PLAIN, Job
from benchmarks.regimes.tables import mean
from mlcore.evaluation.results import Evaluation

Measured = dict[str, dict[float, tuple[float, float] | None]]
"""Area and order accuracy of each row at each level of noise; None if a run diverged."""


def measured(
    comparison: Comparison,
    regime: Regime,
    settings: Mapping[str, Setting],
    levels_m: Sequence[float],
) -> tuple[Measured, list[Job]]:
    """Return the mean measures at each level, and the runs.

    Raises:
        OutOfTimeError: It is not finished.
    """
    found: Measured = {row.name: {} for row in comparison.rows}
    done: list[Job] = []
    for noise_m in levels_m:
        noisy = replace(comparison, noise_m=noise_m)
        jobs = jobs_of(noisy, regime, comparison.rows, settings)
        noisy.do(jobs, regime)
        done += jobs
        for name, results in results_of(jobs).items():
            whole = all(not result.failure for result in results.values())
            found[name][noise_m] = None
            if whole:
                by_town: list[list[Evaluation]] = [
                    [results[town, seed].evaluations["test", PLAIN] for seed in regime.seeds]
                    for town in regime.towns
                ]
                found[name][noise_m] = (mean(by_town, _area), mean(by_town, _order))
    return found, done


def _area(evaluation: Evaluation) -> float:
    return evaluation.area(AREA_LIMIT_M)


def _order(evaluation: Evaluation) -> float | None:
    return evaluation.order_accuracy(10.0)


def markdown(found: Measured, levels_m: Sequence[float]) -> str:
    """Return one table of areas and one of order accuracies."""
    parts = []
    for place, title in enumerate(("Area to 25 m (%)", "Order accuracy to 10 m (%)")):
        rows = []
        for name, by_level in found.items():
            values = [by_level[level] for level in levels_m]
            cells = ["diverged" if v is None else f"{100 * v[place]:.1f}" for v in values]
            first, last = values[0], values[-1]
            lost = "" if None in (first, last) else f"{100 * (last[place] - first[place]):+.1f}"  # type: ignore[index]
            rows.append([name, *cells, lost])
        heading = ["loss", *(f"{level:g} m" for level in levels_m), "last less first"]
        parts.append(f"## {title}\n\n{common.markdown_table(heading, rows)}")
    return "\n\n".join(parts)
