"""What commands on a trained run share: its words, its model, its references."""

from __future__ import annotations

import math
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.cli.parser import Parser
from mlcore.errors import ConfigError, DataError
from mlcore.options import RunConfig, reopen_run
from mlcore.registry.discovery import Registry
from mlcore.run_folder import RunFolder

if TYPE_CHECKING:
    from mlcore.evaluation.results import Evaluation
    from mlcore.models.embedding import EmbeddingModel
    from mlcore.protocols import PlaceDataset, Progress, Split
    from mlcore.retrieval.embedder import Embedder


@dataclass(frozen=True, kw_only=True)
class TrainedRun:
    """A run that was trained, opened again.

    Attributes:
        folder: Where it is.
        config: Its configuration, with what the command line changes.
        trained_as: Its configuration when it was trained.
        model: Its network with the trained weights.
        dataset: The data set of ``config``.
    """

    folder: RunFolder
    config: RunConfig
    trained_as: RunConfig
    model: EmbeddingModel
    dataset: PlaceDataset


def parser_of(command: str, summary: str) -> Parser:
    """Return a parser that takes a run, for :func:`reopen`."""
    parser = Parser(
        command,
        summary,
        epilog="Options of the run may be given too: --whitening none, --dimensions 64, "
        "--spacing_m 5 and the rest of --evaluation.*; --dataset NAME, --dataset.OPTION VALUE.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a trained run")
    parser.add_block_option()
    return parser


def add_split(parser: Parser, *choices: str) -> None:
    """Add ``--split``, "test" by default."""
    parser.add_argument(
        "--split", choices=choices, default="test", help="region of the data set"
    )


def parse(parser: Parser, argv: Sequence[str]) -> tuple[Namespace, list[str]]:
    """Return the command's own options and the words that are options of the run.

    These all take a value, so that what follows one is never taken for a run or an image.
    """
    own: list[str] = []
    of_run: list[str] = []
    words = list(argv)
    while words:
        word = words.pop(0)
        name, has_value, _ = word.partition("=")
        if not name.startswith("--") or name == "--" or name in parser.option_names():
            own.append(word)
            continue
        of_run.append(word)
        if not has_value and words and not words[0].startswith("--"):
            of_run.append(words.pop(0))
    return parser.parse_command(own), of_run


def reopen(options: Namespace, words: Sequence[str], parser: Parser) -> TrainedRun:
    """Open the run that ``options`` names, with the changes of ``words``.

    Raises:
        DataError: There is no run, no whole checkpoint, or its data set cannot be opened.
        ConfigError: An option does not exist, or cannot be changed any more.
    """
    folder = RunFolder.open(options.run)
    registry = Registry.discover(block=options.block)
    config = reopen_run(folder.config, words, registry, own_options=parser.option_names())

    from mlcore.experiment import check_dataset, open_dataset, restore

    trained_as, model = restore(folder, registry)
    with console.progress() as progress:
        dataset = open_dataset(config, progress)
    console.notes([*dataset.notes, *check_dataset(config, dataset)])
    return TrainedRun(
        folder=folder, config=config, trained_as=trained_as, model=model, dataset=dataset
    )


def require_folder_of(path: Path | None, option: str) -> None:
    """Raise ConfigError, before long work, if the folder to write into does not exist."""
    if path is not None and not path.absolute().parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.absolute().parent}")


UNTRAINED = "untrained"


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


def add_within(parser: Parser) -> None:
    """Add ``--within M``."""
    parser.add_argument(
        "--within",
        type=float,
        default=10.0,
        metavar="M",
        help="a match nearer than this many metres is right (default: 10)",
    )


def require_within(options: Namespace) -> None:
    """Raise ConfigError unless ``--within`` is a distance."""
    if not 0 < options.within < math.inf:
        raise ConfigError(
            f"--within must be a positive number of metres, got {options.within:g}"
        )


def evaluate_named(
    named: NamedModel, split: Split, split_name: str, progress: Progress
) -> tuple[Embedder, Evaluation]:
    """Return what embeds the model's images, and what it retrieves for a split."""
    from mlcore.evaluation.evaluate import embedder_of, evaluate_model

    embedder = embedder_of(named.model, named.config, progress)
    results = evaluate_model(
        embedder,
        named.dataset,
        split,
        named.config.evaluation,
        name=named.name,
        split_name=split_name,
    )
    return embedder, results
