"""``mlcore tsne RUN...``: query embeddings in two dimensions, coloured by place."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.run_arguments import (
    add_out_file,
    add_split,
    models_of_runs,
    out_file,
    parser_for_runs,
)
from mlcore.errors import require_library
from mlcore.options import Command, RawOption

if TYPE_CHECKING:
    from mlcore.cli.parser import Parser
    from mlcore.evaluation.projection import Projection
    from mlcore.protocols import Split

PICTURE = "tsne.png"


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = parser_for_runs(
        "tsne",
        "Draw query embeddings in 2D, coloured by place.",
        evaluation=("batch_size", "baselines"),
    )
    parser.add_argument(
        "--method",
        choices=("auto", "tsne", "pca"),
        default="auto",
        help="projection; auto: t-SNE from 100 queries on, PCA below (default: auto)",
    )
    add_split(parser, "test", "validation")
    add_out_file(parser, PICTURE)
    parser.add_json_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = make_parser()
    options, changes = parser.parse_with_run_options(argv)
    if options.method != "pca":
        require_library("t-SNE", "openTSNE", "mlcore-localization[figures]")
    out = out_file(options, PICTURE)
    split, found = _project(options, changes, parser.command)

    from mlcore.reporting.figures.places import save_place_figure

    save_place_figure(split, found, out)
    console.written([out], as_json=options.json)
    return 0


def _project(
    options: Namespace, changes: Sequence[RawOption], command: Command
) -> tuple[Split, list[tuple[str, Projection]]]:
    """Return the split and the projection of each model's query embeddings."""
    from mlcore.evaluation.evaluate import embedder_of
    from mlcore.evaluation.projection import project

    found: list[tuple[str, Projection]] = []
    split: Split | None = None
    skipped: tuple[str, ...] = ()
    with console.progress() as progress:
        for named in models_of_runs(options, changes, command, progress):
            whole: Split = getattr(named.dataset, options.split)
            embedder = embedder_of(named.model, named.config, progress)
            asked = embedder(named.dataset, whole.queries.index, f"{named.name}: queries")
            # Every model reads the same files, so that each panel has the same queries.
            split = replace(whole, queries=whole.queries.take(asked.rows))
            skipped = asked.skipped
            placed = project(
                asked.embeddings,
                method=options.method,
                seed=named.config.seed,
                progress=progress,
                name=f"{named.name}: t-SNE",
            )
            found.append((named.name, placed))
    assert split is not None
    console.notes([f"skipped, unreadable: {name}" for name in skipped])
    return split, found
