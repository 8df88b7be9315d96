"""``mlcore explain RUN...``: Grad-CAM of queries and their matched references."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.run_arguments import (
    RETRIEVAL_OPTIONS,
    add_out_file,
    add_split,
    add_within,
    models_of_runs,
    out_file,
    parser_for_runs,
    require_within,
)
from mlcore.errors import ConfigError, DataError, require_library
from mlcore.options import Command, RawOption

if TYPE_CHECKING:
    from mlcore.cli.parser import Parser
    from mlcore.evaluation.gradcam import GradCamMatch
    from mlcore.evaluation.results import Evaluation
    from mlcore.protocols import PlaceDataset
    from mlcore.retrieval.embedder import Embedder

PICTURE = "explained.png"
WORST, BEST = 2, 1


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = parser_for_runs(
        "explain",
        "Draw what makes a query similar to its best match (Grad-CAM).",
        evaluation=(*RETRIEVAL_OPTIONS, "baselines"),
    )
    parser.add_argument(
        "--worst",
        type=int,
        metavar="N",
        help="queries with the farthest match by the last run (default: 2)",
    )
    parser.add_argument(
        "--best",
        type=int,
        metavar="N",
        help="queries with the nearest match (default: 1)",
    )
    parser.add_argument(
        "--query",
        action="append",
        default=[],
        metavar="IMAGE",
        help="name of a query, instead of the worst and best; can be repeated",
    )
    add_within(parser)
    add_split(parser, "test", "validation")
    add_out_file(parser, PICTURE)
    parser.add_json_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = make_parser()
    options, changes = parser.parse_with_run_options(argv)
    require_library("mlcore explain", "captum", "mlcore-localization[figures]")
    if options.query and (options.worst, options.best) != (None, None):
        raise ConfigError("--query names the queries to draw; leave out --worst and --best")
    options.worst = WORST if options.worst is None else options.worst
    options.best = BEST if options.best is None else options.best
    if min(options.worst, options.best) < 0 or options.worst + options.best < 1:
        raise ConfigError(
            "--worst and --best must not be negative, nor both 0, got "
            f"{options.worst} and {options.best}"
        )
    require_within(options)
    out = out_file(options, PICTURE)
    _draw(options, changes, parser.command, out)
    console.written([out], as_json=options.json)
    return 0


def _draw(
    options: Namespace, changes: Sequence[RawOption], command: Command, out: Path
) -> None:
    from mlcore.evaluation.gradcam import explain_results
    from mlcore.reporting.figures.gradcam import draw_rows, save_gradcam

    with console.progress() as progress:
        # The last run decides which queries are worst: all are evaluated before any is drawn.
        evaluated: list[tuple[str, Embedder, Evaluation]] = []
        for named in models_of_runs(options, changes, command, progress):
            dataset = named.dataset
            split = getattr(dataset, options.split)
            evaluated.append((named.name, *named.evaluate(split, options.split, progress)))
        chosen = _chosen(options, dataset, evaluated[-1][2])
        rows: dict[int, list[tuple[str, GradCamMatch]]] = {index: [] for index in chosen}
        for name, embedder, results in evaluated:
            places = [_row_of(results, index, dataset) for index in chosen]
            found = explain_results(embedder, dataset, results, places, name=name)
            for match in found:
                rows[match.query].append((name, match))
    condition = dict(zip(results.query_index.tolist(), results.condition.tolist(), strict=True))
    pictures = [
        draw_rows(
            of_query,
            dataset.load_image,
            heading=f"{dataset.image_name(index)} ({results.conditions[condition[index]]})",
            correct_within_m=options.within,
        )
        for index, of_query in rows.items()
    ]
    save_gradcam(pictures, out)


def _chosen(options: Namespace, dataset: PlaceDataset, results: Evaluation) -> list[int]:
    """Return image indices of the queries to explain, without repetition."""
    from mlcore.evaluation.gradcam import worst_and_best

    if not options.query:
        places = worst_and_best(results, options.worst, options.best)
        return [int(index) for index in results.query_index[places]]
    known = {dataset.image_name(index): index for index in results.query_index.tolist()}
    unknown = [name for name in options.query if name not in known]
    if unknown:
        raise DataError(
            f"--query {unknown[0]}: the {options.split} split has no query of that name; "
            f"names are like {next(iter(known))}"
        )
    return list(dict.fromkeys(known[name] for name in options.query))


def _row_of(results: Evaluation, index: int, dataset: PlaceDataset) -> int:
    places = (results.query_index == index).nonzero()[0]
    if not len(places):
        raise DataError(f"{dataset.image_name(index)} could not be read for {results.model}")
    return int(places[0])
