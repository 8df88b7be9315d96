"""``mlcore explain RUN...``: Grad-CAM of queries and the references they were matched with."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.run_arguments import (
    add_out_file,
    add_split,
    add_within,
    each_model,
    evaluate_named,
    out_file,
    parse,
    parser_of_runs,
    require_within,
)
from mlcore.errors import ConfigError, DataError, require_library

if TYPE_CHECKING:
    from mlcore.cli.parser import Parser
    from mlcore.evaluation.gradcam import GradCamMatch
    from mlcore.evaluation.results import Evaluation
    from mlcore.protocols import PlaceDataset
    from mlcore.retrieval.embedder import Embedder

PICTURE = "explained.png"


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = parser_of_runs(
        "explain", "Draw what in a query and its first reference makes them alike (Grad-CAM)."
    )
    parser.add_argument(
        "--worst",
        type=int,
        default=2,
        help="queries whose match by the last run is farthest (default: 2)",
    )
    parser.add_argument(
        "--best", type=int, default=1, help="queries whose match is nearest (default: 1)"
    )
    parser.add_argument(
        "--query",
        action="append",
        default=[],
        metavar="IMAGE",
        help="name of a query, instead of the worst and best; may be given again",
    )
    add_within(parser)
    add_split(parser, "test", "validation")
    add_out_file(parser, PICTURE)
    options, words = parse(parser, argv)
    require_library("mlcore explain", "captum", "mlcore-localization[figures]")
    if min(options.worst, options.best) < 0 or options.worst + options.best < 1:
        raise ConfigError(
            f"--worst {options.worst} --best {options.best}: there must be a query to explain"
        )
    require_within(options)
    out = out_file(options, PICTURE)
    _draw(options, words, parser, out)
    console.say(f"Written: {out}")
    return 0


def _draw(options: Namespace, words: Sequence[str], parser: Parser, out: Path) -> None:
    from mlcore.evaluation.gradcam import explain_results
    from mlcore.reporting.figures.gradcam import draw_rows, save_gradcam

    with console.progress() as progress:
        # The last run decides which queries are worst, so all are evaluated first.
        evaluated: list[tuple[str, Embedder, Evaluation]] = []
        for named in each_model(options, words, parser, progress):
            dataset = named.dataset
            split = getattr(dataset, options.split)
            evaluated.append(
                (named.name, *evaluate_named(named, split, options.split, progress))
            )
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
            f"--query {unknown[0]}: the {options.split} split has no query of that name, such "
            f"as {next(iter(known))}"
        )
    return list(dict.fromkeys(known[name] for name in options.query))


def _row_of(results: Evaluation, index: int, dataset: PlaceDataset) -> int:
    places = (results.query_index == index).nonzero()[0]
    if not len(places):
        raise DataError(f"{dataset.image_name(index)} could not be read for {results.model}")
    return int(places[0])
