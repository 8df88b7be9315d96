"""``mlcore plugins [--check] [NAME]``: installed plugins, what they provide, their errors."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from mlcore.cli import console
from mlcore.cli.commands.list import KINDS
from mlcore.cli.parser import Parser
from mlcore.errors import UnknownNameError
from mlcore.factories import Factory
from mlcore.option_types import options_of, to_plain
from mlcore.registry.discovery import Plugin, Registry

_PLURALS = {factory.kind: plural for plural, factory in KINDS.items()}
_SHOWN_SEPARATELY = {
    "name",
    "summary",
    "source",
    "aliases",
    "limits",
    "requires",
    "config",
    "build",
}


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = Parser("plugins", "Show the installed plugins, one plugin, or a component.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="a plugin or a component")
    parser.words["name"] = lambda: _names(Registry.discover())
    parser.add_json_option()
    parser.add_argument(
        "--check", action="store_true", help="run the conformance checks; exit 1 if any fails"
    )
    parser.add_block_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    options = make_parser().parse_command(argv)
    registry = Registry.discover(block=options.block)
    if options.name is None and not options.check:
        _show_all(registry.plugins, as_json=options.json)
        return 0
    plugins = [p for p in registry.plugins if options.name in (None, p.name)]
    components = _components(registry, options.name or "")
    if not plugins and not components:
        raise UnknownNameError("plugin or component", options.name, _names(registry))
    if options.check:
        return _check(plugins, components, as_json=options.json)
    if options.json:
        console.write_json(
            {
                "plugins": [{**_plugin_json(p), "traceback": p.traceback} for p in plugins],
                "components": [_component_json(owner, f) for owner, f in components],
            }
        )
        return 0
    for plugin in plugins:
        _show_plugin(plugin)
    for owner, factory in components:
        _show_component(owner, factory)
    return 0


def _check(
    plugins: Sequence[Plugin], components: Sequence[tuple[str, Factory]], *, as_json: bool
) -> int:
    """Run the checks of whole plugins and of single components."""
    from mlcore.cli.conformance_table import run_checks
    from mlcore.testing import checks

    names = dict.fromkeys(p.name for p in plugins if p.status != "blocked")
    found = [check for name in names for check in checks(name)]
    for owner, factory in components:
        if all(plugin.name != owner for plugin in plugins):
            found += checks(owner, only=f"{factory.kind}/{factory.name}/*")
    return run_checks(found, as_json=as_json)


def _components(registry: Registry, name: str) -> list[tuple[str, Factory]]:
    """Return (plugin name, factory) of every component, of any kind, with that name."""
    owner, _, bare = name.rpartition(":")
    return [
        (plugin, factory)
        for plugin, factory in registry.factories(Factory)
        if bare in (factory.name, *factory.aliases) and owner in ("", plugin)
    ]


def _names(registry: Registry) -> list[str]:
    found = [plugin.name for plugin in registry.plugins]
    return found + [
        name for _, f in registry.factories(Factory) for name in (f.name, *f.aliases)
    ]


def _show_all(plugins: Sequence[Plugin], *, as_json: bool) -> None:
    if as_json:
        console.write_json([_plugin_json(plugin) for plugin in plugins])
        return
    table = console.table("plugin!", "distribution", "version", "status", "provides")
    for plugin in plugins:
        table.add_row(
            plugin.name,
            plugin.distribution,
            plugin.version,
            plugin.status,
            "; ".join(
                filter(None, [_provides(plugin), plugin.error, *plugin.missing_libraries])
            ),
        )
    console.show(table)


def _provides(plugin: Plugin) -> str:
    names = defaultdict(list)
    for factory in plugin.factories:
        names[_PLURALS[factory.kind]].append(factory.name)
    return "; ".join(f"{kind}: {', '.join(found)}" for kind, found in names.items())


def _show_plugin(plugin: Plugin) -> None:
    console.write(
        f"plugin {plugin.name}: {plugin.status}, "
        f"from {plugin.distribution} {plugin.version}, loaded in {plugin.seconds:.3f} s"
    )
    provides = _provides(plugin)
    if provides:
        console.write(f"  provides {provides}")
    for line in filter(None, (plugin.error, *plugin.missing_libraries)):
        console.write(f"  {line}")
    if plugin.traceback:
        console.write(f"\n{plugin.traceback}")


def _show_component(owner: str, factory: Factory) -> None:
    aliases = f" (or {', '.join(factory.aliases)})" if factory.aliases else ""
    lines = [f"\n{factory.kind} {factory.name}{aliases}, of plugin {owner}", factory.summary]
    facts = {"source": factory.source, **_declared(factory)}
    lines += [f"  {name}: {value}" for name, value in facts.items() if value != ""]
    lines += [
        f"  requires {module}: pip install '{install}'"
        for module, install in factory.requires.items()
    ]
    lines += [f"  limit {name}: {limit}" for name, limit in factory.limits.items()]
    console.write("\n".join(lines))
    options = options_of(factory.config)
    if not options:
        console.write("  no options")
        return
    table = console.table("option!", "type", "default", "meaning")
    for option in options:
        flag = f"--{factory.kind}.{option.name}"
        table.add_row(flag, option.values_text, option.default_text, option.help)
    console.show(table)


def _declared(factory: Factory) -> dict[str, str]:
    """Return the fields that only this kind of factory has, in words."""
    return {
        field.name.replace("_", " "): _in_words(getattr(factory, field.name))
        for field in fields(factory)
        if field.name not in _SHOWN_SEPARATELY
    }


def _in_words(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, type):
        return value.__name__
    if isinstance(value, frozenset):
        return ", ".join(sorted(value))
    if callable(value):
        return "yes"
    return str(value)


def _plugin_json(plugin: Plugin) -> dict[str, Any]:
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "status": plugin.status,
        "error": plugin.error,
        "missing_libraries": list(plugin.missing_libraries),
        "seconds": round(plugin.seconds, 4),
        "imports_torch": plugin.imports_torch,
        "provides": [{"kind": f.kind, "name": f.name} for f in plugin.factories],
    }


def _component_json(owner: str, factory: Factory) -> dict[str, Any]:
    return {
        "kind": factory.kind,
        "name": factory.name,
        "aliases": list(factory.aliases),
        "plugin": owner,
        "summary": factory.summary,
        "source": factory.source,
        "declares": _declared(factory),
        "limits": dict(factory.limits),
        "requires": dict(factory.requires),
        "options": [
            {
                "name": f"{factory.kind}.{option.name}",
                "type": option.type_name,
                "range": str(option.range),
                "default": to_plain(option.default),
                "help": option.help,
            }
            for option in options_of(factory.config)
        ],
    }
