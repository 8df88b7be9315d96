"""``mlcore list KIND``: the components to choose from, and the plugins they come from."""

from __future__ import annotations

from collections.abc import Sequence

from mlcore.cli import console
from mlcore.cli.parser import Parser
from mlcore.errors import UnknownNameError
from mlcore.factories import (
    BackboneFactory,
    DatasetFactory,
    Factory,
    InfluenceFactory,
    LossFactory,
    MinerFactory,
    ModelFactory,
    PoolingFactory,
    RerankerFactory,
)
from mlcore.registry.discovery import Registry

KINDS: dict[str, type[Factory]] = {
    "losses": LossFactory,
    "miners": MinerFactory,
    "influence-functions": InfluenceFactory,
    "datasets": DatasetFactory,
    "models": ModelFactory,
    "backbones": BackboneFactory,
    "poolings": PoolingFactory,
    "rerankers": RerankerFactory,
}


def make_parser() -> Parser:
    """Return the parser of the command's own flags."""
    parser = Parser("list", "List the components of a kind.")
    parser.add_argument("kind", metavar="KIND", help=", ".join(KINDS))
    parser.words["kind"] = lambda: KINDS
    parser.add_json_option()
    parser.add_block_option()
    return parser


def run(argv: Sequence[str]) -> int:
    """Run the command and return its exit code."""
    options = make_parser().parse_command(argv)
    if options.kind not in KINDS:
        raise UnknownNameError("kind", options.kind, KINDS)
    registry = Registry.discover(block=options.block)
    components = registry.factories(KINDS[options.kind])
    if options.json:
        console.write_json([_as_json(plugin, factory) for plugin, factory in components])
        return 0
    table = console.table("name!", "summary", "plugin!")
    for plugin, factory in components:
        names = "\n".join(
            [registry.qualified_name(factory), *map("or {}".format, factory.aliases)]
        )
        texts = [factory.summary, factory.source if console.is_wide() else ""]
        summary = "\n".join(text for text in texts if text)
        table.add_row(names, summary, plugin)
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
