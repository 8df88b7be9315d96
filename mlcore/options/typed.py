"""Command-line texts to typed values and help, by jsonargparse.

jsonargparse only ever sees options that exist, spelled out and with a value each; see
:mod:`mlcore.options.raw` for why.
"""

from __future__ import annotations

import json
from argparse import SUPPRESS, ArgumentError, HelpFormatter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_origin

from jsonargparse import ArgumentParser, set_loader

from mlcore.errors import ConfigError
from mlcore.option_types import NONE, Option, allows_none, item_hints, members
from mlcore.options.raw import Given
from mlcore.options.sections import Section

_YAML_FLOATS = {"inf": ".inf", "+inf": ".inf", "-inf": "-.inf", "nan": ".nan"}


def parse(given: Sequence[Given], sections: Mapping[str, Section]) -> dict[str, dict[str, Any]]:
    """Return every option's typed value by section and name; ``given`` beats the default.

    Raises:
        ConfigError: A value is not of its option's type.
    """
    parser = build_parser(sections.values())
    words = [_word(item, sections[item.section].options[item.option]) for item in given]
    try:
        values = parser.parse_args(words)
    except ArgumentError:
        for item, word in zip(given, words, strict=True):
            _check_alone(parser, item, word, sections[item.section].options[item.option])
        raise
    return {
        section.name: {option: values[section.key(option)] for option in section.options}
        for section in sections.values()
    }


def build_parser(sections: Iterable[Section]) -> ArgumentParser:
    """Return a jsonargparse parser that has the sections' options and no others."""
    # The mode must be known to jsonargparse before a parser can have it.
    set_loader("mlcore", _load, (ValueError,))
    parser = ArgumentParser(
        add_help=False,
        allow_abbrev=False,
        default_env=False,
        exit_on_error=False,
        formatter_class=HelpFormatter,
        parser_mode="mlcore",
        usage=SUPPRESS,
    )
    for section in sections:
        group = parser.add_argument_group(section.title, section.summary)
        for option in section.options.values():
            group.add_argument(
                f"--{section.key(option.name)}",
                type=_argument_type(option.hint),
                default=option.default,
                metavar=option.metavar,
                help=f"{option.help} (default: {option.default_text})".replace("%", "%%"),
            )
    return parser


def _argument_type(hint: Any) -> Any:
    """Return the hint, or a function for texts, which jsonargparse would read as JSON."""
    kind, *others = members(hint)
    if others or kind not in (str, Path):
        return hint

    def text(word: str) -> Any:
        return None if word == NONE and allows_none(hint) else kind(word)

    return text


def _word(given: Given, option: Option) -> str:
    text = given.value
    if text is None and option.hint is bool:
        text = "true"
    if text is None:
        raise ConfigError(f"{given.label} needs a value: {option.type_name}")
    return f"--{given.key}={_json_text(text, option.hint)}"


def _json_text(text: str, hint: Any) -> str:
    """Return the text in the notation that jsonargparse reads values of the type in."""
    first = members(hint)[0]
    if get_origin(first) is tuple and not text.startswith("[") and text != NONE:
        items = text.split(",") if text else []
        try:
            hints = item_hints(first, len(items))
        except ValueError:
            return text  # its wrong length is told as any other wrong value
        return json.dumps([_json_text(*pair) for pair in zip(items, hints, strict=True)])
    if float in members(hint):
        return _YAML_FLOATS.get(text.lower(), text)
    return text


def _load(text: str) -> Any:
    if text == NONE:
        return None
    try:
        return json.loads(text)
    except ValueError:
        return text


def _check_alone(parser: ArgumentParser, given: Given, word: str, option: Option) -> None:
    """Raise ConfigError if this option's value is what jsonargparse refuses."""
    try:
        parser.parse_args([word])
    except ArgumentError as error:
        raise ConfigError(
            f"{given.label}: expected {option.type_name}, got {given.value!r}"
        ) from error
