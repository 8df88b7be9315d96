"""Tables and the figure of one regime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks import _common as common
from benchmarks.regimes.plan import (
    AREA_LIMIT_M,
    OFF_THE_SHELF,
    Comparison,
    Runs,
    best,
    search_areas,
)
from benchmarks.regimes.rows import (
    BY_NAME,
    LEARNING_RATES,
    PROPOSED,
    SEARCH_TOWN,
    Regime,
    Setting,
)
from benchmarks.regimes.runs import PLAIN, WHITENED, Result
from benchmarks.regimes.statistics import AREA, ORDER, Difference, Quantity, against
from mlcore.evaluation.measures import Column, columns
from mlcore.evaluation.results import Evaluation

Evaluations = list[list[Evaluation]]
"""By town and seed."""


@dataclass(frozen=True)
class Table:
    """The results of a regime.

    Attributes:
        regime: The regime.
        rows: Evaluations on test of each row, without whitening; those that diverged are not
            there.
        whitened: Likewise, whitened.
        settings: The setting of each trained row.
        diverged: Names of rows of which a run diverged.
    """

    regime: Regime
    rows: Mapping[str, Evaluations]
    whitened: Mapping[str, Evaluations]
    settings: Mapping[str, Setting]
    diverged: Sequence[str]

    @classmethod
    def of(
        cls,
        regime: Regime,
        runs: Runs,
        off_the_shelf: Mapping[int, Result],
        settings: Mapping[str, Setting],
    ) -> Table:
        """Return the table of complete rows."""
        found = {
            name: [[results[town, seed] for seed in regime.seeds] for town in regime.towns]
            for name, results in runs.items()
        }
        diverged = [
            name
            for name, towns in found.items()
            if any(result.failure for town in towns for result in town)
        ]
        found = {name: towns for name, towns in found.items() if name not in diverged}
        found[OFF_THE_SHELF] = [[off_the_shelf[town]] for town in regime.towns]

        def evaluations(kind: str) -> dict[str, Evaluations]:
            return {
                name: [[one.evaluations["test", kind] for one in town] for town in towns]
                for name, towns in found.items()
            }

        return cls(regime, evaluations(PLAIN), evaluations(WHITENED), settings, diverged)

    def differences(
        self, quantity: Quantity, reference: str = PROPOSED.name
    ) -> dict[str, Difference]:
        """Return each other row's difference from the proposed loss, or from another row."""
        if reference not in self.rows:
            return {}
        names = [name for name in self.rows if name != reference]
        others = [self.rows[name] for name in names]
        found = against(self.rows[reference], others, quantity)
        return dict(zip(names, found, strict=True))


def mean(evaluations: Evaluations, value: Callable[[Evaluation], float | None]) -> float:
    """Return the mean over towns of the mean over seeds."""
    by_town = [[value(one) for one in town] for town in evaluations]
    return float(np.mean([np.mean([v for v in town if v is not None]) for town in by_town]))


def markdown(table: Table) -> str:
    """Return the tables of a regime: accuracy, graded measures, area by town."""
    protocol = table.rows[OFF_THE_SHELF][0][0].protocol
    accuracy, graded = columns(protocol, "accuracy"), columns(protocol, "graded")
    names = sorted(table.rows, key=lambda name: -mean(table.rows[name], _area))
    area, order = table.differences(AREA), table.differences(ORDER)
    parts = [
        "## Accuracy (%)",
        common.markdown_table(
            [
                "loss",
                "learning rate",
                "constant",
                *(column.heading for column in accuracy),
                f"{AREA.name}, whitened",
                f"{AREA.name} less the proposed loss's [95 %]",
                "p (Holm)",
            ],
            [
                [
                    _shown(name),
                    *_setting(name, table.settings),
                    *(_cell(column, table.rows[name]) for column in accuracy),
                    f"{100 * mean(table.whitened[name], _area):.1f}",
                    *versus(area.get(name)),
                ]
                for name in names
            ],
        ),
        "## Graded measures (%)",
        common.markdown_table(
            [
                "loss",
                *(column.heading for column in graded),
                f"{ORDER.name} less the proposed loss's [95 %]",
                "p (Holm)",
            ],
            [
                [
                    _shown(name),
                    *(_cell(column, table.rows[name]) for column in graded),
                    *versus(order.get(name)),
                ]
                for name in names
            ],
        ),
        f"## {AREA.name[0].upper()}{AREA.name[1:]} by town (%)",
        common.markdown_table(
            ["loss", *(f"town {town}" for town in table.regime.towns)],
            [
                [_shown(name), *(f"{100 * mean([t], _area):.1f}" for t in table.rows[name])]
                for name in names
            ],
        ),
    ]
    if table.diverged:
        parts.append(f"Diverged, and not compared: {', '.join(table.diverged)}.")
    parts.append("(g): a graded loss.")
    return "\n\n".join(parts)


def _area(evaluation: Evaluation) -> float:
    return evaluation.area(evaluation.protocol.area_limit_m)


def _shown(name: str) -> str:
    return f"{name} (g)" if _is_graded(name) else name


def _is_graded(name: str) -> bool:
    return name in BY_NAME and BY_NAME[name].graded


def _setting(name: str, settings: Mapping[str, Setting]) -> tuple[str, str]:
    if name not in settings:
        return "", ""
    setting, row = settings[name], BY_NAME.get(name)
    if row is None or not setting.value:
        return setting.learning_rate, ""
    option = row.constant.removeprefix("loss.")
    return setting.learning_rate, f"{option} {setting.value}"


def _cell(column: Column, evaluations: Evaluations) -> str:
    return column.text(mean(evaluations, column.value))


def versus(difference: Difference | None) -> tuple[str, str]:
    """Return a difference with its interval in points, and p."""
    if difference is None:
        return "", ""
    shown, low, high = (100 * value for value in difference[:3])
    return f"{shown:+.1f} [{low:+.1f}, {high:+.1f}]", f"{difference.p:.3f}"


def search_markdown(comparison: Comparison) -> str:
    """Return the table of all tries of the search, the best of each row in bold."""
    found = search_areas(comparison)
    lines = []
    for row in comparison.rows:
        areas = found[row.name]
        for rate in LEARNING_RATES:
            cells = []
            for value in row.values:
                setting = Setting(rate, value)
                bold = "**" if setting == best(areas) else ""
                cells.append(f"{value}: {bold}{100 * areas[setting]:.1f}{bold}")
            lines.append([_shown(row.name), row.constant, rate, *cells])
    heading = ["loss", "constant", "learning rate", "default", "other value"]
    title = f"## Search: area to {AREA_LIMIT_M:g} m on validation of town {SEARCH_TOWN} (%)"
    return f"{title}\n\n{common.markdown_table(heading, lines)}"


def draw(table: Table, path: Path) -> None:
    """Draw the differences from the proposed loss, with their intervals."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    area = table.differences(AREA)
    names = sorted(area, key=lambda name: area[name].mean)
    figure = Figure(figsize=(10, 1.6 + 0.24 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2, sharey=True)
    for panel, quantity in zip(panels, (AREA, ORDER), strict=True):
        found = table.differences(quantity)
        for place, name in enumerate(names):
            low, high = 100 * found[name].low, 100 * found[name].high
            colour = _colour(name)
            panel.plot([low, high], [place, place], color=colour, lw=1.6)
            panel.plot(100 * found[name].mean, place, "o", color=colour, ms=4.5)
        panel.axvline(0, color="0.3", lw=1)
        panel.grid(axis="x", color="0.9", lw=0.8)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.set_title(quantity.name, fontsize="medium")
        panel.set_xlabel("points above the proposed loss", fontsize="small")
    panels[0].set_yticks(range(len(names)), [_shown(name) for name in names], fontsize="small")
    panels[1].tick_params(left=False)
    towns, seeds = (
        ", ".join(map(str, numbers)) for numbers in (table.regime.towns, table.regime.seeds)
    )
    figure.suptitle(
        f"{table.regime.name}: towns {towns}; seeds {seeds}; 95 % intervals", fontweight="bold"
    )
    figure.savefig(path, dpi=110)


def _colour(name: str) -> str:
    if name == OFF_THE_SHELF:
        return "0.5"
    return "#c4542d" if _is_graded(name) else "#2d6ca2"
