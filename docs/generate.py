"""Write the reference pages from the code: ``python docs/generate.py``."""  # noqa: INP001

from __future__ import annotations

import importlib
import inspect
import re
import sys
import tomllib
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from docstring_parser import DocstringStyle, parse

from mlcore import factories, hookspecs, models, protocols
from mlcore.cli.commands.list import KINDS
from mlcore.factories import Factory
from mlcore.option_types import Option, options_of
from mlcore.options import ENGINE
from mlcore.registry.discovery import Registry
from mlcore.testing import RULES

REPOSITORY = Path(__file__).parents[1]
DISTRIBUTION = "mlcore-localization"
API = "mlcore.api"
"""What ``mlcore`` passes on to programs and notebooks; plugins may not import it."""

PUBLIC_PLUGINS = ("mlcore_soft_contrastive",)
"""Packages of our plugins that offer functions to any program."""

PLUGIN_CONTRACT = "may_import_only"
"""Type of the import contract in pyproject.toml that says what a plugin may import."""

GENERATED = "<!-- Written by docs/generate.py; edit the docstrings instead. -->"

FACTORIES: tuple[type[Any], ...] = (
    factories.Factory,
    factories.LossFactory,
    factories.MinerFactory,
    factories.InfluenceFactory,
    factories.DatasetFactory,
    factories.BackboneFactory,
    factories.PoolingFactory,
    factories.ModelFactory,
    factories.RerankerFactory,
    factories.Weights,
    factories.BuildContext,
    factories.SamplingRadii,
    factories.Report,
    factories.Finding,
)
PROTOCOLS: tuple[type[Any], ...] = (
    protocols.Batch,
    protocols.Role,
    protocols.LossOutput,
    protocols.Loss,
    protocols.RowwiseLoss,
    protocols.SharedLoss,
    protocols.ProcessGroup,
    protocols.Pairs,
    protocols.Triplets,
    protocols.Miner,
    protocols.InfluenceFunction,
    protocols.HeadingInfluenceFunction,
    protocols.DeviceInfluenceFunction,
    protocols.DeviceCode,
    models.Backbone,
    models.Pooling,
    models.EmbeddingModel,
    models.ModelConfig,
    protocols.Features,
    protocols.FeatureShape,
    protocols.Reranker,
    protocols.PlaceDataset,
    protocols.SuppliesExtras,
    protocols.HasCoordinates,
    protocols.PlaceTable,
    protocols.Split,
    protocols.Progress,
)


def hooks_page() -> Iterator[str]:
    """Yield the lines of the hook reference."""
    yield from ("# Hook reference", "", GENERATED, "")
    yield f"Hook API version {hookspecs.HOOK_API_VERSION}. [Writing a plugin](hooks.md) has the"
    yield from ("rules; this page lists what the rules are about.", "", "## Hooks", "")
    rows = [
        (f"`{name}()`", f"list of `{kind.__name__}`", _text(getattr(hookspecs, name).__doc__))
        for name, kind in hookspecs.HOOKS.items()
    ]
    yield from _table(("hook", "returns", "meaning"), rows)
    yield from ("", "## What a hook returns", "")
    for kind in FACTORIES:
        yield from _class(kind)
    yield from ("## What passes between engine and plugin", "")
    for kind in PROTOCOLS:
        yield from _class(kind)
    yield from ("## Modules that a plugin may import", "")
    yield "From mlcore a plugin imports these modules and no others, as the import contract in"
    yield "`pyproject.toml` states for the plugins that ship with it. The rest of mlcore may"
    yield "change with any release. [Python API](reference-api.md) has what these modules hold."
    yield ""
    rows = [(f"`{name}`", _summary(name)) for name in public_modules()]
    yield from (*_table(("module", "holds"), rows), "")
    yield from ("## Conformance checks", "")
    yield "`mlcore.testing.checks` runs these. The name of one that may be declared is a valid"
    yield "key of a factory's `limits`; a declared limit that does not occur is a failure."
    for kind_name, rules in RULES.items():
        yield from ("", f"### {kind_name}", "")
        rows = [(r.name, r.meaning, "yes" if r.declarable else "") for r in rules]
        yield from _table(("check", "it must hold that", "may be declared"), rows)


def options_page() -> Iterator[str]:
    """Yield the lines of the engine's option reference."""
    yield from ("# Option reference", "", GENERATED, "")
    yield "The options of the engine and its models. Those of the plugins that ship with it"
    yield f"have pages of their own: {', '.join(_option_pages())}."
    yield "`mlcore plugins NAME` shows the options of any installed component."
    yield ""
    for section, config in ENGINE.items():
        yield from (
            f"## `[{section}]`",
            "",
            _text(parse(config.__doc__).short_description),
            "",
        )
        yield from (*_options(section, options_of(config)), "")
    yield from _components(hookspecs.PROJECT)


def api_page() -> Iterator[str]:
    """Yield the lines of the Python reference, which mkdocstrings fills in."""
    yield from ("# Python API", "", GENERATED, "")
    yield "The modules that a plugin or a program may import. The documentation site (`make"
    yield "docs-site`) shows their classes and functions here; in the repository, read the"
    yield from ("docstrings of the modules.", "")
    for name in (*public_modules(), API, *PUBLIC_PLUGINS):
        yield from (f"## `{name}`", "", f"::: {name}")
        yield from ("    options:", "      show_root_heading: false")
        if name == hookspecs.PROJECT:  # which only passes on what the other modules define
            yield "      members: false"
        yield ""


def public_modules() -> list[str]:
    """Return the modules of mlcore that plugins may import, as the contract states them."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (allowed,) = [c["allowed_modules"] for c in contracts if c["type"] == PLUGIN_CONTRACT]
    return sorted(allowed)


def _summary(module: str) -> str:
    return (inspect.getdoc(importlib.import_module(module)) or "").partition("\n")[0]


def _option_pages() -> list[str]:
    return [f"[{n}](../plugins/{folder}/OPTIONS.md)" for n, folder in _shipped().items()]


def plugin_page(plugin: str) -> Iterator[str]:
    """Yield the lines about one of our plugins: its components and their options."""
    yield from (f"# Plugin `{plugin}`", "", GENERATED, "")
    yield from _components(plugin)


def _components(plugin: str) -> Iterator[str]:
    shipped = Registry.discover(only=list(_shipped()))
    for plural, kind in KINDS.items():
        own = [factory for owner, factory in shipped.factories(kind) if owner == plugin]
        if own:
            yield from (f"## {plural.replace('-', ' ').capitalize()}", "")
        for factory in own:
            yield from _component(factory)


def _component(factory: Factory) -> Iterator[str]:
    aliases = "".join(f", or `{alias}`" for alias in factory.aliases)
    source = f" Source: {factory.source}." if factory.source else ""
    yield from (f"### `{factory.name}`{aliases}", "")
    yield from (f"{_sentence(factory.summary)}{source}", "")
    for name, limit in factory.limits.items():
        yield f"- Limit `{name}`: {limit}."
    if factory.limits:
        yield ""
    options = options_of(factory.config)
    if options:
        yield from (*_options(factory.kind, options), "")


def _options(section: str, options: Sequence[Option]) -> Iterator[str]:
    rows = [
        (f"`{section}.{o.name}`", o.values_text, f"`{o.default_text}`", _text(o.help))
        for o in options
    ]
    return _table(("option", "type", "default", "meaning"), rows)


def _class(kind: type[Any]) -> Iterator[str]:
    docs = parse(kind.__doc__ or "", style=DocstringStyle.GOOGLE)
    yield from (f"### `{kind.__name__}`", "", _text(docs.short_description), "")
    if docs.long_description:
        yield from (_text(docs.long_description), "")
    if issubclass(kind, Enum):
        yield from (", ".join(f"`{member.name}` = {member.value}" for member in kind) + ".", "")
    described = {entry.arg_name: _text(entry.description) for entry in docs.params}
    columns = fields(kind) if is_dataclass(kind) else ()
    own = [column for column in columns if column.name in described]
    if own:
        typed = [(f"`{c.name}`", f"`{c.type}`", _default(c), described[c.name]) for c in own]
        yield from (*_table(("field", "type", "default", "meaning"), typed), "")
    elif described:
        plain = [(f"`{name}`", meaning) for name, meaning in described.items()]
        yield from (*_table(("field", "meaning"), plain), "")
    for name, method in vars(kind).items():
        if inspect.isfunction(method) and method.__doc__ and _is_public(name, described):
            yield from _method(name, method)
        if isinstance(method, property) and method.__doc__ and _is_public(name, described):
            yield from (f"`{name}`: {_text(method.__doc__)}", "")


def _method(name: str, method: Callable[..., Any]) -> Iterator[str]:
    written = re.sub(r"\(self(, )?", "(", str(inspect.signature(method)))
    signature = re.sub(r"(: |-> )'([^']+)'", r"\1\2", written)  # annotations, not defaults
    yield from ("```text", f"{name}{signature}", "```", "", _text(inspect.getdoc(method)), "")


def _is_public(name: str, fields: Collection[str]) -> bool:
    return name == "__call__" or not (name.startswith("_") or name in fields)


def _default(column: Field[Any]) -> str:
    if column.default is not MISSING:
        default: Any = column.default
    elif column.default_factory is not MISSING:
        default = column.default_factory()
    else:
        return ""
    return f"`{getattr(default, '__name__', None) or repr(default)}`"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        cells = [" ".join(cell.split()).replace("|", "\\|") for cell in row]
        yield f"| {' | '.join(cells)} |"


def _text(docstring: str | None) -> str:
    """Return a docstring as Markdown."""
    text = inspect.cleandoc(docstring or "")
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text.replace("``", "`"))
    return re.sub(r"^Raises:\n +", "Raises ", text, flags=re.MULTILINE)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."


def _shipped() -> dict[str, str]:
    """Return the package of each plugin that ships with mlcore, by the plugin's name."""
    from importlib.metadata import distribution

    points = distribution(DISTRIBUTION).entry_points
    ours = points.select(group=hookspecs.ENTRY_POINT_GROUP)
    return {point.name: point.module.partition(".")[0] for point in ours}


def pages() -> dict[str, Callable[[], Iterator[str]]]:
    """Return the function that yields each page's lines, by path in the repository.

    A plugin's page is in the plugin's folder, so that a new loss touches no other place.
    """
    return {
        "docs/reference-hooks.md": hooks_page,
        "docs/reference-options.md": options_page,
        "docs/reference-api.md": api_page,
        **{
            f"plugins/{folder}/OPTIONS.md": partial(plugin_page, name)
            for name, folder in _shipped().items()
        },
    }


def text(path: str) -> str:
    """Return the text of a generated page."""
    return "\n".join(pages()[path]()).rstrip() + "\n"


def main() -> int:
    """Write the pages."""
    for path in pages():
        (REPOSITORY / path).write_text(text(path), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
