"""``mlcore list KIND``: the components that can be chosen, and where they come from."""

from __future__ import annotations

from collections.abc import Sequence

from mlcore.cli import console
from mlcore.cli.parser import Parser
from mlcore.errors import UnknownNameError
from mlcore.factories import (
    DatasetFactory,
    Factory,
    InfluenceFactory,
    LossFactory,
    MinerFactory,
    ModelFactory,
)
from mlcore.registry.discovery import Registry

KINDS: dict[str, type[Factory]] = {
    "losses": LossFactory,
    "miners": MinerFactory,
    "influence-functions": InfluenceFactory,
    "datasets": DatasetFactory,
    "models": ModelFactory,
}


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    parser = Parser("list", "List the components of a kind.")
    parser.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--json", action="store_true", help="print JSON for a script")
    parser.add_block_option()
    options = parser.parse_command(argv)
    if options.kind not in KINDS:
        raise UnknownNameError("kind", options.kind, KINDS)
    registry = Registry.discover(block=options.block)
    components = registry.factories(KINDS[options.kind])
    if options.json:
        console.write_json([_as_json(plugin, factory) for plugin, factory in components])
        return 0
    table = console.table("name", "aliases", "summary", "source", "plugin")
    for plugin, factory in components:
        name, aliases = registry.qualified_name(factory), ", ".join(factory.aliases)
        table.add_row(name, aliases, factory.summary, factory.source, plugin)
    console.show(table)
    _report_unusable(registry, KINDS[options.kind])
    return 0


def _as_json(plugin: str, factory: Factory) -> dict[str, object]:
    return {
        "name": factory.name,
        "aliases": list(factory.aliases),
        "summary": factory.summary,
        "source": factory.source,
        "plugin": plugin,
    }


def _report_unusable(registry: Registry, kind: type[Factory]) -> None:
    for plugin in registry.plugins:
        if plugin.error:
            console.say(
                f"plugin {plugin.name!r} is {plugin.status}: {plugin.error} "
                f"(see 'mlcore plugins {plugin.name}')"
            )
        if any(isinstance(factory, kind) for factory in plugin.factories):
            for sentence in plugin.missing_libraries:
                console.say(sentence)
