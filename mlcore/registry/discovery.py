"""Finds plugins, keeps a broken one from hurting the others, and resolves names.

Each plugin is loaded and asked on its own, in a plugin manager of its own: pluggy's
``check_pending`` and its entry-point loader stop at the first fault they meet, and one
stranger's fault must not take the rest along. What a plugin provides is published only
after every step has passed.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, TypeVar

from mlcore import hookspecs
from mlcore.errors import (
    STOPS,
    ConfigError,
    MissingLibraryError,
    PluginError,
    UnknownNameError,
    is_installed,
)
from mlcore.factories import Factory
from mlcore.registry.validation import collect

Status = Literal["ok", "blocked", "failed", "incompatible"]
F = TypeVar("F", bound=Factory)


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """One installed plugin and what became of it.

    Attributes:
        name: Name of its entry point.
        distribution: Distribution that installed it, and its version.
        status: "ok", or why it provides nothing.
        factories: What it provides.
        error: One sentence, for a plugin that failed or is incompatible.
        traceback: Where it failed, if it raised.
        seconds: Time its import and hooks took.
        imports_torch: Whether listing it was what imported torch.
    """

    name: str
    distribution: str
    version: str
    status: Status
    factories: tuple[Factory, ...] = ()
    error: str = ""
    traceback: str = ""
    seconds: float = 0.0
    imports_torch: bool = False

    @property
    def missing_libraries(self) -> tuple[str, ...]:
        """A sentence on each library that components need and that is not installed."""
        users = Counter(item for factory in self.factories for item in factory.requires.items())
        return tuple(
            str(MissingLibraryError(self._some(count), module, install))
            for (module, install), count in users.items()
            if not is_installed(module)
        )

    def _some(self, count: int) -> str:
        return f"plugin {self.name!r} ({count} of {len(self.factories)} components)"


class Registry:
    """The components that are there, by kind and name.

    Args:
        plugins: What :func:`load` made of each plugin.
        builtin: Components of the engine itself: the pixel baseline, composed networks.
    """

    def __init__(self, plugins: Sequence[Plugin], builtin: Sequence[Factory] = ()) -> None:
        self.plugins = tuple(plugins)
        self._provided = [("mlcore", factory) for factory in builtin]
        self._provided += [
            (plugin.name, factory) for plugin in plugins for factory in plugin.factories
        ]

    @classmethod
    def discover(
        cls, *, block: Iterable[str] = (), only: Iterable[str] | None = None
    ) -> Registry:
        """Load every installed plugin.

        Args:
            block: Names of plugins not to load.
            only: Names of the only plugins to load; defaults to the comma-separated
                environment variable ``MLCORE_PLUGINS``, and else to all.

        Raises:
            PluginError: ``MLCORE_STRICT_PLUGINS=1`` is set and a plugin is faulty.
            UnknownNameError: A name in ``block`` or ``only`` is no installed plugin.
        """
        from mlcore.models.catalogue import BUILTIN

        if only is None and os.environ.get("MLCORE_PLUGINS"):
            only = [n.strip() for n in os.environ["MLCORE_PLUGINS"].split(",") if n.strip()]
        strict = os.environ.get("MLCORE_STRICT_PLUGINS", "") not in ("", "0")
        found = entry_points(group=hookspecs.ENTRY_POINT_GROUP)
        return cls(load(found, block=block, only=only, strict=strict), BUILTIN)

    def factories(self, kind: type[F]) -> list[tuple[str, F]]:
        """Return (plugin name, factory) for every component of a kind, by name."""
        found = [(p, f) for p, f in self._provided if isinstance(f, kind)]
        return sorted(found, key=lambda item: (item[1].name, item[0]))

    def owner(self, factory: Factory) -> str:
        """Return the name of the plugin that provides a factory."""
        return next(plugin for plugin, known in self._provided if known is factory)

    def qualified_name(self, factory: Factory) -> str:
        """Return ``plugin:name``, or the bare name where that is enough."""
        owner = self.owner(factory)
        clash = len(self._matches(type(factory), factory.name)) > 1
        return f"{owner}:{factory.name}" if clash else factory.name

    def resolve(self, kind: type[F], name: str, *, prefer: str = "") -> F:
        """Return the factory of that name or alias; ``plugin:name`` picks one plugin's.

        Args:
            kind: What kind of component.
            name: Its name.
            prefer: The plugin whose component is meant where several provide the name.

        Raises:
            UnknownNameError: There is none; names the nearest, and faulty plugins.
            ConfigError: Several plugins provide the name.
        """
        matches = self._matches(kind, name)
        if len(matches) > 1:
            matches = [match for match in matches if match[0] == prefer] or matches
        if len(matches) > 1:
            choices = " or ".join(sorted(repr(f"{plugin}:{f.name}") for plugin, f in matches))
            raise ConfigError(
                f"{kind.kind} {name!r} is provided by several plugins; use {choices}, "
                "or leave one out with --block"
            )
        if not matches:
            known = [n for _, f in self.factories(kind) for n in (f.name, *f.aliases)]
            raise UnknownNameError(kind.kind, name, known, hint=self._faulty_hint())
        return matches[0][1]

    def _matches(self, kind: type[F], name: str) -> list[tuple[str, F]]:
        wanted_plugin, _, bare = name.rpartition(":")
        return [
            (plugin, factory)
            for plugin, factory in self.factories(kind)
            if bare in (factory.name, *factory.aliases) and wanted_plugin in ("", plugin)
        ]

    def _faulty_hint(self) -> str:
        faulty = [p.name for p in self.plugins if p.status in ("failed", "incompatible")]
        if not faulty:
            return ""
        return f"(not usable: {', '.join(faulty)}; see 'mlcore plugins NAME')"


def load(
    found: Iterable[EntryPoint],
    *,
    block: Iterable[str] = (),
    only: Iterable[str] | None = None,
    strict: bool = False,
) -> list[Plugin]:
    """Load each entry point on its own and report what became of it.

    Raises:
        PluginError: ``strict`` is set and a plugin failed or is incompatible.
        UnknownNameError: A name in ``block`` or ``only`` is no plugin.
    """
    # The order of installation must not decide anything.
    points = sorted(found, key=lambda point: (point.name, point.value))
    names = [point.name for point in points]
    blocked = set(block)
    wanted = None if only is None else set(only)
    for name in (*blocked, *(wanted or ())):
        if name not in names:
            raise UnknownNameError("plugin", name, names)
    plugins = []
    for point in points:
        if point.name in blocked or (wanted is not None and point.name not in wanted):
            plugins.append(_record(point, status="blocked"))
        elif names.count(point.name) > 1:
            rivals = [_distribution(p)[0] for p in points if p.name == point.name]
            error = f"the plugin name is used twice, by {' and '.join(rivals)}"
            plugins.append(_record(point, status="failed", error=error))
        else:
            plugins.append(_load_one(point, strict=strict))
    if strict:
        for plugin in plugins:
            if plugin.error:
                raise PluginError(f"plugin {plugin.name!r}: {plugin.error}")
    return plugins


def _load_one(point: EntryPoint, *, strict: bool) -> Plugin:
    started = time.perf_counter()
    had_torch = "torch" in sys.modules
    outcome: dict[str, Any]
    try:
        module = point.load()
        version = getattr(module, "mlcore_hook_api", hookspecs.HOOK_API_VERSION)
        if version != hookspecs.HOOK_API_VERSION:
            outcome = {
                "status": "incompatible",
                "error": f"written for hook API {version}; this mlcore has "
                f"{hookspecs.HOOK_API_VERSION}",
            }
        else:
            outcome = {"status": "ok", "factories": collect(module, point.name)}
    except STOPS:
        raise
    except BaseException as error:
        # SystemExit and others of the kind too: a plugin must not end the user's program.
        if strict:
            raise PluginError(f"plugin {point.name!r}: {_sentence(error)}") from error
        outcome = {
            "status": "failed",
            "error": _sentence(error),
            "traceback": traceback.format_exc(),
        }
    return _record(
        point,
        **outcome,
        seconds=time.perf_counter() - started,
        imports_torch="torch" in sys.modules and not had_torch,
    )


def _record(point: EntryPoint, **outcome: Any) -> Plugin:
    distribution, version = _distribution(point)
    return Plugin(name=point.name, distribution=distribution, version=version, **outcome)


def _distribution(point: EntryPoint) -> tuple[str, str]:
    if point.dist is None:
        return "?", "?"
    return point.dist.name, point.dist.version


def _sentence(error: BaseException) -> str:
    if isinstance(error, PluginError):
        return str(error)
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
