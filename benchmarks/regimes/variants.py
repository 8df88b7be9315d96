"""The search in the family of the proposed loss, and its test on towns it has not seen.

At most 200 runs on validation of towns 1 to 3, frozen backbone, one seed, the learning rate
that the comparison chose for the proposed loss. The best three then run once on the test of
towns 4 to 8, beside the paper's constants and the best other loss of the comparison's search.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from benchmarks import _common as common
from benchmarks.regimes.plan import (
    AREA_LIMIT_M,
    VALIDATION,
    Comparison,
    best,
    off_the_shelf,
    results_of,
    search_areas,
)
from benchmarks.regimes.research import Change, Cutoffs, Spread
from benchmarks.regimes.rows import BY_NAME, PROPOSED, REGIMES, Row, Setting
from benchmarks.regimes.runs import AdaptLoss, Job
from benchmarks.regimes.statistics import AREA
from benchmarks.regimes.tables import Table, markdown, versus

SEARCH_TOWNS = (1, 2, 3)
TEST_TOWNS = (4, 5, 6, 7, 8)
MOST_RUNS = 200
NUM_TESTED = 3


@dataclass(frozen=True)
class Variant:
    """One member of the family.

    Attributes:
        name: What differs from the paper's constants.
        words: Options that say it.
        adapt: A change that is no option.
    """

    name: str
    words: tuple[str, ...] = ()
    adapt: AdaptLoss | None = None

    @property
    def row(self) -> Row:
        """The row of a table: it has no constant to choose."""
        return Row(self.name, ("--loss", "proposed", *self.words), "", ("",))


def _options(**values: str) -> Variant:
    """Return a variant by options; ``cutoff_m`` and the like are those of the influence."""
    of_influence = ("cutoff_m", "steepness_per_m", "support_limit_m")
    words: list[str] = []
    for name, value in values.items():
        if name == "influence":
            words += ["--influence", value]
        else:
            section = "influence" if name in of_influence else "loss"
            words += [f"--{section}.{name}", value]
    return Variant(" ".join(f"{name} {value}" for name, value in values.items()), tuple(words))


_BASE = "0.8"
"""Lambda of the variants that change something else."""


def _grid(name: str, *values: str) -> list[Variant]:
    return [_options(base=_BASE, **{name: value}) for value in values]


PAPER = Variant("paper")

VARIANTS = (
    PAPER,
    *(_options(base=value) for value in ("0.5", "0.6", "0.7", "0.8", "0.9")),
    *_grid("alpha", "0.5", "1", "4", "8"),
    *_grid("beta", "5", "10", "20", "100"),
    *_grid("influence", "linear", "tanh", "step", "field-of-view"),
    *_grid("cutoff_m", "5", "10", "20", "25"),
    *_grid("steepness_per_m", "0.2", "0.4", "1.6"),
    *_grid("support_limit_m", "15", "20", "30", "50"),
    *_grid("mining", "false"),
    *_grid("epsilon", "0.05", "0.2"),
    _options(aggregation="plain"),  # without exponents it has no lambda
    *(
        _options(base=base, alpha=alpha, beta=beta)
        for base in ("0.7", "0.8")
        for alpha in ("1", "4")
        for beta in ("10", "20")
    ),
    *(
        Variant(
            f"spread lambda +{above:g} sd, beta {sharpness:g} over sd",
            adapt=Change(spread=Spread(above, sharpness)),
        )
        for above in (0.0, 1.0, 2.0)
        for sharpness in (2.5, 5.0, 10.0)
    ),
    *(
        Variant(f"divided base {base}", ("--loss.base", base), Change(divides=True))
        for base in ("0.6", "0.8", "1.0")
    ),
    *(
        Variant(
            f"divided spread lambda +{above:g} sd, beta 5 over sd",
            adapt=Change(Spread(above, 5.0), divides=True),
        )
        for above in (0.0, 1.0, 2.0)
    ),
    *(
        Variant(
            f"cutoff from {first_m} to {last_m} m, base {_BASE}",
            ("--loss.base", _BASE),
            Change(cutoffs=Cutoffs(first_m, last_m, REGIMES["frozen"].max_steps)),
        )
        for first_m, last_m in ((25, 15), (50, 15), (25, 5))
    ),
)
assert len(VARIANTS) * len(SEARCH_TOWNS) <= MOST_RUNS


def searched(
    comparison: Comparison, variants: Sequence[Variant], learning_rate: str
) -> dict[str, list[float]]:
    """Return the area to 25 m of each variant on validation, by town; -1 if it diverged.

    Raises:
        OutOfTimeError: It is not finished.
    """
    jobs = [
        replace(
            _job(comparison, "ours-search", variant, learning_rate, town, 0),
            splits=("validation",),
        )
        for town in SEARCH_TOWNS
        for variant in variants
    ]
    areas: dict[str, list[float]] = {variant.name: [] for variant in variants}
    for job, result in zip(jobs, comparison.do(jobs, REGIMES["frozen"]), strict=True):
        found = result.evaluations.get(VALIDATION)
        areas[job.row].append(-1.0 if found is None else found.area(AREA_LIMIT_M))
    return areas


def _job(
    comparison: Comparison, folder: str, variant: Variant, rate: str, town: int, seed: int
) -> Job:
    frozen = REGIMES["frozen"]
    job = comparison.job(frozen, variant.row, Setting(rate, ""), town, seed)
    return replace(
        job,
        path=comparison.folder / folder / variant.name / job.path.name,
        adapt=variant.adapt,
    )


def report(comparison: Comparison, variants: Sequence[Variant]) -> tuple[str, list[Job]]:
    """Search and test the best; return both tables, and the runs of the test.

    Raises:
        OutOfTimeError: It is not finished.
    """
    tries = search_areas(comparison)
    settings = {name: best(found) for name, found in tries.items()}
    rate = settings[PROPOSED.name].learning_rate
    areas = searched(comparison, variants, rate)
    ranked = sorted(areas, key=lambda name: -float(np.mean(areas[name])))
    by_name = {variant.name: variant for variant in variants}
    first = [by_name[name] for name in ranked[:NUM_TESTED]]
    stock = max(
        (name for name in tries if not name.startswith(PROPOSED.name)),
        key=lambda name: max(tries[name].values()),
    )
    table, jobs = _test(comparison, first, rate, BY_NAME[stock], settings[stock])
    rows = [
        [
            name,
            *(f"{100 * area:.1f}" for area in areas[name]),
            f"{100 * np.mean(areas[name]):.1f}",
        ]
        for name in ranked
    ]
    beyond = table.differences(AREA, stock)
    decision = common.markdown_table(
        ("variant", "area less its [95 %]", "p (Holm)"),
        [[one.name, *versus(beyond.get(one.name))] for one in first],
    )
    heading = ["variant", *(f"town {town}" for town in SEARCH_TOWNS), "mean"]
    body = (
        f"## Test, towns {TEST_TOWNS[0]} to {TEST_TOWNS[-1]}\n\n"
        "`proposed` has the paper's constants; the next three rows by validation are "
        f"{', '.join(f'`{one.name}`' for one in first)}; `{stock}` was the best other loss on "
        f"validation of town 1.\n\n{markdown(table)}\n\n"
        f"Does a variant beat `{stock}`?\n\n{decision}\n\n"
        f"## Search: area to 25 m on validation (%), learning rate {rate}\n\n"
        f"{common.markdown_table(heading, rows)}"
    )
    return body, jobs


def _test(
    comparison: Comparison, first: Sequence[Variant], rate: str, stock: Row, setting: Setting
) -> tuple[Table, list[Job]]:
    """Return the results of variants on towns that the search did not see, and the runs."""
    regime = replace(REGIMES["frozen"], towns=TEST_TOWNS)
    ours = [Variant(PROPOSED.name), *(one for one in first if one != PAPER)]
    jobs = []
    for town in regime.towns:
        for seed in regime.seeds:
            jobs += [_job(comparison, "ours-test", one, rate, town, seed) for one in ours]
            job = comparison.job(regime, stock, setting, town, seed)
            jobs.append(
                replace(job, path=comparison.folder / "ours-test" / stock.name / job.path.name)
            )
    comparison.do(jobs, regime)
    settings: Mapping[str, Setting] = {
        **{one.name: Setting(rate, "") for one in ours},
        stock.name: setting,
    }
    shelf = off_the_shelf(comparison, regime)
    return Table.of(regime, results_of(jobs), shelf, settings), jobs
