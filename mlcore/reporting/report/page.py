"""The report of a run: one HTML file that needs no network and no other files.

jinja2 escapes all names; the content security policy forbids the network.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlcore.evaluation.measures import metres
from mlcore.files import atomic_write
from mlcore.protocols import Progress, no_progress
from mlcore.reporting.report.content import ReportContent
from mlcore.reporting.report.map import map_part
from mlcore.reporting.report.pictures import gallery, projections
from mlcore.reporting.report.results import (
    RESULT_CHARTS,
    TRAINING_CHARTS,
    chart_sections,
    comparison,
    tables,
)

if TYPE_CHECKING:
    from jinja2 import Environment


def save_report(
    content: ReportContent, path: Path, *, progress: Progress = no_progress
) -> None:
    """Write the report.

    Raises:
        DataError: An image cannot be read, or the protocols of the results differ.
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
    page = {
        **_head(content),
        **tables(content),
        "result_charts": chart_sections(RESULT_CHARTS, content),
    }
    page |= map_part(content, progress)
    page |= {
        "gradcam": gallery(content),
        **projections(content),
        "comparison": comparison(content),
        "training_charts": chart_sections(TRAINING_CHARTS, content),
        "environment": _facts_of(content),
        "notes": content.environment.get("notes", []),
        "config": content.config,
        "version": __version__,
    }
    page["parts"] = _parts(page)
    return environment.get_template("report.html").render(**page, **own)


def _environment() -> Environment:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader("mlcore.reporting.report"),
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
    limit_m = shown.protocol.area_limit_m
    num_right = int((shown.distance_m < content.within_m).sum())
    facts = [
        (
            f"{100 * num_right / len(shown.distance_m):.1f} %",
            f"of queries within {content.within_m:g} m ({shown.model})",
        ),
        (f"{100 * shown.area(limit_m):.1f} %", f"area to {limit_m:g} m"),
        (metres(float(np.median(shown.distance_m))), "median distance to the first reference"),
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
        **{section.id: section.title for section in page["result_charts"]},
        "map": "Map",
        "gradcam": "Grad-CAM of matches" if page["gradcam"] else "",
        "tsne": "Embeddings by place" if page["projections"] else "",
        "others": "Other evaluations" if page["other_tables"] else "",
        "comparison": "Comparison" if page["comparison"] else "",
        **{section.id: section.title for section in page["training_charts"]},
        "configuration": "Configuration and data",
    }
    return [{"id": name, "name": text} for name, text in parts.items() if text]


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
        rows.append(("skipped (unreadable)", ", ".join(skipped)))
    return rows
