"""The sections of one run's configuration: which options exist, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from mlcore.errors import ConfigError
from mlcore.factories import Factory
from mlcore.option_types import Option, from_plain, options_of
from mlcore.options.config import ENGINE
from mlcore.options.raw import Given

_SEED = Option(name="seed", hint=int, default=0, help="Seed from which all others are derived.")

_CHOOSING = (
    "--config FILE reads options from TOML; --dataset, --model (or --backbone and --pooling), "
    "--loss, --influence and --miner NAME choose components, whose options follow (see "
    "'mlcore list')."
)


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of a configuration, with what a parser and a message need.

    Attributes:
        name: "loss", "sampling", ...; empty for the options without a section.
        title: What it is, for a message or a headline of the help.
        summary: A line below the headline.
        options: Its options, by name, with the defaults that hold for this run.
    """

    name: str
    title: str
    options: Mapping[str, Option]
    summary: str = ""

    def key(self, option: str) -> str:
        """Return section and option as one dotted word."""
        return f"{self.name}.{option}" if self.name else option


def sections_of(factories: Mapping[str, Factory]) -> dict[str, Section]:
    """Return the sections of a run with these components, the engine's included."""
    sections = {"": Section(name="", title="run", options={"seed": _SEED}, summary=_CHOOSING)}
    for name, factory in factories.items():
        sections[name] = Section(
            name=name,
            title=f"{name} {factory.name!r}",
            options={option.name: option for option in options_of(factory.config)},
            summary=factory.summary,
        )
    for name, config in ENGINE.items():
        options = {option.name: option for option in options_of(config)}
        sections[name] = Section(name=name, title=name, options=options)
    return sections


def with_defaults(
    sections: Mapping[str, Section], given: Sequence[Given]
) -> dict[str, Section]:
    """Return the sections with the values that files give as defaults.

    Raises:
        ConfigError: A value is not of its option's type.
    """
    changed = dict(sections)
    for item in given:
        section = changed[item.section]
        option = section.options[item.option]
        try:
            value = from_plain(item.value, option.hint)
        except ValueError as error:
            raise ConfigError(f"{item.label}: {error}") from error
        options = {**section.options, item.option: replace(option, default=value)}
        changed[item.section] = replace(section, options=options)
    return changed
