"""The options of ``--regime`` and ``--search-ours``, and what they print and save."""

from __future__ import annotations

import shutil
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from benchmarks import _common as common
from benchmarks.regimes import noise, variants
from benchmarks.regimes.plan import (
    AREA_LIMIT_M,
    VALIDATION,
    Comparison,
    OutOfTimeError,
    best_rows,
    jobs_of,
    off_the_shelf,
    repeat,
    results_of,
    search,
    search_jobs,
)
from benchmarks.regimes.rows import PROPOSED, REGIMES, ROWS, SEARCH_TOWN, Regime, rows_named
from benchmarks.regimes.runs import Job, budget
from benchmarks.regimes.statistics import RESAMPLES
from benchmarks.regimes.tables import Table, draw, markdown, search_markdown
from benchmarks.regimes.towns import QUICK_TOWN
from mlcore.registry.discovery import Registry

_METHOD = (
    "one thread; means over towns and seeds; embeddings are not whitened but for the column "
    "that says so; differences on the same towns, seeds and queries, with percentile "
    f"bootstrap intervals over all three, {RESAMPLES:,} resamples, and p-values adjusted by "
    "Holm for the rows of the table; six tries per loss on validation of town "
    f"{SEARCH_TOWN}, frozen, and that choice in all regimes"
)
_QUICK_ROWS = "proposed,pml-triplet-margin,rank-n-contrast"
_WHERE_AND_WHEN = ("--runs", "--minutes")
"""Options with a value that do not change a result."""


def add_options(parser: ArgumentParser) -> None:
    """Add the options of the regimes to the parser of the benchmark."""
    group = parser.add_argument_group("comparison in a regime, with graded rivals")
    group.add_argument("--regime", choices=list(REGIMES), help="what is trained, and from what")
    group.add_argument(
        "--tries", action="store_true", help="with --regime frozen: show the search alone"
    )
    group.add_argument("--towns", help="seeds of towns (default: the regime's)")
    group.add_argument(
        "--search-ours",
        action="store_true",
        help="search the family of the proposed loss, frozen; test the best on other towns",
    )
    group.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/regimes"),
        metavar="DIR",
        help="folder of the runs; a later call continues from it (default: runs/regimes)",
    )
    group.add_argument(
        "--minutes",
        type=float,
        default=90.0,
        help="begin no run after this many minutes (default: 90)",
    )
    group.add_argument(
        "--repeat",
        metavar="ROW",
        help="with --regime: repeat the first run of a row; fail if a digit differs",
    )
    group.add_argument(
        "--position-noise",
        metavar="M,...",
        help="with --regime frozen: compare standard deviations (metres) of noise on each "
        "axis of training positions, as in 0,2,5,10",
    )


def check(parser: ArgumentParser, options: Namespace) -> None:
    """Refuse options that do not go together."""
    if options.position_noise and options.regime != "frozen":
        parser.error("--position-noise needs --regime frozen")
    if options.tries and options.regime != "frozen":
        parser.error("--tries needs --regime frozen")
    if options.repeat and not options.regime:
        parser.error("--repeat needs --regime")
    if options.regime and options.search_ours:
        parser.error("give --regime or --search-ours, not both")
    try:
        for names in (options.losses, options.repeat):
            if names and (options.regime or options.search_ours):
                rows_named(names)
    except ValueError as error:
        parser.error(str(error))


@dataclass(frozen=True)
class Output:
    """How a result is shown: the options of the benchmark, and its arguments."""

    options: Namespace
    argv: Sequence[str]

    def report(
        self,
        result: str,
        what: str,
        regime: Regime,
        jobs: Sequence[Job],
        body: str,
        method: str = _METHOD,
    ) -> None:
        """Print a result and, with ``--save``, write it."""
        common.report(
            "localization.py",
            f"Losses compared {what}.",
            f"{budget(jobs, regime)}\n\n{body}",
            options=self.options,
            argv=_reproducible(self.argv),
            method=method,
            result=result,
        )


def _reproducible(argv: Sequence[str]) -> list[str]:
    """Return the arguments that a result depends on."""
    words, kept = iter(argv), []
    for word in words:
        if word in _WHERE_AND_WHEN:
            next(words, None)
        elif not word.startswith(tuple(f"{name}=" for name in _WHERE_AND_WHEN)):
            kept.append(word)
    return kept


def main(options: Namespace, more: Sequence[str], argv: Sequence[str]) -> int:
    """Do what the options ask for; return 1 if a repeated run differs."""
    torch.set_num_threads(1)  # the budget is that of one core
    comparison = Comparison(
        folder=options.runs,
        rows=tuple(rows_named(options.losses)) if options.losses else ROWS,
        max_steps=options.max_steps,
        extra=tuple(more),
        noise_m=0.0,
        deadline=time.monotonic() + 60 * options.minutes,
        registry=Registry.discover(),
    )
    output = Output(options, argv)
    try:
        if options.search_ours:
            body, jobs = variants.report(comparison, variants.VARIANTS)
            what = "within the family of the proposed one"
            output.report("regime_ours", what, REGIMES["frozen"], jobs, body)
            return 0
        regime = REGIMES[options.regime]
        for name in ("towns", "seeds"):
            if given := getattr(options, name):
                regime = replace(regime, **{name: tuple(map(int, given.split(",")))})
        if options.repeat:
            return _repeat(comparison, regime, options.repeat)
        if options.tries:
            _show_tries(comparison, output)
        elif options.position_noise:
            levels_m = tuple(map(float, options.position_noise.split(",")))
            _measure_noise(comparison, regime, levels_m, output)
        else:
            _compare(comparison, regime, output)
    except OutOfTimeError:
        print(
            f"not finished after {options.minutes:g} minutes: give the same command to "
            f"continue from {options.runs}; there is no table before all runs are done"
        )
    return 0


def quick(options: Namespace, argv: Sequence[str]) -> None:
    """Go through all regimes, with few rows and steps on a short route."""
    folder = options.runs / "quick"
    shutil.rmtree(folder, ignore_errors=True)
    torch.set_num_threads(1)
    comparison = Comparison(
        folder=folder,
        rows=tuple(rows_named(_QUICK_ROWS)),
        max_steps=4,
        extra=QUICK_TOWN,
        noise_m=0.0,
        deadline=time.monotonic() + 600,
        registry=Registry.discover(),
    )
    for name in ("frozen", "tuned", "scratch"):
        regime = replace(REGIMES[name], towns=(0,), seeds=(0,))
        if regime.num_rows is not None:
            regime = replace(regime, num_rows=2)
        _compare(comparison, regime, Output(options, argv))


def _compare(comparison: Comparison, regime: Regime, output: Output) -> None:
    """Do and show the comparison in a regime.

    Raises:
        OutOfTimeError: It is not finished.
    """
    settings = search(comparison)
    rows = comparison.rows
    if regime.num_rows is not None:
        frozen = replace(REGIMES["frozen"], towns=regime.towns, seeds=regime.seeds)
        rows = tuple(best_rows(comparison, frozen, regime.num_rows))
        if PROPOSED in comparison.rows and PROPOSED not in rows:
            rows = (*rows, PROPOSED)  # the others are compared with it
    jobs = jobs_of(comparison, regime, rows, settings)
    comparison.do(jobs, regime)
    table = Table.of(regime, results_of(jobs), off_the_shelf(comparison, regime), settings)
    result, body = f"regime_{regime.name}", markdown(table)
    if regime.name == "frozen":
        body += f"\n\n{search_markdown(comparison)}"
    if output.options.save:
        draw(table, common.RESULTS / f"{result}.png")
        body += f"\n\n![differences from the proposed loss]({result}.png)"
    towns, seeds = (", ".join(map(str, numbers)) for numbers in (regime.towns, regime.seeds))
    what = f"in the regime {regime.name}: {regime.summary}; towns {towns}; seeds {seeds}"
    output.report(result, what, regime, jobs, f"{_missing(regime)}{body}")


def _show_tries(comparison: Comparison, output: Output) -> None:
    """Do and show the search of each loss's settings.

    Raises:
        OutOfTimeError: It is not finished.
    """
    frozen = REGIMES["frozen"]
    shelf = off_the_shelf(comparison, replace(frozen, towns=(SEARCH_TOWN,)))[SEARCH_TOWN]
    area = 100 * shelf.evaluations[VALIDATION].area(AREA_LIMIT_M)
    body = (
        f"{search_markdown(comparison)}\n\nOff the shelf: {area:.1f}. One seed, one town: "
        "these tries choose settings, they do not rank losses."
    )
    jobs = [job for row in comparison.rows for job in search_jobs(comparison, row)]
    what = "by the tries that choose their settings, in the regime frozen"
    method = "one thread; one run per try; embeddings are not whitened"
    output.report("regime_search", what, frozen, jobs, body, method)


def _missing(regime: Regime) -> str:
    """Return a paragraph on what of the planned regime a table does not have."""
    planned, parts = REGIMES[regime.name], []
    for name in ("towns", "seeds"):
        left_out = sorted({*getattr(planned, name)} - {*getattr(regime, name)})
        if left_out:
            parts.append(f"{name} {', '.join(map(str, left_out))}")
    if not parts:
        return ""
    one = " Intervals and p-values are those of this town alone." * (len(regime.towns) == 1)
    return f"**Not done yet**: {'; '.join(parts)}.{one}\n\n"


def _repeat(comparison: Comparison, regime: Regime, name: str) -> int:
    """Repeat the first run of a row; return 1 if a digit differs."""
    (row,) = rows_named(name)
    setting = search(comparison)[row.name]
    job = comparison.job(regime, row, setting, regime.towns[0], regime.seeds[0])
    found = repeat(comparison, regime, [job])
    for line in found:
        print(f"differs: {line}")
    if not found:
        print(f"{name}: the same to the last digit")
    return 1 if found else 0


def _measure_noise(
    comparison: Comparison, regime: Regime, levels_m: Sequence[float], output: Output
) -> None:
    """Do and show the comparison at several levels of noise.

    Raises:
        OutOfTimeError: It is not finished.
    """
    found, jobs = noise.measured(comparison, regime, search(comparison), levels_m)
    what = "with noise on training positions, frozen backbone"
    method = (
        "one thread; means over towns and seeds; embeddings are not whitened; settings as in "
        "the regime frozen, chosen without noise; one draw of noise per seed, the same for all "
        "losses"
    )
    body = noise.markdown(found, levels_m)
    output.report("regime_frozen_noise", what, regime, jobs, body, method)
