"""Arguments shared by commands on trained runs, and opening their models."""

from __future__ import annotations

import math
import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.parser import Parser
from mlcore.distributed import require_open_files
from mlcore.errors import ConfigError, DataError
from mlcore.options import Command, RawOption, RunConfig, reopen_run
from mlcore.registry.discovery import Registry
from mlcore.run_folder import RunFolder

if TYPE_CHECKING:
    from mlcore.evaluation.results import Evaluation
    from mlcore.models.embedding import EmbeddingModel
    from mlcore.protocols import PlaceDataset, Progress, Split
    from mlcore.retrieval.embedder import Embedder

UNTRAINED = "untrained"

RETRIEVAL_OPTIONS = ("whitening", "dimensions", "whitening_images", "spacing_m", "batch_size")
"""Options of ``[evaluation]`` that decide what is retrieved; the others measure it."""


def parser_for_run(
    command: str, summary: str, *, evaluation: Sequence[str] | None = None
) -> Parser:
    """Return a parser of a command on one run, and on options of that run.

    Args:
        command: Name of the command.
        summary: What it does.
        evaluation: The options of ``[evaluation]`` that it uses; None: all of them.
    """
    parser = Parser(
        command,
        summary,
        takes_run_options=True,
        evaluation=evaluation,
        epilog=f"Options of the run can be changed: {_evaluation_flags(evaluation)} (also "
        "without the prefix, as in --whitening none or --dimensions 64), --dataset NAME, "
        "--dataset.OPTION VALUE.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a trained run")
    parser.add_block_option()
    return parser


def parser_for_runs(
    command: str, summary: str, *, evaluation: Sequence[str] | None = None
) -> Parser:
    """Return a parser of a command on several runs, for :func:`models_of_runs`.

    Args:
        command: Name of the command.
        summary: What it does.
        evaluation: The options of ``[evaluation]`` that it uses; None: all of them.
    """
    parser = Parser(
        command,
        summary,
        takes_run_options=True,
        evaluation=evaluation,
        epilog=f"Options of the runs can be changed: {_evaluation_flags(evaluation)}, "
        "--dataset NAME, --dataset.OPTION VALUE. --baselines false leaves the untrained "
        "network out.",
    )
    parser.add_argument(
        "runs", metavar="RUN", type=Path, nargs="+", help="folders of trained runs"
    )
    parser.add_block_option()
    return parser


def _evaluation_flags(evaluation: Sequence[str] | None) -> str:
    if evaluation is None:
        return "--evaluation.*"
    return ", ".join(f"--evaluation.{name}" for name in evaluation)


def add_split(parser: Parser, *choices: str) -> None:
    """Add ``--split``, "test" by default."""
    parser.add_argument(
        "--split",
        choices=choices,
        default="test",
        help="split of the data set (default: test)",
    )


WITHIN_M = 10.0


def add_within(parser: Parser) -> None:
    """Add ``--within M``."""
    parser.add_argument(
        "--within",
        type=float,
        default=WITHIN_M,
        metavar="M",
        help="distance in metres below which a match counts as correct (default: 10)",
    )


def require_within(options: Namespace) -> None:
    """Raise ConfigError unless ``--within`` is a distance."""
    if not 0 < options.within < math.inf:
        raise ConfigError(
            f"--within must be a positive number of metres, got {options.within:g}"
        )


def add_out_file(parser: Parser, name: str) -> None:
    """Add ``--out FILE``; ``name`` in ``plots/`` of the only run is the default."""
    parser.add_argument(
        "--out", type=Path, help=f"file to write (default for one run: RUN/plots/{name})"
    )


def out_file(options: Namespace, name: str) -> Path:
    """Return the file to write, in a folder that exists.

    Raises:
        ConfigError: There are several runs and no ``--out``, the folder does not exist, or
            the file's suffix is not that of ``name``.
    """
    suffix = Path(name).suffix
    if options.out is None:
        return _plots_of_only_run(options, f"FILE{suffix}") / name
    out: Path = options.out
    require_output_file(out, "--out", suffix)
    return out


def out_folder(options: Namespace) -> Path:
    """Return the folder that pictures go to: ``--out``, created if missing, or the only run's.

    Raises:
        ConfigError: There are several runs and no ``--out``, or the folder cannot be created.
    """
    if options.out is None:
        return _plots_of_only_run(options, "FOLDER")
    return _make(options.out)


def require_parent(path: Path | None, option: str) -> None:
    """Raise ConfigError, before long work, if the folder to write into cannot take files."""
    if path is None:
        return
    folder = path.absolute().parent
    if not folder.is_dir():
        raise ConfigError(f"{option} {path}: the folder {folder} does not exist")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{option} {path}: the folder {folder} cannot be written to")


def require_output_file(path: Path | None, option: str, suffix: str = "") -> None:
    """Raise ConfigError, before long work, if a file cannot be written there.

    Args:
        path: The file; None where the option is not given.
        option: That names it.
        suffix: That the file must have; "": any.
    """
    require_parent(path, option)
    if path is not None and path.is_dir():
        raise ConfigError(f"{option} {path} is a folder; give the name of a file")
    if path is not None and suffix and path.suffix.lower() != suffix:
        raise ConfigError(f"{option} {path} must end in {suffix}")


def _plots_of_only_run(options: Namespace, wanted: str) -> Path:
    if len(options.runs) > 1:
        raise ConfigError(f"several runs need --out {wanted}")
    return _make(RunFolder.open(options.runs[0]).plots)


def _make(folder: Path) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder} cannot be created: {error.strerror}") from error
    return folder


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A trained run, opened again.

    Attributes:
        folder: Where it is.
        config: Its configuration, with the changes of the command line.
        trained_as: Its configuration when it was trained.
        model: Its network with the trained weights.
        dataset: The data set of ``config``.
    """

    folder: RunFolder
    config: RunConfig
    trained_as: RunConfig
    model: EmbeddingModel
    dataset: PlaceDataset

    def untrained_model(self, progress: Progress) -> EmbeddingModel:
        """Return the network that training started from."""
        from mlcore.experiment import initial_model, open_dataset

        dataset = self.dataset
        if self.config.dataset != self.trained_as.dataset:
            dataset = open_dataset(self.trained_as, progress)
        return initial_model(self.trained_as, dataset, progress).eval()


def open_run(
    path: Path, changes: Sequence[RawOption], block: Sequence[str], command: Command
) -> TrainedRun:
    """Open a trained run with the changes of the command line.

    Raises:
        DataError: There is no run, no intact checkpoint, or its data set cannot be opened.
        ConfigError: An option does not exist, or cannot be changed after training.
    """
    folder = RunFolder.open(path)
    registry = Registry.discover(block=block)
    config = reopen_run(folder.config, changes, registry, command=command)
    require_open_files(config.training.num_workers)

    from mlcore.experiment import check_dataset, open_dataset, restore

    with console.progress() as progress:
        dataset = open_dataset(config, progress)
    console.notes([*dataset.notes, *check_dataset(config, dataset)])
    trained_as, model = restore(folder, registry)
    if command.evaluation is None or "dimensions" in command.evaluation:
        _require_whitening(config, changes, model, dataset)
    return TrainedRun(
        folder=folder, config=config, trained_as=trained_as, model=model, dataset=dataset
    )


def _require_whitening(
    config: RunConfig,
    changes: Sequence[RawOption],
    model: EmbeddingModel,
    dataset: PlaceDataset,
) -> None:
    """Raise ConfigError for an option of whitening where "auto" turns out to be none."""
    from mlcore.retrieval.references import whitening_source

    given = [item for item in changes if item.option in ("dimensions", "whitening_images")]
    if given and whitening_source(config.evaluation, model, dataset) == "none":
        raise ConfigError(
            f"{given[0].label} has no effect with --evaluation.whitening "
            f"{config.evaluation.whitening}, which whitens nothing here; choose --whitening "
            "train or references"
        )


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model to be shown beside others.

    Attributes:
        name: What figures call it.
        model: The network.
        config: How its images are prepared and how it is evaluated.
        dataset: The data set.
    """

    name: str
    model: EmbeddingModel
    config: RunConfig
    dataset: PlaceDataset

    def evaluate(
        self, split: Split, split_name: str, progress: Progress
    ) -> tuple[Embedder, Evaluation]:
        """Return the model's embedder and its results on a split."""
        from mlcore.evaluation.evaluate import embedder_of, evaluate_model

        embedder = embedder_of(self.model, self.config, progress)
        results = evaluate_model(
            embedder,
            self.dataset,
            split,
            self.config.evaluation,
            name=self.name,
            split_name=split_name,
        )
        return embedder, results


def models_of_runs(
    options: Namespace, changes: Sequence[RawOption], command: Command, progress: Progress
) -> Iterator[NamedModel]:
    """Yield the network that the first run started from, then each run's trained one.

    Only one is in memory at a time. The first is left out without ``evaluation.baselines``.

    Raises:
        DataError: There is no run, or the runs are of different data sets.
        ConfigError: An option does not exist, or cannot be changed after training.
    """
    names = short_names(options.runs)
    fingerprint = ""
    for name, path in zip(names, options.runs, strict=True):
        run = open_run(path, changes, options.block, command)
        found = run.dataset.fingerprint
        if not fingerprint:
            fingerprint = found
            if run.config.evaluation.baselines:
                yield _as_named(UNTRAINED, run, run.untrained_model(progress))
        elif found != fingerprint:
            raise DataError(
                f"{path} was trained on other data (fingerprint {found}) than "
                f"{options.runs[0]} ({fingerprint}); give --dataset and its options, which "
                "then hold for all runs"
            )
        yield _as_named(name, run, run.model)


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the folders' names, or whole paths where two names are the same."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _as_named(name: str, run: TrainedRun, model: EmbeddingModel) -> NamedModel:
    return NamedModel(name=name, model=model, config=run.config, dataset=run.dataset)
