"""The rows of a comparison: losses, their influence functions, and variations of options."""

from __future__ import annotations

import itertools
import math
from argparse import ArgumentTypeError
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from mlcore.errors import ConfigError
from mlcore.options import (
    Command,
    RawOption,
    RunConfig,
    applicable,
    command_line_option,
    require_effect,
    resolve_run,
)
from mlcore.registry.discovery import Registry

T = TypeVar("T")

_NOT_VARIED = {
    "loss": "use --losses to choose losses",
    "influence": "use --losses LOSS+INFLUENCE",
    "miner": "each loss uses its default miner",
    "seed": "use --seeds",
    "training.checkpoint": "the checkpoint rule must be the same for all rows",
    "training.patience": "the checkpoint rule must be the same for all rows",
}


class Variation(NamedTuple):
    """Options that take the same value, and their values, one per row."""

    options: tuple[str, ...]
    values: tuple[str, ...]

    @property
    def label(self) -> str:
        """The name in a row's name: the last part of the first option."""
        return self.options[0].rpartition(".")[2]


class Setting(NamedTuple):
    """A variation with one of its values."""

    variation: Variation
    value: str

    @property
    def options(self) -> tuple[RawOption, ...]:
        """The options, set to the value."""
        keys = self.variation.options
        return tuple(command_line_option(f"--{key}", self.value) for key in keys)


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        loss: "LOSS" or "LOSS+INFLUENCE".
        settings: What varies.
    """

    loss: str
    settings: tuple[Setting, ...] = ()

    @property
    def name(self) -> str:
        """Name of the row in the table."""
        labels = [f"{s.variation.label}={s.value}" for s in self.settings]
        return " ".join([self.loss, *labels])

    @property
    def folder(self) -> str:
        """The name of its runs on disk, without the seed."""
        return run_name(self.name)

    @property
    def options(self) -> list[RawOption]:
        """The options that define it."""
        loss, _, influence = self.loss.partition("+")
        chosen = [command_line_option("--loss", loss)]
        if influence:
            chosen.append(command_line_option("--influence", influence))
        return [*chosen, *(option for s in self.settings for option in s.options)]

    def without(self, options: Collection[RawOption]) -> Row:
        """Return the row without the settings that only concern these options."""
        kept = [s for s in self.settings if any(o not in options for o in s.options)]
        return Row(self.loss, tuple(kept))


class PartialOption(NamedTuple):
    """An option that some losses of a comparison do not have.

    Attributes:
        option: As the user gave it: "--influence.cutoff_m 3".
        rows: Names of the rows it holds for.
    """

    option: str
    rows: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.option} holds for {', '.join(self.rows)}"


def configure(
    losses: Sequence[str],
    variations: Sequence[Variation],
    given: Sequence[RawOption],
    registry: Registry,
    command: Command,
) -> tuple[dict[Row, RunConfig], list[PartialOption]]:
    """Return the configuration of each row, and the options that hold for some rows only.

    A loss without an option that varies has one row.

    Raises:
        ConfigError: An option is wrong, or none of the losses has it.
    """
    configs: dict[Row, RunConfig] = {}
    rows: list[list[str]] = [[] for _ in given]
    for full in rows_of(losses, variations):
        kept, left_out = applicable([*given, *full.options], registry)
        row = full.without(left_out)
        if row in configs:
            continue
        configs[row] = resolve_run(kept, registry, command=command)
        for names_of_rows, item in zip(rows, given, strict=True):
            if item in kept:
                names_of_rows.append(row.name)
    for names_of_rows, item in zip(rows, given, strict=True):
        if not names_of_rows:  # reading it with a loss says what is wrong
            resolve_run([*given, *next(iter(configs)).options], registry, command=command)
            raise ConfigError(f"{item.label} does not apply to any of the losses")
    for one in variations:
        if not any(setting.variation == one for row in configs for setting in row.settings):
            row = rows_of(losses, [one])[0]
            resolve_run([*given, *row.options], registry, command=command)
            raise ConfigError(f"--vary {one.options[0]}: none of the losses has this option")
    require_effect(configs.values(), [*given, *(o for row in configs for o in row.options)])
    return configs, [
        PartialOption(f"{item.label} {item.value}", tuple(names_of_rows))
        for names_of_rows, item in zip(rows, given, strict=True)
        if len(names_of_rows) < len(configs) and not item.chooses
    ]


def run_name(row_name: str) -> str:
    """Return the name on disk of the runs of a row."""
    return row_name.replace(" ", ",").replace("/", "-")


def rows_of(losses: Sequence[str], variations: Sequence[Variation]) -> list[Row]:
    """Return a row for each loss and each combination of the variations' values.

    Raises:
        ConfigError: Two variations have the same label.
    """
    labels = [variation.label for variation in variations]
    if len(set(labels)) < len(labels):
        raise ConfigError(f"--vary names two options called {max(labels, key=labels.count)!r}")
    settings = [[Setting(one, value) for value in one.values] for one in variations]
    return [
        Row(loss, combination)
        for loss in losses
        for combination in itertools.product(*settings)
    ]


def names(text: str) -> tuple[str, ...]:
    """Read "a,b"."""
    return _distinct(text, str)


def seeds(text: str) -> tuple[int, ...]:
    """Read "0,1"."""
    return _distinct(text, int)


def rates(text: str) -> tuple[float, ...]:
    """Read "1e-3,3e-3"."""
    values = _distinct(text, float)
    for value in values:
        if not 0.0 < value < math.inf:
            raise ArgumentTypeError(f"must be finite and greater than 0, got {value:g}")
    return values


def variation(text: str) -> Variation:
    """Read "OPTION,...=VALUE,..."."""
    options, has_values, values = text.partition("=")
    if not has_values:
        raise ArgumentTypeError(f"expected OPTION,...=VALUE,..., got {text!r}")
    keys = tuple(option.removeprefix("--") for option in _distinct(options, str))
    for key in keys:
        if key in _NOT_VARIED or key.startswith("evaluation."):
            reason = _NOT_VARIED.get(key, "evaluation options must be the same for all rows")
            raise ArgumentTypeError(f"{key!r} cannot be varied: {reason}")
    return Variation(keys, _distinct(values, str))


def settings(text: str) -> dict[str, int | str]:
    """Read "KEY=VALUE,...", with integers as numbers."""
    pairs = [word.partition("=") for word in text.split(",")]
    if not all(key and equals for key, equals, _ in pairs):
        raise ArgumentTypeError(f"expected KEY=VALUE,..., got {text!r}")
    return {key: int(value) if value.isdigit() else value for key, _, value in pairs}


def _distinct(text: str, kind: Callable[[str], T]) -> tuple[T, ...]:
    try:
        values = [kind(word) for word in text.split(",")]
    except ValueError as error:
        message = f"expected values separated by commas, got {text!r}: {error}"
        raise ArgumentTypeError(message) from error
    if len(set(values)) < len(values):
        raise ArgumentTypeError(f"{text!r} contains a value twice")
    return tuple(values)
