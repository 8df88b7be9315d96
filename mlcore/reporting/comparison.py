"""A comparison as a table and as metres curves with bands."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlcore.evaluation.comparison import Entry, versus
from mlcore.evaluation.measures import Column, columns
from mlcore.evaluation.results import OVERALL
from mlcore.reporting.figures.canvas import save_figure
from mlcore.reporting.figures.curves import BOUND_COLOUR, COLOURS, panel_axes, panels_figure
from mlcore.reporting.tables import GRADED_TITLE, whitening_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.console import Group
    from rich.table import Table

_LINES = ("-", "--", ":", "-.")


def comparison_tables(entries: Sequence[Entry], reference: Entry) -> Group:
    """Return one row per entry: mean over seeds ± half a 95 % interval; shares in percent.

    Accuracy and the difference from the reference come first, then the graded measures.

    Raises:
        DataError: The protocols of the entries differ.
    """
    from rich.console import Group

    evaluated = [one for entry in entries for one in entry.evaluations.values()]
    protocol = evaluated[0].protocol if evaluated else None
    title = "No run has finished"
    if protocol:
        title = (
            f"Top-1 localization accuracy (%) of all {protocol.num_queries} queries on "
            f"{protocol.split}, {protocol.num_references} references, "
            f"{whitening_text(evaluated)}"
        )
    shown = columns(protocol, "accuracy") if protocol else []
    accuracy = _table(title, ["learning rate", "seeds"], shown)
    accuracy.add_column(f"area against {reference.name} [95 %]", justify="right")
    accuracy.add_column("queries won / lost", justify="right")
    for entry in entries:
        cells = [_cell(column, entry) for column in shown]
        rate = "" if entry.learning_rate is None else f"{entry.learning_rate:g}"
        against = _against(entry, reference)
        accuracy.add_row(entry.name, rate, _seeds(entry), *cells, *against)
    if protocol is None:
        return Group(accuracy)
    shown = columns(protocol, "graded")
    graded = _table(GRADED_TITLE, [], shown)
    for entry in entries:
        graded.add_row(entry.name, *[_cell(column, entry) for column in shown])
    return Group(accuracy, graded)


def _table(title: str, numbers: Sequence[str], shown: Sequence[Column]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("loss")
    for heading in (*numbers, *(column.heading for column in shown)):
        table.add_column(heading, justify="right")
    return table


def _seeds(entry: Entry) -> str:
    failed = f", {len(entry.failures)} diverged" if entry.failures else ""
    return f"{len(entry.evaluations)}{failed}"


def _against(entry: Entry, reference: Entry) -> tuple[str, str]:
    result = None if entry is reference else versus(entry, reference)
    if result is None:
        return "", ""
    area = result.area
    assert area.low is not None
    assert area.high is not None
    return (
        f"{100 * area.mean:+.1f} [{100 * area.low:+.1f}, {100 * area.high:+.1f}]",
        f"{100 * result.wins:.0f} / {100 * result.losses:.0f}",
    )


def _cell(column: Column, entry: Entry) -> str:
    if not entry.evaluations:
        return "diverged"
    value = entry.over_seeds(column.value)
    if value is None:
        return ""
    if value.high is None:
        return column.text(value.mean)
    return f"{column.text(value.mean)} ± {column.text(value.high - value.mean)}"


def save_comparison(entries: Sequence[Entry], path: Path) -> None:
    """Draw the metres curves to a PNG: mean over seeds, in a band from minimum to maximum.

    Raises:
        DataError: The entries were evaluated by different protocols.
    """
    evaluated = [one for entry in entries for one in entry.evaluations.values()]
    if not evaluated:
        return
    figure, panels = panels_figure(evaluated, title="")
    for panel, condition in panels:
        for place, entry in enumerate(entry for entry in entries if entry.evaluations):
            _draw(panel, entry, condition, place)
        first = evaluated[0].curve(condition)
        bound = 100 * first.upper_bound
        panel.plot(first.threshold_m, bound, color=BOUND_COLOUR, lw=1.0, label="upper bound")
        panel_axes(
            panel, f"{condition or OVERALL} ({evaluated[0].num_queries(condition)} queries)"
        )
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    save_figure(figure, path)


def _draw(panel: Axes, entry: Entry, condition: str | None, place: int) -> None:
    curves = [one.curve(condition) for one in entry.evaluations.values()]
    accuracy = 100 * np.stack([curve.accuracy for curve in curves])
    colour = COLOURS[place % len(COLOURS)]
    line = _LINES[place // len(COLOURS) % len(_LINES)]
    threshold_m = curves[0].threshold_m
    panel.fill_between(
        threshold_m, accuracy.min(axis=0), accuracy.max(axis=0), color=colour, alpha=0.15, lw=0
    )
    panel.plot(threshold_m, accuracy.mean(axis=0), line, color=colour, lw=1.6, label=entry.name)
