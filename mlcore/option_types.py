"""What types an option may have, and how its value is written in TOML and read back.

An option is a field of a frozen dataclass. Its type is one of bool, int, float, str,
``pathlib.Path``, a ``Literal`` of strings or integers, a tuple of these, a number or a
``Literal``, or one of all that ``| None``: what a person can type on a command line and
read in a TOML file. TOML has no null, so None is the word "none" there and on the command
line.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

NONE = "none"
"""The word for None in TOML and on the command line, where the type has None."""

_SCALARS = (bool, int, float, str, Path)


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option of a component or of the engine.

    Attributes:
        name: Field name.
        hint: Its resolved type.
        default: Its default value.
        help: What the class's docstring says of it, on one line.
    """

    name: str
    hint: Any
    default: Any
    help: str = ""

    @property
    def type_name(self) -> str:
        """The type as a person would say it."""
        return type_name(self.hint)

    @property
    def metavar(self) -> str:
        """What stands for the value in a help: "FLOAT", "{a,b}", "INT,INT"."""
        return _metavar(self.hint)

    @property
    def default_text(self) -> str:
        """The default as it would be typed on the command line."""
        return plain_text(self.default) or '""'


def options_of(config: type[Any]) -> tuple[Option, ...]:
    """Return the options of a dataclass with the help of its ``Attributes:`` section."""
    helps = _attribute_docs(config)
    hints = get_type_hints(config)
    return tuple(
        Option(
            name=field.name,
            hint=hints[field.name],
            default=_default(field),
            help=helps.get(field.name, ""),
        )
        for field in fields(config)
    )


def check_options(config: type[Any]) -> None:
    """Check that every option can be shown on a command line and kept in TOML.

    Raises:
        TypeError: One cannot; names the field and its type.
    """
    try:
        hints = get_type_hints(config)
    except Exception as error:
        raise TypeError(f"its types cannot be resolved: {error}") from error
    for field in fields(config):
        hint = hints[field.name]
        if not _is_showable(hint):
            raise TypeError(
                f"field {field.name!r} has type {type_name(hint)}, which cannot be shown on a "
                "command line; use bool, int, float, str, Path, Literal, a tuple of these, "
                "a number | Literal, or one of them | None"
            )
        default = _default(field)
        try:
            kept = from_plain(to_plain(default), hint) == default
        except ValueError:
            kept = False
        if not kept:
            raise TypeError(
                f"field {field.name!r} has the default {default!r}, "
                f"which is no {type_name(hint)}"
            )


def to_plain(value: Any) -> Any:
    """Return an option's value as TOML can hold it."""
    if value is None:
        return NONE
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


def plain_text(value: Any) -> str:
    """Return an option's value as it would be typed on the command line."""
    if isinstance(value, tuple):
        return ",".join(plain_text(item) for item in value)
    if isinstance(value, bool):
        return str(value).lower()
    return str(to_plain(value))


def from_plain(value: Any, hint: Any) -> Any:
    """Return the value of an option of type ``hint`` that TOML holds as ``value``.

    Raises:
        ValueError: ``value`` is not of that type; a text is never taken for a number.
    """
    if allows_none(hint) and (value is None or value == NONE):
        return None
    for member in members(hint):
        try:
            return _read(value, member)
        except ValueError:
            continue
    raise ValueError(f"expected {type_name(hint)}, got {value!r}")


def _read(value: Any, hint: Any) -> Any:
    """Return the value as the type ``hint``, which is no union, or raise ValueError."""
    origin = get_origin(hint)
    if origin is Literal:
        if any(value == known and type(value) is type(known) for known in get_args(hint)):
            return value
    elif origin is tuple:
        if isinstance(value, list | tuple):
            hints = item_hints(hint, len(value))
            return tuple(_read(*pair) for pair in zip(value, hints, strict=True))
    elif hint is float and type(value) in (int, float):
        return float(value)
    elif hint is Path and isinstance(value, str):
        return Path(value)
    elif type(value) is hint:
        return value
    raise ValueError


def item_hints(hint: Any, size: int) -> tuple[Any, ...]:
    """Return the types of the ``size`` items of a value of the tuple type ``hint``.

    Raises:
        ValueError: The type has another number of items.
    """
    arguments = get_args(hint)
    if arguments[1:] == (...,):
        return (arguments[0],) * size
    if len(arguments) != size:
        raise ValueError(f"{len(arguments)} items, not {size}")
    return arguments


def members(hint: Any) -> tuple[Any, ...]:
    """Return the types that a union offers beside None; of no union, the type itself."""
    if not _is_union(hint):
        return (hint,)
    return tuple(member for member in get_args(hint) if member is not types.NoneType)


def allows_none(hint: Any) -> bool:
    """Return whether None is a value of the type."""
    return _is_union(hint) and types.NoneType in get_args(hint)


def type_name(hint: Any) -> str:
    """Return a type as a person would say it: "float or none", "one of a, b"."""
    names = [_one_type_name(member) for member in members(hint)]
    return " or ".join([*names, NONE] if allows_none(hint) else names)


def _one_type_name(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "one of " + ", ".join(str(value) for value in get_args(hint))
    if get_origin(hint) is tuple:
        items = get_args(hint)
        if items[1:] == (...,):
            return f"comma-separated {type_name(items[0])}"
        return ",".join(type_name(item) for item in items)
    if isinstance(hint, type) and not get_args(hint):
        return "text" if hint is str else hint.__name__.lower()
    return str(hint)


def _metavar(hint: Any) -> str:
    names = [_one_metavar(member) for member in members(hint)]
    return "|".join([*names, NONE] if allows_none(hint) else names)


def _one_metavar(hint: Any) -> str:
    if get_origin(hint) is Literal:
        return "{" + ",".join(str(value) for value in get_args(hint)) + "}"
    if get_origin(hint) is tuple:
        return ",".join("..." if item is ... else _metavar(item) for item in get_args(hint))
    return "true|false" if hint is bool else type_name(hint).upper()


def _is_showable(hint: Any) -> bool:
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


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)


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


@dataclass(frozen=True, kw_only=True)
class Range:
    """The numbers that an option accepts; for a tuple, each of its items.

    NaN is always refused; infinity unless ``infinite`` is set. A number without a range
    accepts every finite value.

    Attributes:
        at_least: Smallest value.
        above: The value must be greater than this.
        at_most: Largest value.
        below: The value must be less than this.
        infinite: Whether infinity is accepted.
    """

    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    infinite: bool = False

    def __contains__(self, value: float) -> bool:
        """Return whether the option accepts the number."""
        return (
            not math.isnan(value)
            and (self.infinite or math.isfinite(value))
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        """Return the range in words: "at least 1", "between 0 and 180"; none: empty."""
        if self.at_least is not None and self.at_most is not None:
            return f"between {self.at_least:g} and {self.at_most:g}"
        bounds = {
            "greater than": self.above,
            "at least": self.at_least,
            "less than": self.below,
            "at most": self.at_most,
        }
        return " and ".join(f"{word} {n:g}" for word, n in bounds.items() if n is not None)


FINITE = Range()
POSITIVE = Range(above=0)
NOT_NEGATIVE = Range(at_least=0)
AT_LEAST_ONE = Range(at_least=1)
FRACTION = Range(at_least=0, at_most=1)


def check_ranges(options: Any) -> None:
    """Raise ValueError if a number of a dataclass instance is outside its option's range."""
    hints = get_type_hints(type(options), include_extras=True)
    for field in fields(options):
        hint = hints[field.name]
        notes = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        accepted = next((note for note in notes if isinstance(note, Range)), FINITE)
        value = getattr(options, field.name)
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and number not in accepted:
                words = str(accepted) or "finite"
                raise ValueError(f"{field.name} must be {words}, got {plain_text(value)}")
