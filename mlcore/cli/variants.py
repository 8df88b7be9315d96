"""The rows of a comparison: losses, their influence functions, and variations of options."""

from __future__ import annotations

import itertools
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, TypeVar

from mlcore.errors import ConfigError

T = TypeVar("T")


class Variation(NamedTuple):
    """Options that take the same value, and the values they take in turn."""

    options: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def label(self) -> str:
        """What a row is named by: the last word of the first option."""
        return self.options[0].rpartition(".")[2]


class Row(NamedTuple):
    """A row of the table.

    Attributes:
        name: As the table has it.
        words: Words of a command line that make it.
    """

    name: str
    words: tuple[str, ...]

    @property
    def folder(self) -> str:
        """What its runs are named by on disk."""
        return self.name.replace(" ", ",").replace("/", "-")


def rows_of(losses: Sequence[str], variations: Sequence[Variation]) -> list[Row]:
    """Return a row for each loss and each combination of the variations' values.

    Raises:
        ConfigError: Two variations would be named alike.
    """
    labels = [variation.label for variation in variations]
    if len(set(labels)) < len(labels):
        raise ConfigError(f"--vary has two options called {max(labels, key=labels.count)!r}")
    values = [variation.values for variation in variations]
    rows = []
    for loss, combination in itertools.product(losses, list(itertools.product(*values))):
        settings = zip(variations, combination, strict=True)
        names = [
            loss,
            *(f"{label}={value}" for label, value in zip(labels, combination, strict=True)),
        ]
        rows.append(Row(" ".join(names), (*_loss(loss), *_words(settings))))
    return rows


def _loss(name: str) -> Iterator[str]:
    loss, _, influence = name.partition("+")
    yield from ("--loss", loss)
    if influence:
        yield from ("--influence", influence)


def _words(settings: Iterator[tuple[Variation, str]]) -> Iterator[str]:
    for variation, value in settings:
        for option in variation.options:
            yield from (f"--{option}", value)


def names(text: str) -> tuple[str, ...]:
    """Read "a,b"."""
    return _distinct(text, str)


def seeds(text: str) -> tuple[int, ...]:
    """Read "0,1"."""
    return _distinct(text, int)


def rates(text: str) -> tuple[float, ...]:
    """Read "1e-3,3e-3"."""
    return _distinct(text, float)


def variation(text: str) -> Variation:
    """Read "OPTION,...=VALUE,..."."""
    options, has_values, values = text.partition("=")
    if not has_values:
        raise ArgumentTypeError(f"{text!r} is not OPTION,...=VALUE,...")
    keys = tuple(option.removeprefix("--") for option in _distinct(options, str))
    for key in keys:
        if key in ("loss", "influence", "seed", "miner") or key.startswith("evaluation."):
            raise ArgumentTypeError(f"{key!r} cannot vary; losses are told by --losses")
    return Variation(keys, _distinct(values, str))


def settings(text: str) -> dict[str, int | str]:
    """Read "KEY=VALUE,...", with whole numbers as numbers."""
    pairs = [word.partition("=") for word in text.split(",")]
    if not all(key and equals for key, equals, _ in pairs):
        raise ArgumentTypeError(f"{text!r} is not KEY=VALUE,...")
    return {key: int(value) if value.isdigit() else value for key, _, value in pairs}


def _distinct(text: str, kind: Callable[[str], T]) -> tuple[T, ...]:
    try:
        values = [kind(word) for word in text.split(",")]
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no comma-separated list: {error}") from error
    if len(set(values)) < len(values):
        raise ArgumentTypeError(f"{text!r} has one of them twice")
    return tuple(values)
