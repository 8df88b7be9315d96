"""``mlcore tsne RUN...``: query embeddings in the plane, in the colours of their places."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.run_arguments import (
    add_out_file,
    add_split,
    each_model,
    out_file,
    parse,
    parser_of_runs,
)
from mlcore.errors import DataError, require_library

if TYPE_CHECKING:
    from mlcore.cli.parser import Parser
    from mlcore.evaluation.projection import Projection
    from mlcore.protocols import Split

PICTURE = "tsne.png"


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = parser_of_runs(
        "tsne", "Draw query embeddings in the plane, in the colours of their places."
    )
    parser.add_argument(
        "--method",
        choices=("auto", "tsne", "pca"),
        default="auto",
        help="auto: t-SNE, or PCA below 100 queries (default: auto)",
    )
    add_split(parser, "test", "validation")
    add_out_file(parser, PICTURE)
    options, words = parse(parser, argv)
    if options.method != "pca":
        require_library("t-SNE", "openTSNE", "mlcore-localization[figures]")
    out = out_file(options, PICTURE)
    split, found = _project(options, words, parser)

    from mlcore.reporting.figures.places import save_place_figure

    save_place_figure(split, found, out)
    console.say(f"Written: {out}")
    return 0


def _project(
    options: Namespace, words: Sequence[str], parser: Parser
) -> tuple[Split, list[tuple[str, Projection]]]:
    """Return what is on the map and the projection of each model's query embeddings."""
    from mlcore.evaluation.evaluate import embedder_of
    from mlcore.evaluation.projection import project

    found: list[tuple[str, Projection]] = []
    split: Split | None = None
    with console.progress() as progress:
        for named in each_model(options, words, parser, progress):
            split = getattr(named.dataset, options.split)
            queries = split.queries
            embedder = embedder_of(named.model, named.config, progress)
            asked = embedder(named.dataset, queries.index, f"{named.name}: queries")
            if len(asked.rows) < len(queries):
                # The same queries in every panel, or their colours would be out of step.
                raise DataError(
                    f"{len(asked.skipped)} queries cannot be read, first {asked.skipped[0]}; "
                    "mend or remove them"
                )
            placed = project(
                asked.embeddings,
                method=options.method,
                seed=named.config.seed,
                progress=progress,
                name=f"{named.name}: t-SNE",
            )
            found.append((named.name, placed))
    assert split is not None
    return split, found
