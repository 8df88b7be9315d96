"""The sections of one run's configuration: which options exist, their values, their help."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mlcore.errors import ConfigError
from mlcore.factories import Factory
from mlcore.option_types import NOT_NEGATIVE, Option, options_of, to_plain
from mlcore.options.config import ENGINE
from mlcore.options.raw import RawOption

_SEED = Option(
    name="seed",
    hint=int,
    default=0,
    help="Seed from which all random numbers are derived.",
    range=NOT_NEGATIVE,
)


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of a configuration, as parsers and messages need it.

    Attributes:
        name: "loss", "sampling", ...; empty for the options without a section.
        title: What it is, for a message or a headline of the help.
        summary: A line below the headline.
        options: Its options, by name.
    """

    name: str
    title: str
    options: Mapping[str, Option]
    summary: str = ""

    @classmethod
    def of(cls, config: type[Any], *, name: str = "", title: str, summary: str = "") -> Section:
        """Return the section of a dataclass of options."""
        options = {option.name: option for option in options_of(config)}
        return cls(name=name, title=title, options=options, summary=summary)

    def flag(self, option: str) -> str:
        """Return the flag of an option on the command line."""
        return f"--{self.name}.{option}" if self.name else f"--{option}"


def sections_of(factories: Mapping[str, Factory]) -> dict[str, Section]:
    """Return the sections of a run with these components, the engine's included."""
    sections = {"": Section(name="", title="run", options={"seed": _SEED})}
    for name, factory in factories.items():
        sections[name] = Section.of(
            factory.config,
            name=name,
            title=f"{name} {factory.name!r}",
            summary=factory.summary,
        )
    for name, config in ENGINE.items():
        sections[name] = Section.of(config, name=name, title=name)
    return sections


def values_of(
    sections: Mapping[str, Section], given: Sequence[RawOption]
) -> dict[str, dict[str, Any]]:
    """Return every option's typed value by section and name; of several, the last holds.

    Raises:
        ConfigError: A value is not of its option's type, or outside its range.
    """
    values = {
        name: {option.name: option.default for option in section.options.values()}
        for name, section in sections.items()
    }
    for item in given:
        option = sections[item.section].options[item.option]
        values[item.section][item.option] = _typed(item, option)
    return values


def construct(config: type[Any], values: Mapping[str, Any], title: str) -> Any:
    """Return the dataclass of a section.

    Raises:
        ConfigError: The dataclass refuses the values.
    """
    defaults = config()
    options = {option.name: option for option in options_of(config)}
    resolved = {
        name: value
        if value == getattr(defaults, name)
        else _absolute(value, values.get(options[name].relative_to))
        for name, value in values.items()
    }
    try:
        return config(**resolved)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{title}: {error}") from error


def format_help(sections: Iterable[Section]) -> str:
    """Return the help of the sections' options."""
    parser = argparse.ArgumentParser(add_help=False, usage=argparse.SUPPRESS)
    for section in sections:
        group = parser.add_argument_group(section.title, section.summary)
        for option in section.options.values():
            accepted = f"{option.range}; " if str(option.range) else ""
            text = f"{option.help} ({accepted}default: {option.default_text})"
            group.add_argument(
                section.flag(option.name),
                metavar=option.metavar,
                help=text.replace("%", "%%"),
            )
    return parser.format_help()


def to_document(options: Any) -> dict[str, Any]:
    """Return a dataclass of options as TOML can hold it."""
    return {field.name: to_plain(getattr(options, field.name)) for field in fields(options)}


def _typed(item: RawOption, option: Option) -> Any:
    try:
        if item.file is None and isinstance(item.value, str):
            value = option.from_text(item.value)
        elif item.file is not None or item.value is not None:
            value = option.from_plain(item.value)
        elif option.hint is bool:
            return True
        else:
            raise ConfigError(f"{item.label} needs a value: {option.values_text}")
    except ValueError as error:
        raise ConfigError(f"{item.label}: {error}") from error
    try:
        option.check(value)
    except ValueError as error:
        raise ConfigError(f"{item.label} {error}") from error
    return value


def _absolute(value: Any, folder: Path | None) -> Any:
    """Return a path that a user gave as absolute, so that it means the same elsewhere."""
    if isinstance(value, tuple):
        return tuple(_absolute(item, folder) for item in value)
    if not isinstance(value, Path):
        return value
    path = value.expanduser().absolute()
    if folder is None or value.expanduser().is_absolute():
        return path
    in_folder = folder.expanduser().absolute() / value
    return path if path.exists() and not in_folder.exists() else in_folder
