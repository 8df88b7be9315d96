"""Calls a plugin's hooks and checks that what they return is what a registry can offer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

import pluggy

from mlcore import hookspecs
from mlcore.errors import PluginError
from mlcore.factories import Factory, LossFactory, ModelFactory
from mlcore.models.config import ModelConfig
from mlcore.option_types import check_options

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def collect(plugin: object, name: str = "plugin") -> tuple[Factory, ...]:
    """Call a plugin's hooks and return its factories, checked.

    Raises:
        PluginError: A hook is misspelt or returns something else than valid factories.
    """
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    try:
        manager.register(plugin, name)
        manager.check_pending()
    except pluggy.PluginValidationError as error:
        reason, known = " ".join(str(error).split()), ", ".join(hookspecs.HOOKS)
        raise PluginError(f"{reason}; the hooks are {known}") from error
    factories: list[Factory] = []
    for hook, kind in hookspecs.HOOKS.items():
        caller = getattr(manager.hook, hook)
        results: list[Any] = caller()
        if len(results) < len(caller.get_hookimpls()):
            raise PluginError(f"{hook} returned None, not a list of factories")
        for returned in results:
            if isinstance(returned, Factory) or not isinstance(returned, Iterable):
                raise PluginError(f"{hook} returned {returned!r}, not a list of factories")
            for factory in returned:
                _check_factory(factory, kind, hook)
                factories.append(factory)
    _check_distinct(factories)
    return tuple(factories)


def _check_factory(factory: Any, kind: type[Factory], hook: str) -> None:
    """Raise PluginError unless ``factory`` is what ``hook`` must return."""
    if not isinstance(factory, kind):
        raise PluginError(f"{hook} returned {factory!r}, not a {kind.__name__}")
    if not isinstance(factory.aliases, tuple):
        raise PluginError(f"{hook}: aliases of {factory.name!r} are no tuple")
    for name in (factory.name, *factory.aliases):
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise PluginError(f"{hook}: {name!r} is not a kebab-case name")
    if not _is_mapping_of_text(factory.requires):
        raise PluginError(
            f"{hook}: requires of {factory.name!r} must map module names to what pip "
            f"installs them with, got {factory.requires!r}"
        )
    try:
        _check_config(factory.config)
    except TypeError as error:
        raise PluginError(f"{hook}: config of {factory.name!r}: {error}") from error
    if isinstance(factory, ModelFactory) and not issubclass(factory.config, ModelConfig):
        raise PluginError(
            f"{hook}: config of {factory.name!r} must derive from mlcore.models.ModelConfig, "
            "which has the size of the input"
        )
    if isinstance(factory, LossFactory) and (factory.mining == "external") != (
        factory.accepts is not None
    ):
        raise PluginError(
            f"{hook}: loss {factory.name!r} has mining={factory.mining!r} and "
            f"accepts={factory.accepts!r}; a loss accepts tuples if its mining is 'external'"
        )


def _is_mapping_of_text(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(text, str) for pair in value.items() for text in pair
    )


def _check_config(config: Any) -> None:
    """Raise TypeError unless ``config`` is a dataclass that makes good options."""
    if not isinstance(config, type) or not is_dataclass(config):
        raise TypeError(f"{config!r} is no dataclass")
    if not config.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise TypeError("it is not frozen; use @dataclass(frozen=True, kw_only=True)")
    for option in fields(config):
        if option.name == "name":
            raise TypeError("field 'name' is reserved")
        if not option.kw_only:
            raise TypeError(
                f"field {option.name!r} is not keyword-only; "
                "use @dataclass(frozen=True, kw_only=True)"
            )
        if option.default is MISSING and option.default_factory is MISSING:
            raise TypeError(f"field {option.name!r} has no default")
    check_options(config)


def _check_distinct(factories: Sequence[Factory]) -> None:
    seen: set[tuple[str, str]] = set()
    for factory in factories:
        for name in (factory.name, *factory.aliases):
            key = (factory.kind, name)
            if key in seen:
                raise PluginError(f"the {factory.kind} {name!r} is provided twice")
            seen.add(key)
