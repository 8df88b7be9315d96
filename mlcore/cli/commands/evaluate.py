"""``mlcore evaluate RUN``: evaluate a trained model, also on other data or options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.run_arguments import (
    TrainedRun,
    add_split,
    parse,
    parser_of,
    reopen,
    require_folder_of,
)
from mlcore.errors import ConfigError
from mlcore.protocols import Progress

if TYPE_CHECKING:
    from mlcore.models.embedding import EmbeddingModel


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = parser_of(
        "evaluate", "Evaluate a trained model, also on other data or with other options."
    )
    add_split(parser, "test", "validation")
    parser.add_argument(
        "--out",
        type=Path,
        help="file to write (default: evaluation.json of the run, or a file in its "
        "evaluations/ for other data or options)",
    )
    parser.add_argument("--json", action="store_true", help="print what is written")
    options, words = parse(parser, argv)
    require_folder_of(options.out, "--out")
    if options.out is not None and options.out.exists():
        raise ConfigError(f"--out {options.out} exists already; choose another file")
    trained = reopen(options, words, parser)

    from mlcore.evaluation.documents import to_document
    from mlcore.evaluation.evaluate import evaluate_models
    from mlcore.evaluation.recording import record
    from mlcore.reporting.tables import result_tables, skipped_notes

    with console.progress() as progress:
        results = evaluate_models(
            _models(trained, progress),
            trained.dataset,
            trained.config,
            split=options.split,
            progress=progress,
        )
    console.notes(skipped_notes(results))
    out = options.out
    if out is None:
        out = record(trained.folder, results)
    else:
        trained.folder.write_json(out, to_document(results))
    if options.json:
        console.write_json(to_document(results))
    else:
        console.show(result_tables(results))
    console.say(f"Written: {out}")
    return 0


def _models(trained: TrainedRun, progress: Progress) -> dict[str, EmbeddingModel]:
    """Return the models to evaluate, by name: the trained network and its baselines."""
    from mlcore.evaluation.evaluate import with_baselines
    from mlcore.experiment import initial_model, open_dataset

    if not trained.config.evaluation.baselines:
        return {"trained": trained.model}
    dataset = trained.dataset
    if trained.config.dataset != trained.trained_as.dataset:
        dataset = open_dataset(trained.trained_as, progress)
    untrained = initial_model(trained.trained_as, dataset, progress)
    return with_baselines(trained.model, untrained)
