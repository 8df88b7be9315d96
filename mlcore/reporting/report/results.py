"""Tables and charts of a report: accuracy, comparison, training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from mlcore.evaluation.documents import protocol_from_json
from mlcore.evaluation.graded import ORDER_GAP_M
from mlcore.evaluation.measures import Column, Table, columns
from mlcore.evaluation.results import OVERALL, Evaluation, EvaluationProtocol
from mlcore.reporting.report.charts import Chart, ChartSection, Line, line_chart
from mlcore.reporting.report.content import ReportContent
from mlcore.reporting.report.thumbnails import data_uri
from mlcore.reporting.tables import GRADED_TITLE, UPPER_BOUND, result_rows, whitening_text
from mlcore.retrieval.embedder import evenly_spaced

_MOST_TRAINING_CHARTS = 12
_MOST_POINTS = 200
_TABLES: tuple[Table, ...] = ("accuracy", "graded")

Points = tuple[list[float], list[float]]


def tables(content: ReportContent) -> dict[str, Any]:
    """Return the tables of results, a section per condition."""
    protocol = content.results[-1].protocol
    apart = f" at least {protocol.spacing_m:g} m apart" if protocol.spacing_m else ""
    accuracy = (
        "Top-1 localization accuracy in %: the share of queries whose first retrieved "
        f"reference is nearer than the threshold. Split {protocol.split}, "
        f"{protocol.num_references} references{apart}, {whitening_text(content.results)}."
    )
    results = content.results
    return {
        "tables": [
            _table(results, "accuracy", accuracy),
            _table(results, "graded", f"{GRADED_TITLE} {_graded_text(protocol)}"),
        ],
        "other_tables": [
            _table(one, name, _other_caption(number, one[-1]), id=f"other-{number}-{name}")
            for number, one in enumerate(content.others, start=1)
            for name in _TABLES
        ],
    }


def _other_caption(number: int, one: Evaluation) -> str:
    protocol = one.protocol
    return (
        f"{number}. Split {protocol.split} of data {protocol.data_fingerprint}, "
        f"{protocol.num_queries} queries, {protocol.num_references} references; "
        f"whitening: {one.whitening}, {one.dimensions} dimensions."
    )


def _table(
    results: Sequence[Evaluation],
    name: Table,
    caption: str,
    *,
    id: str = "",  # noqa: A002
) -> dict[str, Any]:
    shown = results[-1]
    found = columns(shown.protocol, name)
    sections: list[dict[str, Any]] = []
    for row in result_rows(results, found):
        if not sections or sections[-1]["name"] != row.condition:
            sections.append(
                {
                    "name": row.condition,
                    "num_queries": row.num_queries,
                    "condition": _number(shown, row.condition),
                    "rows": [],
                }
            )
        cells = [column.text(value) for column, value in zip(found, row.values, strict=True)]
        is_bound = row.model == UPPER_BOUND
        sections[-1]["rows"].append({"model": row.model, "cells": cells, "is_bound": is_bound})
    headings = [column.heading for column in found]
    return {"id": id or name, "caption": caption, "columns": headings, "sections": sections}


def _graded_text(protocol: EvaluationProtocol) -> str:
    order = ""
    if protocol.graded is not None:
        order = (
            "Order: the share of pairs of references within so many metres of a query, at "
            f"least {ORDER_GAP_M:g} m apart in distance, of which the nearer one has the "
            "nearer embedding. "
        )
    return (
        f"{order}Nearest first: the first retrieved reference is the nearest. AP and R at "
        "100 % P: average precision, and recall without a wrong answer, over a threshold on "
        f"the embedding distance; correct within {protocol.recall_radius_m:g} m."
    )


def _number(shown: Evaluation, condition: str) -> int | None:
    present = shown.present_conditions
    return present.index(condition) if condition in present else None


def curves(content: ReportContent) -> ChartSection:
    """Return the charts of accuracy by threshold."""
    within_m = content.within_m

    def lines(one: Evaluation, condition: str | None) -> tuple[Points, str]:
        curve = one.curve(condition)
        points = curve.threshold_m.tolist(), (100 * curve.accuracy).tolist()
        return points, f"{one.model} {100 * one.accuracy(within_m, condition):.1f} %"

    def bound(one: Evaluation, condition: str | None) -> Points:
        curve = one.curve(condition)
        return curve.threshold_m.tolist(), (100 * curve.upper_bound).tolist()

    return _by_condition(
        content,
        lines,
        bound,
        id="curves",
        title="Accuracy by threshold",
        description=f"within {within_m:g} m",
        x_label="threshold on geometric distance (m)",
        y_label="queries localized (%)",
    )


def precision_recall(content: ReportContent) -> ChartSection:
    """Return precision over recall, by a threshold on the embedding distance."""

    def lines(one: Evaluation, condition: str | None) -> tuple[Points, str]:
        curve = one.precision_recall(condition)
        rows = evenly_spaced(len(curve.recall), _MOST_POINTS)
        points = (100 * curve.recall[rows]).tolist(), (100 * curve.precision[rows]).tolist()
        return points, f"{one.model} {100 * one.average_precision(condition):.1f} %"

    radius_m = content.results[-1].protocol.recall_radius_m
    return _by_condition(
        content,
        lines,
        None,
        id="precision",
        title="Precision and recall",
        text="If only queries with a small embedding distance are answered: precision is the "
        f"share of answers within {radius_m:g} m, recall the share of the queries with a "
        "reference that near which are answered correctly.",
        description="average precision",
        x_label="recall (%)",
        y_label="precision (%)",
        x_range=(0.0, 100.0),
    )


def _by_condition(
    content: ReportContent,
    line: Callable[[Evaluation, str | None], tuple[Points, str]],
    bound: Callable[[Evaluation, str | None], Points] | None,
    *,
    id: str,  # noqa: A002 the field of the section
    title: str,
    text: str = "",
    description: str,
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
) -> ChartSection:
    """Return a chart of percentages per condition, with a line per model.

    Args:
        content: What the report shows.
        line: Returns the line of a model, and its text in the description.
        bound: Returns the line of the upper bound.
        id: Identifier of the section, for links.
        title: Heading of the section.
        text: Paragraph above the charts.
        description: What the texts of the lines are about.
        x_label: Name and unit.
        y_label: Name and unit.
        x_range: Range of the x axis; None: that of the lines.
    """
    shown = content.results[-1]
    models = list(reversed(content.results))
    styles = [f"line-{min(place, 5)}" for place in range(len(models))]
    charts: list[Chart] = []
    for condition in shown.sections:
        drawn = [line(one, condition) for one in models]
        lines = [Line(style, *points) for style, (points, _) in zip(styles, drawn, strict=True)]
        if bound is not None:
            lines.append(Line("upper", *bound(shown, condition)))
        name = condition or OVERALL
        charts.append(
            line_chart(
                lines[::-1],
                title=f"{name} ({shown.num_queries(condition)})",
                description=f"{title}, {name}; {description}: "
                f"{', '.join(said for _, said in drawn)}",
                x_label=x_label,
                y_label=y_label,
                x_range=x_range,
                y_range=(0.0, 100.0),
                condition=None if condition is None else _number(shown, condition),
            )
        )
    legend = [(style, one.model) for style, one in zip(styles, models, strict=True)]
    if bound is not None:
        legend.append(("upper", UPPER_BOUND))
    return ChartSection(id=id, title=title, charts=charts, text=text, legend=legend)


def comparison(content: ReportContent) -> dict[str, Any]:
    """Return the comparison as a table of means over seeds; empty if there is none."""
    document = content.comparison
    if not document.get("entries"):
        return {}
    protocol = protocol_from_json(document["protocol"])
    shown = [*columns(protocol, "accuracy"), *columns(protocol, "graded")]
    rows = []
    for entry in document["entries"]:
        overall = [one["overall"] for one in entry["summaries"].values()]
        cells = [_mean(column, overall) for column in shown]
        rows.append({"name": entry["name"], "seeds": len(overall), "cells": cells})
    picture = content.comparison_picture
    return {
        "caption": "Results of all queries: mean over the seeds, with the range over several "
        "seeds in brackets.",
        "columns": [column.heading for column in shown],
        "rows": rows,
        "picture": "" if picture is None else data_uri(picture, "png"),
    }


def _mean(column: Column, summaries: Sequence[Mapping[str, Any]]) -> str:
    """Return the mean over seeds and, if there are several, the range."""
    values = [column.of_summary(one) for one in summaries]
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    mean = column.text(float(np.mean(known)))
    if len(known) == 1:
        return mean
    return f"{mean} ({column.text(min(known))} to {column.text(max(known))})"


def training(content: ReportContent) -> ChartSection | None:
    """Return a chart of each logged number that varies."""
    charts = _charts(content.metrics)
    if not charts:
        return None
    return ChartSection(id="training", title="Training", charts=charts[:_MOST_TRAINING_CHARTS])


def validation(content: ReportContent) -> ChartSection | None:
    """Return a chart of each measure of the validations during training that varies."""
    charts = _charts([_in_percent(row) for row in content.validation])
    if not charts:
        return None
    best = content.validation[-1].get("best_step")
    return ChartSection(
        id="validation",
        title="Validation during training",
        charts=charts,
        text="All queries of the validation split, without whitening: area under the accuracy "
        "curve, accuracy within each threshold, and the loss on fixed batches of that split."
        + (f" The area is largest at step {best:g}." if best else ""),
    )


def _in_percent(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row of ``validation.jsonl`` with the headings and percentages of tables."""
    shown: dict[str, Any] = {}
    for name, value in row.items():
        kind, _, threshold = name.partition("_")
        if kind in ("area", "accuracy"):
            heading = f"< {threshold.replace('_', ' ')} (%)" if threshold else "area (%)"
            shown[heading] = 100 * value if isinstance(value, int | float) else value
        elif name != "best_step":
            shown[name] = value
    return shown


def _charts(metrics: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Return a chart over steps of each number that varies."""
    names = dict.fromkeys(name for row in metrics for name in row if name != "step")
    charts: list[Chart] = []
    for name in names:
        found = [
            (float(row["step"]), float(row[name]))
            for row in metrics
            if isinstance(row.get(name), int | float) and np.isfinite(row[name])
        ]
        steps, values = [step for step, _ in found], [value for _, value in found]
        if len(set(values)) < 2:
            continue
        charts.append(
            line_chart(
                [Line("line-0", steps, values)],
                title=name.replace("_", " "),
                description=f"{name} from {values[0]:.4g} at step {steps[0]:g} to "
                f"{values[-1]:.4g} at step {steps[-1]:g}",
                x_label="optimizer step",
                y_label=name.rpartition("/")[2].replace("_", " "),
            )
        )
    return charts


_Section = Callable[[ReportContent], ChartSection | None]
RESULT_CHARTS: tuple[_Section, ...] = (curves, precision_recall)
TRAINING_CHARTS: tuple[_Section, ...] = (training, validation)


def chart_sections(sections: Sequence[_Section], content: ReportContent) -> list[ChartSection]:
    """Return those sections that have something to show."""
    found = [section(content) for section in sections]
    return [section for section in found if section is not None]
