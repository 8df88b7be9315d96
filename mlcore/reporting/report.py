"""The report of a run: one HTML file that holds everything and loads nothing.

jinja2 escapes every name; the content security policy forbids the network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlcore.embedding import evenly_spaced
from mlcore.explaining import ExplainedMatch, worst_and_best
from mlcore.files import atomic_write
from mlcore.projecting import Projection
from mlcore.protocols import PlaceDataset, Progress, Split, no_progress
from mlcore.reporting.charts import Chart, Line, line_chart
from mlcore.reporting.explained import overlay
from mlcore.reporting.maps import RIGHT, WRONG, Frame, condition_numbers, draw_map
from mlcore.reporting.places import extent_of, place_colours
from mlcore.reporting.tables import TABLE_AREA_M, UPPER_BOUND, accuracy_rows
from mlcore.reporting.thumbnails import data_uri, jpeg, thumbnails
from mlcore.results import Evaluation

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_PICTURED = 300
_MOST_IMAGE_BYTES = 9_000_000
_MOST_PROJECTED = 4000
_MOST_TRAINING_CHARTS = 12
_GALLERY_PX = 320


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """What a report shows.

    Attributes:
        title: Name of the run.
        config: Its ``config.toml``, as text.
        environment: Its ``environment.json``.
        metrics: Rows of its ``metrics.jsonl``.
        results: Of all models, the one that the map shows last.
        split: Where the images of these results were taken.
        dataset: Where images are read from.
        within_m: A match nearer than this is right.
        pictured: Queries with pictures at most.
        explained: Grad-CAM of some queries.
        projections: Of the split's query embeddings, with the model's name.
        comparison: Content of ``comparison.json``, if there is one.
        comparison_picture: Content of its PNG, if there is one.
    """

    title: str
    config: str
    environment: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    results: Sequence[Evaluation]
    split: Split
    dataset: PlaceDataset
    within_m: float
    pictured: int = MOST_PICTURED
    explained: Sequence[ExplainedMatch] = ()
    projections: Sequence[tuple[str, Projection]] = ()
    comparison: Mapping[str, Any] = field(default_factory=dict)
    comparison_picture: bytes | None = None


def save_report(
    content: ReportContent, path: Path, *, progress: Progress = no_progress
) -> None:
    """Write the report.

    Raises:
        DataError: An image cannot be read, or the results were judged by different protocols.
    """
    text = report_text(content, progress=progress)
    with atomic_write(path) as file:
        file.write(text.encode())


def report_text(content: ReportContent, *, progress: Progress = no_progress) -> str:
    """Return what :func:`save_report` writes."""
    from markupsafe import Markup

    from mlcore import __version__

    environment = _environment()
    own = {
        name: Markup(_template(environment, f"report.{kind}"))  # noqa: S704 our own files
        for name, kind in (("style", "css"), ("script", "js"))
    }
    page = {**_head(content), **_tables(content), **_curves(content)}
    page |= _map(content, progress)
    page |= {
        "explained": _gallery(content),
        **_projections(content),
        "comparison": _comparison(content),
        "training": _training(content.metrics),
        "environment": _facts_of(content),
        "notes": content.environment.get("notes", []),
        "config": content.config,
        "version": __version__,
    }
    page["parts"] = _parts(page)
    return environment.get_template("report.html").render(**page, **own)


def pictured_rows(shown: Evaluation, most: int) -> list[int]:
    """Return the rows of queries to show: a third the worst, a third the best, a third even."""
    num_queries = len(shown.distance_m)
    if num_queries <= most:
        return worst_and_best(shown, num_queries, 0)
    rows = worst_and_best(shown, most // 3, most // 3)
    rest = np.setdiff1d(np.arange(num_queries), rows)
    even = rest[evenly_spaced(len(rest), most - len(rows))]
    return [*rows, *even.tolist()]


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("mlcore.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _template(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    text: str = environment.loader.get_source(environment, name)[0]
    return text


def _head(content: ReportContent) -> dict[str, Any]:
    shown = content.results[-1]
    num_right = int((shown.distance_m < content.within_m).sum())
    facts = [
        (
            f"{100 * num_right / len(shown.distance_m):.1f} %",
            f"of queries within {content.within_m:g} m ({shown.model})",
        ),
        (f"{100 * shown.area(TABLE_AREA_M):.1f} %", f"area to {TABLE_AREA_M:g} m"),
        (f"{np.median(shown.distance_m):.1f} m", "median distance to the first reference"),
        (f"{shown.dimensions}", f"dimensions, whitening: {shown.whitening}"),
    ]
    return {
        "title": content.title,
        "lead": f"{shown.protocol.num_queries} queries against "
        f"{shown.protocol.num_references} references of {shown.protocol.split}; "
        f"data {shown.protocol.data_fingerprint}.",
        "facts": [{"value": value, "what": what} for value, what in facts],
        "conditions": shown.present_conditions,
        "split": shown.protocol.split,
        "num_queries": shown.protocol.num_queries,
        "within": f"{content.within_m:g}",
    }


def _parts(page: Mapping[str, Any]) -> list[dict[str, str]]:
    parts = {
        "results": "Results",
        "curves": "Accuracy by threshold",
        "map": "Map",
        "gradcam": "What makes a match" if page["explained"] else "",
        "tsne": "Embeddings by place" if page["projections"] else "",
        "comparison": "Comparison" if page["comparison"] else "",
        "training": "Training" if page["training"] else "",
        "configuration": "Configuration and data",
    }
    return [{"id": name, "name": text} for name, text in parts.items() if text]


def _tables(content: ReportContent) -> dict[str, Any]:
    shown = content.results[-1]
    protocol = shown.protocol
    columns = [f"< {value:g} m" for value in protocol.thresholds_m]
    columns += [f"area to {TABLE_AREA_M:g} m", f"R@1, {protocol.recall_radius_m:g} m"]
    sections: list[dict[str, Any]] = []
    for row in accuracy_rows(content.results):
        if not sections or sections[-1]["name"] != row.condition:
            sections.append(
                {
                    "name": row.condition,
                    "num_queries": row.num_queries,
                    "condition": _number(shown, row.condition),
                    "rows": [],
                }
            )
        values = (*row.accuracy, row.area, row.recall_at_1)
        cells = ["" if value is None else f"{100 * value:.1f}" for value in values]
        is_bound = row.model == UPPER_BOUND
        sections[-1]["rows"].append({"model": row.model, "cells": cells, "is_bound": is_bound})
    text = (
        f"Split {protocol.split}, {protocol.num_references} references"
        f"{f' at least {protocol.spacing_m:g} m apart' if protocol.spacing_m else ''}."
    )
    return {"columns": columns, "sections": sections, "protocol": text}


def _number(shown: Evaluation, condition: str) -> int | None:
    present = shown.present_conditions
    return present.index(condition) if condition in present else None


def _curves(content: ReportContent) -> dict[str, Any]:
    shown = content.results[-1]
    models = list(reversed(content.results))
    styles = [f"line-{min(place, 5)}" for place in range(len(models))]
    legend = [
        {"name": one.model, "style": style} for one, style in zip(models, styles, strict=True)
    ]
    charts: list[Chart] = []
    for condition in shown.sections:
        curves = [one.curve(condition) for one in models]
        lines = [
            Line(style, curve.threshold_m.tolist(), (100 * curve.accuracy).tolist())
            for style, curve in zip(styles, curves, strict=True)
        ]
        bound = curves[0]
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


def _map(content: ReportContent, progress: Progress) -> dict[str, Any]:
    shown, dataset = content.results[-1], content.dataset
    queries_m, retrieved_m, references_m = _positions(content)
    frame = Frame(np.concatenate([queries_m, references_m]))
    queries, retrieved = frame(queries_m), frame(retrieved_m)
    outcomes = [RIGHT if value < content.within_m else WRONG for value in shown.distance_m]
    numbers = condition_numbers(shown)
    rows = pictured_rows(shown, content.pictured)
    texts = [_caption(shown, dataset, row, outcomes[row]) for row in rows]
    query_index, reference_index = shown.query_index, shown.reference_index
    images = thumbnails(
        (int(column[row]) for row in rows for column in (query_index, reference_index)),
        dataset.load_image,
        most_bytes=_MOST_IMAGE_BYTES,
        progress=lambda done, total: progress("report: images", done, total),
    )
    data = {
        "num_queries": len(queries),
        "counts": _counts(numbers, outcomes),
        "images": {str(index): uri for index, uri in images.items()},
        "queries": [
            {
                "x": queries[row, 0],
                "y": queries[row, 1],
                "rx": retrieved[row, 0],
                "ry": retrieved[row, 1],
                "image": str(query_index[row]),
                "reference_image": str(reference_index[row]),
                "name": dataset.image_name(int(query_index[row])),
                "reference": dataset.image_name(int(reference_index[row])),
                "text": text,
            }
            for row, text in zip(rows, texts, strict=True)
        ],
    }
    drawn = draw_map(shown, outcomes, queries, frame(references_m), rows, texts, frame)
    return {"map": drawn, "data": data, "num_pictured": len(rows)}


def _counts(numbers: NDArray[np.int64], outcomes: Sequence[str]) -> list[list[int]]:
    """Return how many queries of each condition are right, and how many wrong."""
    is_right = np.asarray(outcomes) == RIGHT
    return [
        [
            int((is_right & (numbers == number)).sum()),
            int((~is_right & (numbers == number)).sum()),
        ]
        for number in range(int(numbers.max()) + 1)
    ]


def _positions(
    content: ReportContent,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return where queries and what they retrieved were taken, and all references."""
    shown, split = content.results[-1], content.split
    queries = dict(
        zip(split.queries.index.tolist(), split.queries.positions_m[:, :2], strict=True)
    )
    references = dict(
        zip(split.references.index.tolist(), split.references.positions_m[:, :2], strict=True)
    )
    return (
        np.array([queries[index] for index in shown.query_index.tolist()]),
        np.array([references[index] for index in shown.reference_index.tolist()]),
        split.references.positions_m[:, :2],
    )


def _caption(shown: Evaluation, dataset: PlaceDataset, row: int, outcome: str) -> str:
    return (
        f"{dataset.image_name(int(shown.query_index[row]))} "
        f"({shown.conditions[shown.condition[row]]}): {outcome}, "
        f"{shown.distance_m[row]:.1f} m from "
        f"{dataset.image_name(int(shown.reference_index[row]))}; nearest reference at "
        f"{shown.nearest_m[row]:.1f} m; embedding distance {shown.embedding_distance[row]:.2f}"
    )


def _gallery(content: ReportContent) -> list[dict[str, Any]]:
    shown, dataset = content.results[-1], content.dataset
    numbers = dict(
        zip(shown.query_index.tolist(), condition_numbers(shown).tolist(), strict=True)
    )
    gallery: list[dict[str, Any]] = []
    for match in content.explained:
        outcome = RIGHT if match.distance_m < content.within_m else WRONG
        query, reference = (
            dataset.load_image(index).permute(1, 2, 0).numpy()
            for index in (match.query, match.reference)
        )
        names = dataset.image_name(match.query), dataset.image_name(match.reference)
        images = {
            f"query {names[0]}": query,
            f"Grad-CAM on query {names[0]}": overlay(query, match.query_map),
            f"retrieved reference {names[1]}": reference,
            f"Grad-CAM on reference {names[1]}": overlay(reference, match.reference_map),
        }
        number = numbers[match.query]
        gallery.append(
            {
                "outcome": outcome,
                "condition": number,
                "verdict": f"{match.distance_m:.1f} m, {outcome}.",
                "text": f"{names[0]} ({shown.present_conditions[number]}) retrieved "
                f"{names[1]}; distance of the network's embeddings "
                f"{match.embedding_distance:.2f}.",
                "images": [
                    {"alt": alt, "uri": data_uri(jpeg(pixels, _GALLERY_PX, 80), "jpeg")}
                    for alt, pixels in images.items()
                ],
            }
        )
    return gallery


def _projections(content: ReportContent) -> dict[str, Any]:
    positions_m = content.split.queries.positions_m
    rows = evenly_spaced(len(positions_m), _MOST_PROJECTED)
    around = np.concatenate([content.split.references.positions_m[:, :2], positions_m[:, :2]])
    colours = place_colours(positions_m[rows], extent_of(around))
    names = [_hex(colour) for colour in colours]
    panels = [
        ("map of the queries", positions_m[rows, :2]),
        *(
            (f"{name}, {found.method}", found.points[rows])
            for name, found in content.projections
        ),
    ]
    radius = 3 if len(rows) < 1000 else 2
    drawn = [
        {"title": title, "points": _scaled(points, names), "radius": radius}
        for title, points in panels
    ]
    part = f"{len(rows)} evenly spaced ones are shown." if len(rows) < len(positions_m) else ""
    return {"projections": drawn if content.projections else [], "projected_part": part}


def _scaled(
    points: NDArray[np.float64], colours: Sequence[str]
) -> list[tuple[float, float, str]]:
    low, high = points.min(axis=0), points.max(axis=0)
    scale = 300 / max(float((high - low).max()), 1e-9)
    at = (160 + (points - (low + high) / 2) * [scale, -scale]).round(1)
    return [(x, y, colour) for (x, y), colour in zip(at.tolist(), colours, strict=True)]


def _hex(colour: NDArray[np.float64]) -> str:
    return "#" + "".join(f"{round(255 * value):02x}" for value in colour)


def _training(metrics: Sequence[Mapping[str, Any]]) -> list[Chart]:
    """Return a chart of each logged number that changes, the loss first."""
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


def _facts_of(content: ReportContent) -> list[tuple[str, str]]:
    rows = [("data fingerprint", content.results[-1].protocol.data_fingerprint)]
    for name, value in content.environment.items():
        if name in ("notes", "data_fingerprint"):
            continue
        if isinstance(value, Mapping):
            text = ", ".join(f"{key} {item}" for key, item in value.items())
        else:
            text = str(value)
        rows.append((name.replace("_", " "), text))
    skipped = content.results[-1].skipped
    if skipped:
        rows.append(("left out, unreadable", ", ".join(skipped)))
    return rows


def _comparison(content: ReportContent) -> dict[str, Any]:
    """Return the comparison as a table of means over seeds; empty where there is none."""
    document = content.comparison
    if not document.get("entries"):
        return {}
    thresholds = [f"{value:g}" for value in document["protocol"]["thresholds_m"]]
    area = f"{TABLE_AREA_M:g}"
    rows = []
    for entry in document["entries"]:
        overall = [one["overall"] for one in entry["summaries"].values()]
        cells = [_mean([one["accuracy"].get(name) for one in overall]) for name in thresholds]
        cells.append(_mean([one["area"].get(area) for one in overall]))
        rows.append({"name": entry["name"], "seeds": len(overall), "cells": cells})
    picture = content.comparison_picture
    return {
        "caption": "Top-1 localization accuracy in % of all queries: mean over the seeds, and "
        "of several from the least to the most.",
        "columns": [*(f"< {name} m" for name in thresholds), f"area to {area} m"],
        "rows": rows,
        "picture": "" if picture is None else data_uri(picture, "png"),
    }


def _mean(values: Sequence[float | None]) -> str:
    known = [100 * value for value in values if value is not None]
    if not known:
        return "none"
    text = f"{np.mean(known):.1f}"
    return text if len(known) == 1 else f"{text} ({min(known):.1f} to {max(known):.1f})"
