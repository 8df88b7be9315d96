"""Writes the reference pages from the code: ``python docs/generate.py``."""  # noqa: INP001

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any

from docstring_parser import DocstringStyle, parse

from mlcore import factories, hookspecs, protocols
from mlcore.cli.commands.list import KINDS
from mlcore.factories import Factory
from mlcore.option_types import Option, options_of
from mlcore.options import ENGINE
from mlcore.registry.discovery import Registry
from mlcore.testing import RULES

REPOSITORY = Path(__file__).parents[1]
DISTRIBUTION = "mlcore-localization"
GENERATED = "<!-- Written by docs/generate.py; edit the docstrings instead. -->"

FACTORIES: tuple[type[Any], ...] = (
    factories.Factory,
    factories.LossFactory,
    factories.MinerFactory,
    factories.InfluenceFactory,
    factories.DatasetFactory,
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
    protocols.Pairs,
    protocols.Triplets,
    protocols.Miner,
    protocols.InfluenceFunction,
    protocols.DeviceInfluenceFunction,
    protocols.DeviceCode,
    protocols.PlaceDataset,
    protocols.SuppliesExtras,
    protocols.PlaceTable,
    protocols.Split,
    protocols.Progress,
)


def hooks_page() -> Iterator[str]:
    """Yield the lines of the hook reference."""
    yield from ("# Hook reference", "", GENERATED, "")
    yield f"Hook API version {hookspecs.HOOK_API_VERSION}. [Writing a plugin](hooks.md) tells"
    yield from ("the rules; this page is the surface itself.", "", "## Hooks", "")
    rows = [
        (f"`{name}()`", f"list of `{kind.__name__}`", _text(getattr(hookspecs, name).__doc__))
        for name, kind in hookspecs.HOOKS.items()
    ]
    yield from _table(("hook", "returns", "meaning"), rows)
    yield from ("", "## What a hook returns", "")
    for kind in FACTORIES:
        yield from _class(kind)
    yield from ("## What flows between engine and plugin", "")
    for kind in PROTOCOLS:
        yield from _class(kind)
    yield from ("## Conformance checks", "")
    yield "`mlcore.testing.checks` has these, by kind. One that may be declared is a valid key"
    yield "of a factory's `limits`; a declared limit that does not occur fails."
    for kind_name, rules in RULES.items():
        yield from ("", f"### {kind_name}", "")
        told = [(r.name, r.meaning, "yes" if r.declarable else "") for r in rules]
        yield from _table(("check", "it must hold that", "may be declared"), told)


def options_page() -> Iterator[str]:
    """Yield the lines of the engine's option reference."""
    yield from ("# Option reference", "", GENERATED, "")
    yield "Of the engine and its models. What a plugin brings is in the `OPTIONS.md` of its"
    yield "folder in [plugins/](../plugins/); `mlcore plugins NAME` tells it of what you have"
    yield "installed."
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


def plugin_page(plugin: str) -> Iterator[str]:
    """Yield the lines of what one of our plugins brings, with its options."""
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
    told = {entry.arg_name: _text(entry.description) for entry in docs.params}
    columns = fields(kind) if is_dataclass(kind) else ()
    own = [column for column in columns if column.name in told]
    if own:
        typed = [(f"`{c.name}`", f"`{c.type}`", _default(c), told[c.name]) for c in own]
        yield from (*_table(("field", "type", "default", "meaning"), typed), "")
    elif told:
        plain = [(f"`{name}`", meaning) for name, meaning in told.items()]
        yield from (*_table(("field", "meaning"), plain), "")
    for name, method in vars(kind).items():
        if inspect.isfunction(method) and method.__doc__ and _is_public(name, told):
            yield from _method(name, method)


def _method(name: str, method: Callable[..., Any]) -> Iterator[str]:
    written = re.sub(r"\(self(, )?", "(", str(inspect.signature(method)))
    signature = re.sub(r"(: |-> )'([^']+)'", r"\1\2", written)  # annotations, not defaults
    yield from ("```text", f"{name}{signature}", "```", "", _text(inspect.getdoc(method)), "")


def _is_public(name: str, told: Collection[str]) -> bool:
    return name == "__call__" or not (name.startswith("_") or name in told)


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
    """Return the folder of each of our plugins by its name."""
    from importlib.metadata import distribution

    points = distribution(DISTRIBUTION).entry_points
    ours = points.select(group=hookspecs.ENTRY_POINT_GROUP)
    return {point.name: point.module.partition(".")[0] for point in ours}


def pages() -> dict[str, Callable[[], Iterator[str]]]:
    """Return what makes the lines of each generated page, by its path in the repository.

    A plugin's page lies in the plugin's folder: a new loss touches no other place.
    """
    return {
        "docs/reference-hooks.md": hooks_page,
        "docs/reference-options.md": options_page,
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
