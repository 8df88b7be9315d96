"""Puts the checks of a plugin together; imports torch only when one is run."""

from __future__ import annotations

import atexit
import importlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from functools import cache, partial
from pathlib import Path
from typing import Any

from mlcore.errors import MissingLibraryError
from mlcore.factories import Factory
from mlcore.testing.check import Check, CheckFailure, CheckSkipped, Fault, module_of, one_line
from mlcore.testing.subject import PluginLike, Source, Subject
from mlcore.testing.vocabulary import FACTORY, PLUGIN, RULES, Rule

_MODULES = {
    "plugin": "mlcore.testing.listing",
    "loss": "mlcore.testing.losses.checks",
    "miner": "mlcore.testing.miners",
    "influence": "mlcore.testing.influence",
    "dataset": "mlcore.testing.datasets",
    "backbone": "mlcore.testing.networks",
    "pooling": "mlcore.testing.networks",
    "model": "mlcore.testing.networks",
    "reranker": "mlcore.testing.rerankers",
}


def checks(
    plugin: PluginLike,
    *,
    only: str = "*",
    configs: Mapping[str, Any] | None = None,
) -> list[Check]:
    """Return the conformance checks of a plugin, for ``pytest.mark.parametrize``.

    Args:
        plugin: Name of an installed plugin, an importable module or its name, or a list of
            factories.
        only: Pattern of check names without the plugin, as in ``"loss/*/no-positive"``.
        configs: Options to open data sets with, by name, where the default ones find no
            data.

    Raises:
        ValueError: ``configs`` names something that is no data set of the plugin.

    A plugin that cannot be loaded has one check, "loads", which fails.
    """
    source = Source.of(plugin)
    try:
        factories = source.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the check tells it
        return [_loads(source, error)]
    known = {factory.name for factory in factories if factory.kind == "dataset"}
    if unknown := set(configs or {}) - known:
        raise ValueError(f"configs of {sorted(unknown)}, but the data sets are {sorted(known)}")
    found = _plugin_checks(source) if source.module else []
    cache_dir = cache(_temporary_folder)
    for factory in factories:
        config = (configs or {}).get(factory.name)
        found += _component_checks(source, factory, config, cache_dir)
    return [check for check in found if fnmatch(f"{check.component}/{check.name}", only)]


def _loads(source: Source, error: BaseException | None) -> Check:
    def test() -> None:
        if error is not None:
            raise Fault("a plugin that loads", one_line(error)) from error

    return _check(source, "plugin", PLUGIN[0], test)


def _plugin_checks(source: Source) -> list[Check]:
    return [
        _loads(source, None),
        *(
            _check(source, "plugin", rule, partial(_run, "plugin", rule, source))
            for rule in PLUGIN[1:]
        ),
    ]


def _component_checks(
    source: Source, factory: Factory, config: Any, cache_dir: Callable[[], Path]
) -> list[Check]:
    component = f"{factory.kind}/{factory.name}"
    rules = RULES[factory.kind]

    def run(rule: Rule) -> None:
        if rule not in FACTORY:
            try:
                factory.require_libraries()
            except MissingLibraryError as missing:
                raise CheckSkipped(str(missing)) from None
            for earlier in rules[: rules.index(rule)]:
                if (earlier.gate or earlier.name == rule.after) and fails(earlier):
                    raise CheckSkipped(f"{earlier.name!r} fails")
        subject = Subject(source=source, factory=factory, config=config, cache_dir=cache_dir())
        _run(factory.kind, rule, subject)

    @cache
    def fails(earlier: Rule) -> bool:
        try:
            check_of(earlier)()
        except CheckFailure:
            return True
        except CheckSkipped:
            return False
        return False

    def check_of(rule: Rule) -> Check:
        limit = factory.limits.get(rule.name) if rule.declarable else None
        package = module_of(factory.build).partition(".")[0]
        return _check(source, component, rule, partial(run, rule), limit, package)

    return [check_of(rule) for rule in rules]


def _check(
    source: Source,
    component: str,
    rule: Rule,
    test: Callable[[], None],
    limit: str | None = None,
    package: str = "",
) -> Check:
    return Check(
        plugin=source.name,
        component=component,
        name=rule.name,
        test=test,
        reproduce="from mlcore.testing import checks\n"
        f"for check in checks({source.expression}, only={f'{component}/{rule.name}'!r}):\n"
        "    check()",
        declarable=rule.declarable,
        limit=limit,
        package=package or source.module.partition(":")[0].partition(".")[0],
    )


def _run(kind: str, rule: Rule, subject: Any) -> None:
    test = importlib.import_module(_MODULES[kind]).CHECKS[rule.name]
    if kind == "plugin":
        test(subject)
        return
    from mlcore.testing.traces import restored_settings

    with restored_settings():
        test(subject)


def _temporary_folder() -> Path:
    folder = tempfile.mkdtemp(prefix="mlcore-checks-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)
