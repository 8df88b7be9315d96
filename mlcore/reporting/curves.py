"""The metres curve: top-1 localization accuracy against the threshold, as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.files import atomic_write
from mlcore.results import CURVE_LIMIT_M, OVERALL, Evaluation, require_same_protocol

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers; the last model comes first.
COLOURS = ("#0072B2", "#E69F00", "#CC79A7", "#009E73", "#D55E00", "#56B4E9", "#000000")
BOUND_COLOUR = "#7A7A7A"


def save_curves(evaluations: Sequence[Evaluation], path: Path, *, title: str = "") -> None:
    """Draw the metres curve of one or several models to a PNG.

    One panel for each query condition and one for all, a line for each model, and the upper
    bound: the share of queries that have any reference so near. The last model of the
    list, as a rule the trained one, is drawn strongest.

    Args:
        evaluations: Models judged by one protocol.
        path: The file to write.
        title: Above the picture; says split and number of references if left out.

    Raises:
        DataError: The protocols differ.
    """
    figure = curves_figure(evaluations, title=title)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=150)


def curves_figure(evaluations: Sequence[Evaluation], *, title: str = "") -> Figure:
    """Return what :func:`save_curves` writes, as a figure without a window."""
    figure, panels = panels_figure(evaluations, title=title)
    for panel, condition in panels:
        _draw_condition(panel, evaluations, condition)
    handles, labels = panels[0][0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(labels), 2 * _num_columns(len(panels))),
        frameon=False,
    )
    return figure


def panels_figure(
    evaluations: Sequence[Evaluation], *, title: str
) -> tuple[Figure, list[tuple[Axes, str | None]]]:
    """Return a figure with an empty panel for each condition and one for all queries.

    Raises:
        DataError: The protocols differ.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    require_same_protocol(evaluations)
    protocol = evaluations[0].protocol
    conditions = evaluations[0].sections
    num_columns = _num_columns(len(conditions))
    num_rows = math.ceil(len(conditions) / num_columns)
    figure = Figure(
        figsize=(1.0 + 3.2 * num_columns, 1.5 + 2.7 * num_rows), layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(num_rows, num_columns, squeeze=False, sharey=True).flat)
    for panel in panels[len(conditions) :]:
        panel.set_visible(False)
    figure.suptitle(
        title or f"Localization on {protocol.split}, {protocol.num_references} references",
        fontweight="bold",
    )
    figure.supylabel("queries localized (%)", fontsize="medium")
    return figure, list(zip(panels, conditions, strict=False))


def panel_axes(panel: Axes, title: str) -> None:
    """Give a panel its title, axes and grid."""
    panel.set_title(title, fontsize="medium")
    panel.set_xlabel("threshold on geometric distance (m)", fontsize="small")
    panel.set(xlim=(0, CURVE_LIMIT_M), ylim=(0, 101))
    panel.set_xticks(range(0, int(CURVE_LIMIT_M) + 1, 5))
    panel.grid(visible=True, color="0.9", lw=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _num_columns(num_panels: int) -> int:
    """Return the number of columns, at most three, that leaves the fewest panels empty."""
    return (
        min((3, 2), key=lambda columns: -num_panels % columns) if num_panels > 3 else num_panels
    )


def _draw_condition(
    panel: Axes, evaluations: Sequence[Evaluation], condition: str | None
) -> None:
    first = evaluations[0].curve(condition)
    panel.fill_between(
        first.threshold_m, 100 * first.upper_bound, 100, color=BOUND_COLOUR, alpha=0.12, lw=0
    )
    for place, evaluation in enumerate(reversed(evaluations)):
        curve = evaluation.curve(condition)
        panel.plot(
            curve.threshold_m,
            100 * curve.accuracy,
            color=COLOURS[place % len(COLOURS)],
            lw=2.4 if place == 0 else 1.6,
            zorder=3 if place == 0 else 2,
            label=evaluation.model,
        )
    panel.plot(
        first.threshold_m,
        100 * first.upper_bound,
        color=BOUND_COLOUR,
        lw=1.2,
        ls=(0, (4, 2)),
        label="upper bound",
    )
    num_queries = evaluations[0].num_queries(condition)
    panel_axes(panel, f"{condition or OVERALL} ({num_queries} queries)")
