"""What commands on several trained runs share: each run's model in turn, under a name."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.cli.trained import TrainedRun, reopen, require_folder_of
from mlcore.errors import ConfigError, DataError
from mlcore.options import Parser
from mlcore.records import RunFolder

if TYPE_CHECKING:
    from mlcore.models.embedding import EmbeddingModel
    from mlcore.options import RunConfig
    from mlcore.protocols import PlaceDataset, Progress

UNTRAINED = "untrained"


@dataclass(frozen=True, kw_only=True)
class NamedModel:
    """A model to be shown beside others.

    Attributes:
        name: What figures call it.
        model: The network.
        config: How its images are brought to it and how it is judged.
        dataset: The data set.
    """

    name: str
    model: EmbeddingModel
    config: RunConfig
    dataset: PlaceDataset


def parser_of_runs(command: str, summary: str) -> Parser:
    """Return a parser that takes runs, for :func:`each_model`."""
    parser = Parser(
        command,
        summary,
        epilog="Options of the runs may be given too: --evaluation.*, --dataset NAME, "
        "--dataset.OPTION VALUE. --baselines false leaves the untrained network out.",
    )
    parser.add_argument(
        "runs", metavar="RUN", type=Path, nargs="+", help="folders of trained runs"
    )
    parser.add_block_option()
    return parser


def out_folder(options: Namespace) -> Path:
    """Return the folder that pictures go to: ``--out``, made if need be, or the only run's.

    Raises:
        ConfigError: There are several runs and no ``--out``, or the folder cannot be made.
    """
    if options.out is None:
        if len(options.runs) > 1:
            raise ConfigError("several runs in one picture need --out FOLDER")
        return made(RunFolder.open(options.runs[0]).plots)
    return made(options.out)


def add_out_file(parser: Parser, name: str) -> None:
    """Add ``--out FILE``; ``name`` in ``plots/`` of the only run is the default."""
    parser.add_argument(
        "--out", type=Path, help=f"file to write (default: plots/{name} of the only run)"
    )


def out_file(options: Namespace, name: str) -> Path:
    """Return the file to write, in a folder that exists.

    Raises:
        ConfigError: There are several runs and no ``--out``, the folder does not exist, or
            the file's name ends otherwise than ``name``.
    """
    suffix = Path(name).suffix
    if options.out is None:
        if len(options.runs) > 1:
            raise ConfigError(f"several runs in one picture need --out FILE{suffix}")
        return made(RunFolder.open(options.runs[0]).plots) / name
    out: Path = options.out
    if out.suffix.lower() != suffix:
        raise ConfigError(f"--out {out} must end in {suffix}")
    require_folder_of(out, "--out")
    return out


def made(folder: Path) -> Path:
    """Return the folder, which exists now.

    Raises:
        ConfigError: It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"--out {folder} cannot be made: {error.strerror}") from error
    return folder


def each_model(
    options: Namespace,
    words: Sequence[str],
    parser: Parser,
    progress: Progress,
    *,
    untrained: bool = True,
) -> Iterator[NamedModel]:
    """Yield the network the first run started from, then each run's trained one.

    One at a time, so that no two have to be in memory. The first is left out without
    ``evaluation.baselines``.

    Raises:
        DataError: There is no run, or the runs are of different data sets.
        ConfigError: An option does not exist, or cannot be changed any more.
    """
    names = short_names(options.runs)
    fingerprint = ""
    for place, path in enumerate(options.runs):
        trained = reopen(Namespace(**{**vars(options), "run": path}), words, parser)
        found = trained.dataset.fingerprint
        if place == 0:
            fingerprint = found
            if untrained and trained.config.evaluation.baselines:
                yield _named(UNTRAINED, trained, untrained_model(trained, progress))
        elif found != fingerprint:
            raise DataError(
                f"{path} has other data ({found}) than {options.runs[0]} ({fingerprint}); "
                "give all the same --dataset and its options"
            )
        yield _named(names[place], trained, trained.model)


def untrained_model(trained: TrainedRun, progress: Progress) -> EmbeddingModel:
    """Return the network as the run's training started from it."""
    from mlcore.experiment import initial_model, open_dataset

    dataset = trained.dataset
    if trained.config.dataset != trained.trained_as.dataset:
        dataset = open_dataset(trained.trained_as, progress)
    return initial_model(trained.trained_as, dataset, progress).eval()


def short_names(paths: Sequence[Path]) -> list[str]:
    """Return the folders' names, or whole paths where names are the same."""
    names = [path.resolve().name for path in paths]
    return names if len(set(names)) == len(names) else [str(path) for path in paths]


def _named(name: str, trained: TrainedRun, model: EmbeddingModel) -> NamedModel:
    return NamedModel(name=name, model=model, config=trained.config, dataset=trained.dataset)
