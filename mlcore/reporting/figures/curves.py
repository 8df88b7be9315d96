"""The metres curve: top-1 localization accuracy against the threshold, as a picture."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.evaluation.results import CURVE_LIMIT_M, OVERALL, Evaluation, require_same_protocol
from mlcore.reporting.figures.canvas import save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart by colour-blind readers; the last model comes first.
COLOURS = ("#0072B2", "#E69F00", "#CC79A7", "#009E73", "#D55E00", "#56B4E9", "#000000")
BOUND_COLOUR = "#7A7A7A"
LIMITS_M = (0.0, CURVE_LIMIT_M)
"""Range of thresholds of a metres curve."""
_TITLE_CHARACTERS_PER_INCH = 9


def save_curves(
    evaluations: Sequence[Evaluation],
    path: Path,
    *,
    title: str = "",
    limits_m: tuple[float, float] = LIMITS_M,
) -> None:
    """Draw the metres curve of one or several models to a PNG.

    One panel per query condition and one for all queries, with a line per model and the upper
    bound: the share of queries that have a reference within the threshold. The last model of
    the list, usually the trained one, is emphasized.

    Args:
        evaluations: Models evaluated by one protocol.
        path: The file to write.
        title: Title of the picture; by default, the split and the number of references.
        limits_m: Smallest and largest threshold.

    Raises:
        DataError: The protocols differ.
    """
    figure = curves_figure(evaluations, title=title, limits_m=limits_m)
    save_figure(figure, path)


def curves_figure(
    evaluations: Sequence[Evaluation],
    *,
    title: str = "",
    limits_m: tuple[float, float] = LIMITS_M,
) -> Figure:
    """Return the figure that :func:`save_curves` writes; no window is opened."""
    figure, panels = panels_figure(evaluations, title=title)
    for panel, condition in panels:
        _draw_condition(panel, evaluations, condition, limits_m)
    shared_legend(figure, [panel for panel, _ in panels])
    return figure


def shared_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """Put one legend for all panels, from the lines of the first, below them."""
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(labels), 2 * _num_columns(len(panels))),
        frameon=False,
    )


def panels_figure(
    evaluations: Sequence[Evaluation], *, title: str
) -> tuple[Figure, list[tuple[Axes, str | None]]]:
    """Return a figure with an empty panel for each condition and one for all queries.

    Raises:
        DataError: The protocols differ.
    """
    require_same_protocol(evaluations)
    protocol = evaluations[0].protocol
    conditions = evaluations[0].sections
    title = title or f"Localization on {protocol.split}, {protocol.num_references} references"
    figure, panels = grid_figure(len(conditions), title=title)
    return figure, list(zip(panels, conditions, strict=True))


def grid_figure(num_panels: int, *, title: str) -> tuple[Figure, list[Axes]]:
    """Return a figure without a window, with empty panels that share "queries localized"."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    num_columns = _num_columns(num_panels)
    num_rows = math.ceil(num_panels / num_columns)
    width_in = 1.0 + 3.2 * num_columns
    figure = Figure(figsize=(width_in, 1.5 + 2.7 * num_rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(num_rows, num_columns, squeeze=False, sharey=True).flat)
    for panel in panels[num_panels:]:
        panel.set_visible(False)
    lines = textwrap.fill(title, int(_TITLE_CHARACTERS_PER_INCH * width_in))
    figure.suptitle(lines, fontweight="bold", parse_math=False)
    figure.supylabel("queries localized (%)", fontsize="medium")
    return figure, panels[:num_panels]


def panel_axes(panel: Axes, title: str, *, limits_m: tuple[float, float] = LIMITS_M) -> None:
    """Give a panel of a metres curve its title, axes and grid."""
    plain_axes(panel, title, "threshold on geometric distance (m)")
    panel.set_xlim(limits_m)
    if limits_m == LIMITS_M:
        panel.set_xticks(range(0, int(CURVE_LIMIT_M) + 1, 5))


def plain_axes(panel: Axes, title: str, label: str) -> None:
    """Give a panel of percentages its title, the label of its x axis, and a grid."""
    panel.set_title(title, fontsize="medium", parse_math=False)
    panel.set_xlabel(label, fontsize="small")
    panel.set_ylim(0, 101)
    panel.grid(visible=True, color="0.9", lw=0.8)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)


def _num_columns(num_panels: int) -> int:
    """Return the number of columns, at most three, that leaves the fewest panels empty."""
    return (
        min((3, 2), key=lambda columns: -num_panels % columns) if num_panels > 3 else num_panels
    )


def _draw_condition(
    panel: Axes,
    evaluations: Sequence[Evaluation],
    condition: str | None,
    limits_m: tuple[float, float],
) -> None:
    first = evaluations[0].curve(condition, limits_m)
    panel.fill_between(
        first.threshold_m, 100 * first.upper_bound, 100, color=BOUND_COLOUR, alpha=0.12, lw=0
    )
    for place, evaluation in enumerate(reversed(evaluations)):
        curve = evaluation.curve(condition, limits_m)
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
    panel_axes(panel, f"{condition or OVERALL} ({num_queries} queries)", limits_m=limits_m)
