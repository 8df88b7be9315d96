"""``mlcore evaluate RUN``: judge a trained model again, on other data or options too."""

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
from mlcore.protocols import Progress

if TYPE_CHECKING:
    from mlcore.models.embedding import EmbeddingModel


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = parser_of("evaluate", "Judge a trained model, on other data or options too.")
    add_split(parser, "test", "validation")
    parser.add_argument(
        "--out", type=Path, help="file to write (default: evaluation.json of the run)"
    )
    parser.add_argument("--json", action="store_true", help="print what is written")
    options, words = parse(parser, argv)
    require_folder_of(options.out, "--out")
    trained = reopen(options, words, parser)

    from mlcore.evaluation.evaluate import judge
    from mlcore.evaluation.results import skipped_notes, to_document
    from mlcore.reporting.tables import accuracy_table

    with console.progress() as progress:
        results = judge(
            _models(trained, progress),
            trained.dataset,
            trained.config,
            split=options.split,
            progress=progress,
        )
    console.notes(skipped_notes(results))
    document = to_document(results)
    out = options.out or trained.folder.evaluation
    trained.folder.write_json(out, document)
    if options.json:
        console.write_json(document)
    else:
        console.show(accuracy_table(results))
    console.say(f"Written: {out}")
    return 0


def _models(trained: TrainedRun, progress: Progress) -> dict[str, EmbeddingModel]:
    """Return what is judged, by name: the trained network and what it has to beat."""
    from mlcore.evaluation.evaluate import with_baselines
    from mlcore.experiment import initial_model, open_dataset

    if not trained.config.evaluation.baselines:
        return {"trained": trained.model}
    dataset = trained.dataset
    if trained.config.dataset != trained.trained_as.dataset:
        dataset = open_dataset(trained.trained_as, progress)
    untrained = initial_model(trained.trained_as, dataset, progress)
    return with_baselines(trained.model, untrained)
