"""Values of options as text on a command line, as TOML keeps them, and back."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

NONE = "none"
"""The word for None in TOML and on the command line, where the type has None."""


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


def from_text(text: str, hint: Any) -> Any:
    """Return the value of an option of type ``hint`` that is typed as ``text``.

    Items of a tuple are separated by commas; ``["a,b"]`` is the notation for an item with a
    comma.

    Raises:
        ValueError: ``text`` does not stand for a value of that type.
    """
    if allows_none(hint) and text == NONE:
        return None
    for member in members(hint):
        try:
            return _parse(text, member)
        except (KeyError, ValueError, RecursionError):
            continue
    raise ValueError(f"expected {type_name(hint)}, got {text!r}")


def _parse(text: str, hint: Any) -> Any:
    """Return what the text stands for as the type ``hint``, which is not a union."""
    if get_origin(hint) is tuple:
        if text.startswith("["):
            return _read(json.loads(text), hint)
        items = text.split(",") if text else []
        hints = item_hints(hint, len(items))
        return tuple(_parse(*pair) for pair in zip(items, hints, strict=True))
    if get_origin(hint) is Literal:
        return {str(value): value for value in get_args(hint)}[text]
    if hint is bool:
        return {"true": True, "false": False}[text]
    return hint(text)


def _read(value: Any, hint: Any) -> Any:
    """Return the value as the type ``hint``, which is not a union, or raise ValueError."""
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
    """Return the types that a union offers beside None, or the type itself."""
    if not _is_union(hint):
        return (hint,)
    return tuple(member for member in get_args(hint) if member is not types.NoneType)


def allows_none(hint: Any) -> bool:
    """Return whether None is a value of the type."""
    return _is_union(hint) and types.NoneType in get_args(hint)


def type_name(hint: Any) -> str:
    """Return a type in words: "float or none", "one of a, b"."""
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


def _is_union(hint: Any) -> bool:
    return get_origin(hint) in (Union, types.UnionType)
