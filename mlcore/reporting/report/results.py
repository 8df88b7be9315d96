"""Tables and charts of a report: accuracy, comparison, training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mlcore.evaluation.documents import protocol_from_json
from mlcore.evaluation.measures import Column, columns
from mlcore.evaluation.results import Evaluation
from mlcore.reporting.report.charts import Chart, Line, line_chart
from mlcore.reporting.report.content import ReportContent
from mlcore.reporting.report.thumbnails import data_uri
from mlcore.reporting.tables import UPPER_BOUND, result_rows

_MOST_TRAINING_CHARTS = 12


def tables(content: ReportContent) -> dict[str, Any]:
    """Return the table of results, a section per condition."""
    shown = content.results[-1]
    protocol = shown.protocol
    shown_columns = columns(protocol)
    sections: list[dict[str, Any]] = []
    for row in result_rows(content.results, shown_columns):
        if not sections or sections[-1]["name"] != row.condition:
            sections.append(
                {
                    "name": row.condition,
                    "num_queries": row.num_queries,
                    "condition": _number(shown, row.condition),
                    "rows": [],
                }
            )
        cells = [
            column.text(value) for column, value in zip(shown_columns, row.values, strict=True)
        ]
        is_bound = row.model == UPPER_BOUND
        sections[-1]["rows"].append({"model": row.model, "cells": cells, "is_bound": is_bound})
    text = (
        f"Split {protocol.split}, {protocol.num_references} references"
        f"{f' at least {protocol.spacing_m:g} m apart' if protocol.spacing_m else ''}."
    )
    headings = [column.heading for column in shown_columns]
    return {"columns": headings, "sections": sections, "protocol": text}


def _number(shown: Evaluation, condition: str) -> int | None:
    present = shown.present_conditions
    return present.index(condition) if condition in present else None


def curves(content: ReportContent) -> dict[str, Any]:
    """Return a chart of accuracy by threshold per condition, and their legend."""
    shown = content.results[-1]
    models = list(reversed(content.results))
    styles = [f"line-{min(place, 5)}" for place in range(len(models))]
    legend = [
        {"name": one.model, "style": style} for one, style in zip(models, styles, strict=True)
    ]
    charts: list[Chart] = []
    for condition in shown.sections:
        by_model = [one.curve(condition) for one in models]
        lines = [
            Line(style, curve.threshold_m.tolist(), (100 * curve.accuracy).tolist())
            for style, curve in zip(styles, by_model, strict=True)
        ]
        bound = by_model[0]
        lines.append(
            Line("upper", bound.threshold_m.tolist(), (100 * bound.upper_bound).tolist())
        )
        name = condition or "all queries"
        said = ", ".join(
            f"{one.model} {100 * one.accuracy(content.within_m, condition):.1f} %"
            for one in models
        )
        charts.append(
            line_chart(
                lines[::-1],
                title=f"{name} ({shown.num_queries(condition)})",
                description=f"Accuracy by threshold, {name}; within {content.within_m:g} m: "
                f"{said}",
                x_label="threshold on geometric distance (m)",
                y_label="queries localized (%)",
                y_range=(0.0, 100.0),
                condition=None if condition is None else _number(shown, condition),
            )
        )
    return {"curves": charts, "legend": [*legend, {"name": "upper bound", "style": "upper"}]}


def comparison(content: ReportContent) -> dict[str, Any]:
    """Return the comparison as a table of means over seeds; empty if there is none."""
    document = content.comparison
    if not document.get("entries"):
        return {}
    shown = columns(protocol_from_json(document["protocol"]))
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
    """Return the mean over seeds and, of several, the range."""
    values = [column.of_summary(one) for one in summaries]
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    mean = column.text(float(np.mean(known)))
    if len(known) == 1:
        return mean
    return f"{mean} ({column.text(min(known))} to {column.text(max(known))})"


def training(metrics: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Return a chart of each logged number that varies."""
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
    return charts[:_MOST_TRAINING_CHARTS]
