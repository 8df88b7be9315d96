"""``mlcore report RUN``: a run's report as one HTML file, or the curves of several runs."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcore.cli import console
from mlcore.cli.run_arguments import (
    UNTRAINED,
    WITHIN_M,
    TrainedRun,
    add_within,
    open_run,
    parser_for_runs,
    require_parent,
    require_within,
    short_names,
)
from mlcore.errors import ConfigError, DataError, require_library
from mlcore.options import Command, RawOption
from mlcore.run_folder import RunFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from mlcore.cli.parser import Parser
    from mlcore.evaluation.gradcam import GradCamMatch
    from mlcore.evaluation.projection import Projection
    from mlcore.evaluation.results import Evaluation
    from mlcore.protocols import Progress, Split
    from mlcore.reporting.report.content import ReportContent

REPORT = "report.html"
_OF_PAGE = {"within": WITHIN_M, "pictures": 300, "explained": 4}
"""Defaults of the flags that shape the HTML report; curves have no use for them."""


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = parser_for_runs(
        "report",
        "Write a run's report as one HTML file; draw the accuracy curves of several runs.",
        evaluation=("batch_size", "baselines"),
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="HTML report of one run (default: RUN/report.html), or PNG of the accuracy "
        "curves of one or more runs",
    )
    add_within(parser)
    parser.set_defaults(within=None)
    parser.add_argument(
        "--pictures",
        type=int,
        metavar="N",
        help="largest number of queries shown with pictures: the worst, the best, and some "
        "evenly spaced (default: 300)",
    )
    parser.add_argument(
        "--explained",
        type=int,
        metavar="N",
        help="worst queries, and best queries, shown with Grad-CAM (default: 4)",
    )
    parser.add_json_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = make_parser()
    options, changes = parser.parse_with_run_options(argv)
    out = _out(options)
    folders = [RunFolder.open(path) for path in options.runs]
    results: Sequence[Evaluation] = _results(folders)

    from mlcore.evaluation.documents import to_document
    from mlcore.reporting.tables import result_tables

    if out.suffix.lower() == ".png":
        if changes:
            raise ConfigError(
                f"{changes[0].label} has no effect on a picture of existing results; "
                "run 'mlcore evaluate' with it first"
            )
        _save_curves(results, out)
    else:
        results = _save_report(options, changes, parser.command, out)
    if options.json:
        console.write_json({**to_document(results), "written": [str(out)]})
    else:
        console.show(result_tables(results))
    console.say(f"Written: {out}")
    return 0


def _out(options: Namespace) -> Path:
    out = _out_path(options)
    given = [flag for flag in _OF_PAGE if getattr(options, flag) is not None]
    if given and out.suffix.lower() == ".png":
        raise ConfigError(f"--{given[0]} has no effect on a PNG; it shapes the HTML report")
    for flag, default in _OF_PAGE.items():
        if flag not in given:
            setattr(options, flag, default)
    require_within(options)
    if options.pictures < 0 or options.explained < 0:
        raise ConfigError("--pictures and --explained must not be negative")
    require_parent(options.out, "--out")
    return out


def _out_path(options: Namespace) -> Path:
    out: Path | None = options.out
    if out is None:
        if len(options.runs) > 1:
            raise ConfigError("several runs need --out FILE.png")
        return Path(options.runs[0]) / REPORT
    if out.suffix.lower() not in (".png", ".html"):
        raise ConfigError(f"--out {out} must end in .html or .png")
    if out.suffix.lower() == ".html" and len(options.runs) > 1:
        raise ConfigError(
            f"--out {out}: a report shows one run; several runs need --out FILE.png"
        )
    return out


def _save_curves(results: Sequence[Evaluation], out: Path) -> None:
    from mlcore.reporting.figures.curves import save_curves

    save_curves(results, out)


def _save_report(
    options: Namespace, changes: Sequence[RawOption], command: Command, out: Path
) -> Sequence[Evaluation]:
    """Write the report and return the results that its map shows."""
    for library in ("jinja2", "captum", "openTSNE"):
        require_library("mlcore report", library, "mlcore-localization[figures]")
    trained = open_run(options.runs[0], changes, options.block, command)
    results, others = _on_these_data(trained)
    from mlcore.reporting.report.page import save_report

    trained.folder.plots.mkdir(exist_ok=True)
    _save_curves(results, trained.folder.plots / "metres.png")
    with console.progress() as progress:
        content = replace(_content(trained, results, options, progress), others=others)
        save_report(content, out, progress=progress)
    return results


def _on_these_data(
    trained: TrainedRun,
) -> tuple[Sequence[Evaluation], Sequence[Sequence[Evaluation]]]:
    """Return the run's first results on this data set, and all other results."""
    from mlcore.evaluation.recording import recorded

    files = recorded(trained.folder)
    fingerprint = trained.dataset.fingerprint
    found = [one for one in files if one.results[0].protocol.data_fingerprint == fingerprint]
    if not found:
        raise DataError(
            f"{trained.folder.evaluation} was measured on other data "
            f"({files[0].results[0].protocol.data_fingerprint}) than this ({fingerprint}); "
            "give the same --dataset here, or run 'mlcore evaluate' on this"
        )
    return found[0].results, [one.results for one in files if one is not found[0]]


def _content(
    trained: TrainedRun, results: Sequence[Evaluation], options: Namespace, progress: Progress
) -> ReportContent:
    from mlcore.reporting.report.content import ReportContent

    folder = trained.folder
    split: Split = getattr(trained.dataset, results[-1].protocol.split)
    comparison, picture = _comparison(folder)
    projections, projected = _projections(trained, split, progress)
    return ReportContent(
        title=folder.path.resolve().name,
        config=folder.config.read_text(encoding="utf-8"),
        environment=folder.read_json(folder.environment) if folder.environment.exists() else {},
        metrics=_rows(folder.metrics),
        validation=_rows(folder.validation),
        results=results,
        split=split,
        dataset=trained.dataset,
        within_m=options.within,
        pictured=options.pictures,
        gradcam=_gradcam(trained, results[-1], options.explained, progress),
        projections=projections,
        projected=projected,
        comparison=comparison,
        comparison_picture=picture,
    )


def _gradcam(
    trained: TrainedRun, shown: Evaluation, count: int, progress: Progress
) -> list[GradCamMatch]:
    from mlcore.evaluation.evaluate import embedder_of
    from mlcore.evaluation.gradcam import explain_results, worst_and_best

    embedder = embedder_of(trained.model, trained.config, progress)
    rows = worst_and_best(shown, count, count)
    return explain_results(embedder, trained.dataset, shown, rows, name="trained")


def _projections(
    trained: TrainedRun, split: Split, progress: Progress
) -> tuple[list[tuple[str, Projection]], NDArray[np.int64] | None]:
    """Return the projected query embeddings of the networks, and the rows of the queries."""
    from mlcore.evaluation.evaluate import embedder_of
    from mlcore.evaluation.projection import project

    models = {"trained": trained.model}
    if trained.config.evaluation.baselines:
        models = {UNTRAINED: trained.untrained_model(progress), **models}
    found: list[tuple[str, Projection]] = []
    rows: NDArray[np.int64] | None = None
    for name, model in models.items():
        embedder = embedder_of(model, trained.config, progress)
        asked = embedder(trained.dataset, split.queries.index, f"{name}: queries")
        if len(asked.rows) < 2:
            console.say(
                f"note: {len(asked.rows)} of {len(split.queries)} queries can be read; 2 are "
                "needed to show their embeddings"
            )
            return [], None
        rows = asked.rows  # the same for every model, which read the same files
        seed = trained.config.seed
        placed = project(asked.embeddings, seed=seed, progress=progress, name=f"{name}: t-SNE")
        found.append((name, placed))
    return found, rows


def _rows(path: Path) -> list[Mapping[str, Any]]:
    """Return the rows of a ``.jsonl`` file of numbers; an incomplete row ends them."""
    rows: list[Mapping[str, Any]] = []
    lines = (
        path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    )
    for line in lines:
        try:
            row = json.loads(line)
            row = {name: float(value) for name, value in row.items()}
        except (ValueError, TypeError, AttributeError, RecursionError):
            console.say(f"note: {path}: row {len(rows) + 1} is incomplete")
            break
        rows.append(row)
    return rows


def _comparison(folder: RunFolder) -> tuple[Mapping[str, Any], bytes | None]:
    """Return ``comparison.json`` and its picture, from this folder or its comparison's."""
    for place in (folder.path, folder.path.resolve().parent.parent):
        if (place / "comparison.json").is_file():
            picture = place / "metres.png"
            found = folder.read_json(place / "comparison.json")
            return found, picture.read_bytes() if picture.is_file() else None
    return {}, None


def _results(folders: Sequence[RunFolder]) -> list[Evaluation]:
    """Return the results of a run; for several, the baselines of one and all trained models."""
    from mlcore.evaluation.recording import read_results

    first, *others = [read_results(folder, folder.evaluation) for folder in folders]
    if not others:
        return first
    baselines = [one for one in first if one.model != "trained"]
    names = short_names([folder.path for folder in folders])
    return baselines + [
        replace(one, model=name)
        for name, results in zip(names, (first, *others), strict=True)
        for one in results
        if one.model == "trained"
    ]
