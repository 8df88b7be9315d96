"""The options of a dataclass, with what its annotations and docstring say of them."""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

from mlcore.errors import ConfigError
from mlcore.option_types.ranges import FINITE, Range, RelativeTo
from mlcore.option_types.values import (
    NONE,
    allows_none,
    from_plain,
    from_text,
    members,
    plain_text,
    to_plain,
    type_name,
)

_SCALARS = (bool, int, float, str, Path)
_LARGEST_INT = 2**63 - 1
"""Integers of arrays and of most TOML readers have 64 bits."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a component or of the engine.

    Attributes:
        name: Field name.
        hint: Its resolved type, without annotations.
        default: Its default value.
        help: What the class's docstring says of it, on one line.
        range: The numbers it accepts, if it is a number.
        relative_to: The option that names the folder of a relative path; empty: none does.
    """

    name: str
    hint: Any
    default: Any
    help: str = ""
    range: Range = FINITE
    relative_to: str = ""

    @property
    def type_name(self) -> str:
        """The type in words: "float or none"."""
        return type_name(self.hint)

    @property
    def values_text(self) -> str:
        """The type in words, with its range: "int, at least 1"."""
        return f"{self.type_name}, {self.range}" if str(self.range) else self.type_name

    @property
    def metavar(self) -> str:
        """What stands for the value in help: "FLOAT", "{a,b}", "INT,INT"."""
        return _metavar(self.hint)

    @property
    def default_text(self) -> str:
        """The default as it would be typed on the command line."""
        return plain_text(self.default) or '""'

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that the value may be; empty for one that is not a choice."""
        words = [str(v) for m in members(self.hint) for v in _choices(m)]
        return (*words, NONE) if words and allows_none(self.hint) else tuple(words)

    def from_text(self, text: str) -> Any:
        """Return the value that a text on the command line stands for.

        Raises:
            ValueError: The text does not stand for a value of the option's type.
        """
        return from_text(text, self.hint)

    def from_plain(self, value: Any) -> Any:
        """Return the value that TOML holds as ``value``.

        Raises:
            ValueError: ``value`` is not of the option's type.
        """
        return from_plain(value, self.hint)

    def check(self, value: Any) -> None:
        """Raise ValueError if a number is outside the option's range."""
        for number in _numbers(value):
            if number not in self.range:
                accepted = str(self.range) or ("a number" if self.range.infinite else "finite")
                if number in replace(self.range, infinite=True):
                    accepted = "finite"
                raise ValueError(f"must be {accepted}, got {plain_text(value)}")
            if isinstance(number, int) and abs(number) > _LARGEST_INT:
                raise ValueError(f"must be at most {_LARGEST_INT:,}, got {plain_text(value)}")


def options_of(config: type[Any]) -> tuple[Option, ...]:
    """Return the options of a dataclass with the help of its ``Attributes:`` section."""
    helps = _attribute_docs(config)
    return tuple(_options(config, get_type_hints(config, include_extras=True), helps))


def check_ranges(options: Any) -> None:
    """Raise ValueError if a number of a dataclass instance is none, or outside its range.

    For the ``__post_init__`` of options that are also built without a command line.
    """
    config: Any = type(options)
    for option in _without_help(config):
        value = getattr(options, option.name)
        if option.hint in (int, float) and not hasattr(value, "__float__"):
            raise ValueError(f"{option.name} must be a number, got {value!r}")
        try:
            option.check(value)
        except ValueError as error:
            raise ValueError(f"{option.name} {error}") from None


def require_unchanged(section: str, options: Any, names: Collection[str], reason: str) -> None:
    """Refuse options of a component that it does not read with these others.

    Args:
        section: Of the options, such as "loss".
        options: Dataclass instance.
        names: The options that are not read; those that have their defaults pass.
        reason: What they have no effect with, and how to fix it.

    Raises:
        ConfigError: One is not its default; names it, its value and the reason.
    """
    config: Any = type(options)
    for option in _without_help(config):
        value = getattr(options, option.name)
        if option.name in names and value != option.default:
            raise ConfigError(
                f"{section}.{option.name} {plain_text(value)} has no effect with {reason}"
            )


@functools.cache
def _without_help(config: type[Any]) -> tuple[Option, ...]:
    # Resolving annotations takes longer than a small batch's loss, whose options are checked
    # on each call.
    return tuple(_options(config, get_type_hints(config, include_extras=True)))


def check_options(config: type[Any]) -> None:
    """Check that every option can be shown on a command line and kept in TOML.

    Raises:
        TypeError: One cannot; names the field and its type.
    """
    try:
        hints = get_type_hints(config, include_extras=True)
    except Exception as error:
        raise TypeError(f"its types cannot be resolved: {error}") from error
    names = {field.name for field in fields(config)}
    for option in _options(config, hints):
        field = f"field {option.name!r}"
        if not _is_supported(option.hint):
            raise TypeError(
                f"{field} has type {type_name(option.hint)}, which is not "
                "supported on the command line; use bool, int, float, str, Path, Literal, "
                "a tuple of these, a number | Literal, or one of them | None"
            )
        try:
            kept = from_plain(to_plain(option.default), option.hint) == option.default
        except ValueError:
            kept = False
        if not kept:
            raise TypeError(
                f"{field} has the default {option.default!r}, "
                f"which is not of type {type_name(option.hint)}"
            )
        try:
            option.check(option.default)
        except ValueError as error:
            raise TypeError(f"the default of {field} {error}") from error
        if option.relative_to and option.relative_to not in names:
            raise TypeError(
                f"{field} is relative to {option.relative_to!r}, which is not a field"
            )


def _options(
    config: type[Any], hints: Mapping[str, Any], helps: Mapping[str, str] | None = None
) -> Iterator[Option]:
    for field in fields(config):
        hint, *notes = _split_annotated(hints[field.name])
        default = _default(field)
        infinite = any(math.isinf(number) for number in _numbers(default))
        ranges = [note for note in notes if isinstance(note, Range)]
        folders = [note.option for note in notes if isinstance(note, RelativeTo)]
        yield Option(
            name=field.name,
            hint=hint,
            default=default,
            help=(helps or {}).get(field.name, ""),
            range=ranges[0] if ranges else Range(infinite=infinite),
            relative_to=folders[0] if folders else "",
        )


def _split_annotated(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) is Annotated else (hint,)


def _numbers(value: Any) -> list[float]:
    items = value if isinstance(value, tuple) else (value,)
    return [item for item in items if isinstance(item, int | float)]


def _metavar(hint: Any) -> str:
    names = [_one_metavar(member) for member in members(hint)]
    return "|".join([*names, NONE] if allows_none(hint) else names)


def _one_metavar(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "{" + ",".join(str(value) for value in get_args(hint)) + "}"
    if get_origin(hint) is tuple:
        return ",".join("..." if item is ... else _metavar(item) for item in get_args(hint))
    return "true|false" if hint is bool else type_name(hint).upper()


def _is_supported(hint: Any) -> bool:
    types_offered = members(hint)
    words = [m for m in types_offered if get_origin(m) is Literal]
    if allows_none(hint) and any(NONE in get_args(member) for member in words):
        return False  # "none" would have two meanings
    if len(types_offered) == 2:
        numbers = [member for member in types_offered if member in (int, float)]
        return len(numbers) == len(words) == 1 and _is_scalar(words[0])
    if get_origin(hint := types_offered[0]) is tuple:
        items = [item for item in get_args(hint) if item is not ...]
        return bool(items) and all(_is_scalar(item) for item in items)
    return len(types_offered) == 1 and _is_scalar(hint)


def _is_scalar(hint: Any) -> bool:
    if get_origin(hint) is Literal:
        return all(type(value) in (str, int) for value in get_args(hint))
    return hint in _SCALARS


def _choices(hint: Any) -> tuple[Any, ...]:
    if hint is bool:
        return ("true", "false")
    return get_args(hint) if get_origin(hint) is Literal else ()


def _default(field: Field[Any]) -> Any:
    if field.default is not MISSING:
        return field.default
    assert field.default_factory is not MISSING, "the registry refuses such a field"
    return field.default_factory()


def _attribute_docs(config: type[Any]) -> Mapping[str, str]:
    """Return what the docstrings' ``Attributes:`` sections say, base classes' included."""
    from docstring_parser import DocstringStyle, parse

    found: dict[str, str] = {}
    for owner in reversed(config.__mro__):
        docs = parse(owner.__doc__ or "", style=DocstringStyle.GOOGLE)
        for doc in docs.params:
            found[doc.arg_name] = " ".join((doc.description or "").split())
    return found
