"""``mlcore evaluate RUN``: evaluate a trained model again, also on other data or options."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.model_arguments import lacks_model, save_model_of
from mlcore.cli.parser import Parser
from mlcore.cli.run_arguments import (
    TrainedRun,
    add_split,
    open_run,
    parser_for_run,
    require_parent,
)
from mlcore.errors import ConfigError
from mlcore.options import Command, RawOption
from mlcore.protocols import Progress

if TYPE_CHECKING:
    from mlcore.evaluation.results import Evaluation
    from mlcore.models.embedding import EmbeddingModel
    from mlcore.retrieval.whitening import Whitening


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = parser_for_run(
        "evaluate", "Evaluate a trained model, also on other data or with other options."
    )
    add_split(parser, "test", "validation")
    parser.add_argument(
        "--out",
        type=Path,
        help="file to write (default: RUN/evaluation.json, or a file in RUN/evaluations for "
        "other data or options)",
    )
    parser.add_json_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = make_parser()
    options, changes = parser.parse_with_run_options(argv)
    results, out = evaluate(options, changes, parser.command)
    if options.json:
        from mlcore.evaluation.documents import to_document

        console.write_json(to_document(results))
    else:
        from mlcore.reporting.tables import result_tables

        console.show(result_tables(results))
    console.say(f"Written: {out}")
    return 0


def evaluate(
    options: Namespace, changes: Sequence[RawOption], command: Command
) -> tuple[list[Evaluation], Path]:
    """Evaluate a run as the command's flags say, and return results and their file.

    Raises:
        MlcoreError: As for :func:`open_run`, or the results cannot be written.
    """
    require_parent(options.out, "--out")
    if options.out is not None and options.out.exists():
        raise ConfigError(f"--out {options.out} already exists; choose another file")
    if options.out is None and options.run.is_dir() and not os.access(options.run, os.W_OK):
        raise ConfigError(f"{options.run} cannot be written to; give --out FILE elsewhere")
    trained = open_run(options.run, changes, options.block, command)

    from mlcore.evaluation.documents import to_document
    from mlcore.evaluation.evaluate import evaluate_models
    from mlcore.evaluation.recording import record
    from mlcore.reporting.tables import skipped_notes

    whitenings: dict[str, Whitening | None] = {}
    with console.progress() as progress:
        results = evaluate_models(
            _models(trained, progress),
            trained.dataset,
            trained.config,
            split=options.split,
            progress=progress,
            keep_whitening=whitenings.__setitem__,
        )
    console.notes(skipped_notes(results))
    out = options.out
    if out is None:
        out = record(trained.folder, results)
    else:
        trained.folder.write_json(out, to_document(results))
    if options.split == "test" and lacks_model(trained):
        save_model_of(trained, whitenings["trained"])
    return results, out


def _models(trained: TrainedRun, progress: Progress) -> dict[str, EmbeddingModel]:
    """Return the models to evaluate, by name: the trained network and its baselines."""
    from mlcore.evaluation.evaluate import with_baselines

    if not trained.config.evaluation.baselines:
        return {"trained": trained.model}
    return with_baselines(trained.model, trained.untrained_model(progress))
