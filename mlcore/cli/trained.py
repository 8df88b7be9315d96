"""What commands on a trained run share: its words, its model, its references."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlcore.cli import console
from mlcore.errors import ConfigError
from mlcore.options import Parser, RunConfig, reopen_run
from mlcore.records import RunFolder
from mlcore.registry import Registry

if TYPE_CHECKING:
    from argparse import Namespace

    from mlcore.models.embedding import EmbeddingModel
    from mlcore.protocols import PlaceDataset


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

    from mlcore.experiment import open_dataset, restore

    trained_as, model = restore(folder, registry)
    with console.progress() as progress:
        dataset = open_dataset(config, progress)
    console.notes(dataset.notes)
    return TrainedRun(
        folder=folder, config=config, trained_as=trained_as, model=model, dataset=dataset
    )


def require_folder_of(path: Path | None, option: str) -> None:
    """Raise ConfigError, before long work, if the folder to write into does not exist."""
    if path is not None and not path.absolute().parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no folder {path.absolute().parent}")
