"""Sweeps as pictures (the supplement's figures 1 and 2) and as a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcore.evaluation.measures import summaries
from mlcore.evaluation.results import Evaluation
from mlcore.evaluation.sweeps import mean_accuracy, mean_upper_bound
from mlcore.reporting.figures.canvas import save_figure
from mlcore.reporting.figures.curves import (
    BOUND_COLOUR,
    COLOURS,
    grid_figure,
    plain_axes,
    shared_legend,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.table import Table

MEAN = "mean of the conditions"
_MARKERS = "osD^vP"


def save_dimensions(results: Sequence[Evaluation], path: Path, *, threshold_m: float) -> None:
    """Draw accuracy against the embedding dimension (figure 1) to a PNG.

    Args:
        results: Results of any number of models, all at one spacing.
        path: The file to write.
        threshold_m: The threshold of top-1 accuracy.
    """
    first = results[0].protocol
    title = (
        f"Accuracy within {threshold_m:g} m by embedding dimension, "
        f"{first.num_references} references"
    )
    figure = _figure(
        results,
        title=title,
        threshold_m=threshold_m,
        value=attrgetter("dimensions"),
        label="dimensions after PCA whitening",
    )
    for panel in figure.axes:
        _powers_of_two(panel, {one.dimensions for one in results})
    save_figure(figure, path)


def save_spacings(results: Sequence[Evaluation], path: Path, *, threshold_m: float) -> None:
    """Draw accuracy against the spacing of references (figure 2) to a PNG.

    Args:
        results: Results of any number of models, each at one dimension.
        path: The file to write.
        threshold_m: The threshold of top-1 accuracy.
    """
    sizes = sorted({one.dimensions for one in results})
    title = (
        f"Accuracy within {threshold_m:g} m by spacing of references, "
        f"{' or '.join(map(str, sizes))} dimensions"
    )
    figure = _figure(
        results,
        title=title,
        threshold_m=threshold_m,
        value=attrgetter("protocol.spacing_m"),
        label="least distance between references (m); 0: all",
    )
    save_figure(figure, path)


def sweep_table(results: Sequence[Evaluation], *, threshold_m: float) -> Table:
    """Return one row per setting: top-1 accuracy in percent per condition, and the mean."""
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"Top-1 localization accuracy (%) within {threshold_m:g} m on "
        f"{results[0].protocol.split}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    conditions = results[0].present_conditions
    table.add_column("model")
    for name in ("spacing (m)", "references", "dimensions", *conditions, "mean", "upper bound"):
        table.add_column(name, justify="right")
    for place, one in enumerate(results):
        shares = [one.accuracy(threshold_m, name) for name in conditions]
        shares += [mean_accuracy(one, threshold_m), mean_upper_bound(one, threshold_m)]
        following = results[place + 1] if place + 1 < len(results) else None
        table.add_row(
            one.model,
            f"{one.protocol.spacing_m:g}",
            str(one.protocol.num_references),
            str(one.dimensions),
            *[f"{100 * share:.1f}" for share in shares],
            end_section=following is not None and following.model != one.model,
        )
    return table


def sweep_document(results: Sequence[Evaluation], *, threshold_m: float) -> dict[str, Any]:
    """Return a sweep for JSON: one row per setting, with every measure of each condition."""
    return {
        "format": 1,
        "threshold_m": threshold_m,
        "rows": [
            {
                "model": one.model,
                "split": one.protocol.split,
                "data_fingerprint": one.protocol.data_fingerprint,
                "dimensions": one.dimensions,
                "spacing_m": one.protocol.spacing_m,
                "num_references": one.protocol.num_references,
                "whitening": one.whitening,
                "whitening_images": one.whitening_images,
                "mean_accuracy": mean_accuracy(one, threshold_m),
                "mean_upper_bound": mean_upper_bound(one, threshold_m),
                **summaries(one),
            }
            for one in results
        ],
    }


def _figure(
    results: Sequence[Evaluation],
    *,
    title: str,
    threshold_m: float,
    value: Callable[[Evaluation], float],
    label: str,
) -> Figure:
    conditions = results[0].present_conditions
    sections = (*conditions, None) if len(conditions) > 1 else conditions
    figure, panels = grid_figure(len(sections), title=title)
    models = list(dict.fromkeys(one.model for one in results))
    for panel, condition in zip(panels, sections, strict=True):
        for place, model in enumerate(reversed(models)):
            mine = sorted((one for one in results if one.model == model), key=value)
            panel.plot(
                [value(one) for one in mine],
                [100 * _accuracy(one, threshold_m, condition) for one in mine],
                color=COLOURS[place % len(COLOURS)],
                marker=_MARKERS[place % len(_MARKERS)],
                ms=4,
                lw=2.4 if place == 0 else 1.6,
                zorder=3 if place == 0 else 2,
                label=model,
            )
        _draw_bound(panel, results, threshold_m, condition, value)
        plain_axes(panel, condition or MEAN, label)
    shared_legend(figure, panels)
    return figure


def _draw_bound(
    panel: Axes,
    results: Sequence[Evaluation],
    threshold_m: float,
    condition: str | None,
    value: Callable[[Evaluation], float],
) -> None:
    bounds = {value(one): _bound(one, threshold_m, condition) for one in results}
    places = sorted(bounds)
    panel.plot(
        places,
        [100 * bounds[place] for place in places],
        color=BOUND_COLOUR,
        lw=1.2,
        ls=(0, (4, 2)),
        label="upper bound",
    )


def _accuracy(one: Evaluation, threshold_m: float, condition: str | None) -> float:
    if condition is None:
        return mean_accuracy(one, threshold_m)
    return one.accuracy(threshold_m, condition)


def _bound(one: Evaluation, threshold_m: float, condition: str | None) -> float:
    if condition is None:
        return mean_upper_bound(one, threshold_m)
    return one.upper_bound(threshold_m, condition)


def _powers_of_two(panel: Axes, sizes: set[int]) -> None:
    panel.set_xscale("log", base=2)
    # Of two that would be written over each other, the larger gets a tick.
    ticks = [
        one for one in sorted(sizes) if not any(one < other < 1.3 * one for other in sizes)
    ]
    panel.set_xticks(ticks, [str(size) for size in ticks], fontsize="small")
    panel.set_xticks([], minor=True)
