"""What is checked: a plugin, or one of its components, and how to name it in a script."""

from __future__ import annotations

import importlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from mlcore.errors import PluginError
from mlcore.factories import Factory
from mlcore.hookspecs import ENTRY_POINT_GROUP, HOOK_API_VERSION
from mlcore.registry.validation import collect

PluginLike = str | ModuleType | Iterable[Factory]
"""A plugin: name of an installed one, importable module, the module itself, or factories."""


@dataclass(frozen=True)
class Source:
    """Where factories come from.

    Attributes:
        name: The plugin's name in messages.
        expression: Python that names the plugin in a script.
        module: Import path of the plugin; "" for a list of factories.
        given: The factories, where they are given as such.
    """

    name: str
    expression: str
    module: str = ""
    given: tuple[Factory, ...] = ()

    @classmethod
    def of(cls, plugin: PluginLike) -> Source:
        """Return the source of what a caller calls a plugin; nothing is imported yet."""
        if isinstance(plugin, ModuleType):
            return cls(plugin.__name__, repr(plugin.__name__), plugin.__name__)
        if not isinstance(plugin, str):
            return cls("factories", "factories", given=tuple(plugin))
        values = [point.value for point in entry_points(group=ENTRY_POINT_GROUP, name=plugin)]
        return cls(plugin, repr(plugin), " and ".join(values) or plugin)

    def load(self) -> tuple[Factory, ...]:
        """Import the plugin and return its factories.

        Raises:
            PluginError: It is of another hook version, or its hooks are not right.
            Exception: Whatever the import or a hook raises.
        """
        if not self.module:
            return self.given
        if " " in self.module:
            raise PluginError(f"the plugin name {self.name!r} is used twice: {self.module}")
        module = _import(self.module)
        version = getattr(module, "mlcore_hook_api", HOOK_API_VERSION)
        if version != HOOK_API_VERSION:
            raise PluginError(
                f"written for hook API {version}; this mlcore has {HOOK_API_VERSION}"
            )
        return collect(module, self.name)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A component under test.

    Attributes:
        source: The plugin it is from.
        factory: What describes it.
        config: Options of a data set, where the caller gave some.
        cache_dir: Folder for what can be made again, shared by the checks of one data set.
    """

    source: Source
    factory: Any
    config: Any = None
    cache_dir: Path | None = None


def _import(path: str) -> object:
    """Import an entry point's value: ``package.module`` or ``package.module:attribute``."""
    module, _, attributes = path.partition(":")
    found: object = importlib.import_module(module)
    for attribute in filter(None, attributes.split(".")):
        found = getattr(found, attribute)
    return found
