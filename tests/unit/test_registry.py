"""One plugin's fault stays its own, is recorded, and is told; load order decides nothing.

The plugins are modules on disk with entry points in ``*.dist-info``, found the way an
installed distribution's are.
"""

from __future__ import annotations

import itertools
import sys
from importlib.metadata import distributions

import pytest

from mlcore.errors import ConfigError, PluginError, UnknownNameError
from mlcore.factories import LossFactory, MinerFactory, ModelFactory
from mlcore.registry.discovery import Registry, load

GOOD = """
from dataclasses import dataclass
import mlcore

@dataclass(frozen=True, kw_only=True)
class Config:
    beta: float = 1.0

def factory(name, config=Config, **rest):
    return mlcore.LossFactory(
        name=name, summary="A loss.", config=config, build=lambda *_: None, **rest
    )

@mlcore.hookimpl
def mlcore_losses():
    return [factory({name!r}, aliases={aliases!r})]
"""


def good(name: str, *aliases: str) -> str:
    return GOOD.replace("{name!r}", repr(name)).replace("{aliases!r}", repr(aliases))


def broken(body: str) -> str:
    """Return a plugin whose hook has another body; ``factory`` and ``Config`` are there."""
    return good("x").replace("return [factory('x', aliases=())]", body)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a plugin and gives its entry point."""
    monkeypatch.syspath_prepend(tmp_path)
    installed = itertools.count()
    monkeypatch.delenv("MLCORE_PLUGINS", raising=False)
    monkeypatch.delenv("MLCORE_STRICT_PLUGINS", raising=False)

    def add(name: str, source: str):
        module = f"registry_test_plugin_{next(installed)}"
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{module}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.5\n")
        (info / "entry_points.txt").write_text(f"[mlcore.plugins]\n{name} = {module}\n")
        return module

    return add


@pytest.fixture
def points(tmp_path):
    return lambda: [
        point for found in distributions(path=[str(tmp_path)]) for point in found.entry_points
    ]


def by_name(plugins):
    return {plugin.name: plugin for plugin in plugins}


def test_a_good_plugin(install, points):
    module = install("good", good("soft", "proposed"))
    registry = Registry(load(points()))
    (plugin,) = registry.plugins
    assert (plugin.status, plugin.distribution, plugin.version) == ("ok", module, "1.5")
    assert (plugin.error, plugin.traceback, plugin.imports_torch) == ("", "", False)
    (found,) = registry.factories(LossFactory)
    assert found == ("good", plugin.factories[0])
    for name in ("soft", "proposed", "good:soft", "good:proposed"):
        assert registry.resolve(LossFactory, name).name == "soft"
    assert registry.factories(MinerFactory) == []


BROKEN = {
    "import error": ("import no_such_module_of_anyone", "ModuleNotFoundError: No module named"),
    "syntax error": ("def", "SyntaxError: invalid syntax"),
    "exits at import": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "misspelt hook": (
        good("x").replace("def mlcore_losses", "def mlcore_loses"),
        r"unknown hook 'mlcore_loses'.*the hooks are mlcore_losses",
    ),
    "hook that raises": (broken("raise ValueError('of mine\\nmore')"), "ValueError: of mine$"),
    "hook that raises late": (broken("yield 1 / 0"), "ZeroDivisionError: division by zero"),
    "hook that takes arguments": (
        good("x").replace("mlcore_losses()", "mlcore_losses(config)"),
        r"definition: mlcore_losses\(config\) Argument",
    ),
    "hook that returns None": (
        broken("factory('x')"),
        "mlcore_losses returned None, not a list",
    ),
    "no list": (
        broken("return factory('x')"),
        "mlcore_losses returned LossFactory.*, not a list",
    ),
    "factory of the wrong type": (
        broken(
            "return [mlcore.DatasetFactory(name='x', summary='', config=Config, build=print)]"
        ),
        "mlcore_losses returned DatasetFactory.*, not a LossFactory",
    ),
    "class for a factory": (broken("return [mlcore.LossFactory]"), "not a LossFactory"),
    "bad name": (
        broken("return [factory('Soft_Loss')]"),
        "'Soft_Loss' is not a kebab-case name",
    ),
    "bad alias": (
        broken("return [factory('x', aliases=('a:b',))]"),
        "'a:b' is not a kebab-case",
    ),
    "text for aliases": (
        broken("return [factory('x', aliases='abc')]"),
        "aliases of 'x' are no tuple",
    ),
    "name given twice": (
        broken("return [factory('x'), factory('y', aliases=('x',))]"),
        "the loss 'x' is provided twice",
    ),
    "no dataclass": (
        broken("return [factory('x', config=dict)]"),
        "of 'x': <class 'dict'> is no d",
    ),
    "external without tuples": (
        broken("return [factory('x', mining='external')]"),
        "loss 'x' has mining='external' and accepts=None",
    ),
    "tuples without mining": (
        broken("from mlcore import Pairs; return [factory('x', accepts=Pairs)]"),
        "loss 'x' has mining='none' and accepts=<class",
    ),
    "not frozen": (
        good("x").replace("frozen=True, ", ""),
        "of 'x': it is not frozen; use @data",
    ),
    "positional options": (
        good("x").replace(", kw_only=True", ""),
        "'beta' is not keyword-only",
    ),
    "option without a default": (
        good("x").replace(" = 1.0", ""),
        "field 'beta' has no default",
    ),
    "option called name": (
        good("x").replace("beta: float = 1.0", "name: str = 'a'"),
        "field 'name' is reserved",
    ),
    "option type that cannot be shown": (
        good("x").replace("beta: float = 1.0", "beta: dict[str, int] | None = None"),
        r"'beta' has type dict\[str, int\] or none, which is not supported on the command line",
    ),
    "option type that is not there": (
        good("x").replace("beta: float", "beta: 'Tensor'"),
        "types cannot be resolved: name 'Tensor' is not defined",
    ),
    "default of another type": (
        good("x").replace("= 1.0", "= 'a'"),
        "field 'beta' has the default 'a', which is not of type float",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_plugin_hurts_no_other(install, points, fault):
    source, message = BROKEN[fault]
    install("aaa-before", good("before"))
    install("broken", source)
    install("zzz-after", good("after"))
    registry = Registry(load(points()))
    plugins = by_name(registry.plugins)
    assert [plugins[name].status for name in ("aaa-before", "broken", "zzz-after")] == [
        "ok",
        "failed",
        "ok",
    ]
    with pytest.raises(PluginError, match=message):
        raise PluginError(plugins["broken"].error)
    assert "Traceback" in plugins["broken"].traceback
    assert plugins["broken"].factories == ()
    assert registry.resolve(LossFactory, "before").name == "before"
    assert registry.resolve(LossFactory, "after").name == "after"
    with pytest.raises(
        UnknownNameError, match=r"\(not usable: broken; see 'mlcore plugins NAME'\)"
    ):
        registry.resolve(LossFactory, "x")


def test_nothing_of_a_half_good_plugin_is_published(install, points):
    source = good("x") + (
        "\n@mlcore.hookimpl\ndef mlcore_datasets():\n    raise ValueError('too late')\n"
    )
    install("half", source)
    registry = Registry(load(points()))
    assert registry.plugins[0].status == "failed"
    assert registry.factories(LossFactory) == []


@pytest.mark.parametrize("version", [0, 2, "'1'"])
def test_another_hook_version_is_incompatible(install, points, version):
    install("old", f"mlcore_hook_api = {version}\n" + good("x"))
    (plugin,) = load(points())
    assert (plugin.status, plugin.factories) == ("incompatible", ())
    assert f"written for hook API {version}; this mlcore has 1".replace("'", "") == plugin.error


def test_a_stated_version_that_fits(install, points):
    install("new", "mlcore_hook_api = 1\n" + good("x"))
    assert load(points())[0].status == "ok"


def test_a_plugin_name_used_twice_is_refused_for_both(install, points):
    one, two = install("same", good("a")), install("same", good("b"))
    install("other", good("c"))
    registry = Registry(load(points()))
    assert [plugin.status for plugin in registry.plugins] == ["ok", "failed", "failed"]
    assert registry.plugins[1].error == f"the plugin name is used twice, by {one} and {two}"
    assert [factory.name for _, factory in registry.factories(LossFactory)] == ["c"]


def test_one_loss_name_of_two_plugins(install, points):
    install("one", good("soft", "proposed"))
    install("two", good("soft", "gentle"))
    registry = Registry(load(points()))
    assert [plugin.status for plugin in registry.plugins] == ["ok", "ok"]
    with pytest.raises(
        ConfigError,
        match=r"loss 'soft' is provided by several plugins; use 'one:soft' or 'two:soft', or "
        "leave one out with --block",
    ):
        registry.resolve(LossFactory, "soft")
    first, second = (plugin.factories[0] for plugin in registry.plugins)
    assert registry.resolve(LossFactory, "one:soft") is first
    assert registry.resolve(LossFactory, "gentle") is second
    assert registry.qualified_name(second) == "two:soft"
    assert registry.resolve(LossFactory, registry.qualified_name(second)) is second


def test_an_alias_that_is_another_plugins_name(install, points):
    install("one", good("soft"))
    install("two", good("other", "soft"))
    registry = Registry(load(points()))
    with pytest.raises(ConfigError, match="'one:soft' or 'two:other'"):
        registry.resolve(LossFactory, "soft")
    assert registry.resolve(LossFactory, "two:soft").name == "other"
    assert registry.qualified_name(registry.resolve(LossFactory, "other")) == "other"
    assert registry.qualified_name(registry.resolve(LossFactory, "one:soft")) == "one:soft"


def test_load_order_decides_nothing(install, points):
    install("b", good("soft"))
    install("c", "raise ValueError('broken')")
    install("a", good("soft"))
    outcomes = []
    for order in itertools.permutations(points()):
        registry = Registry(load(order))
        outcomes.append(
            [(p.name, p.status, p.distribution) for p in registry.plugins]
            + [name for name, _ in registry.factories(LossFactory)]
        )
        with pytest.raises(ConfigError, match="'a:soft' or 'b:soft'"):
            registry.resolve(LossFactory, "soft")
    assert all(outcome == outcomes[0] for outcome in outcomes)


def test_unknown_names_come_with_the_nearest(install, points):
    install("good", good("soft", "proposed"))
    registry = Registry(load(points()))
    with pytest.raises(
        UnknownNameError, match="unknown loss 'propsed'; did you mean 'proposed'"
    ):
        registry.resolve(LossFactory, "propsed")
    with pytest.raises(UnknownNameError, match="unknown loss 'bad:soft'"):
        registry.resolve(LossFactory, "bad:soft")
    with pytest.raises(UnknownNameError, match="unknown miner 'soft'; there are none"):
        registry.resolve(MinerFactory, "soft")


def test_the_engines_own_components_are_named_mlcore():
    model = ModelFactory(name="cnn", summary="", config=type("C", (), {}), build=print)
    registry = Registry([], [model])
    assert registry.factories(ModelFactory) == [("mlcore", model)]
    assert registry.resolve(ModelFactory, "mlcore:cnn") is model
    assert registry.qualified_name(model) == "cnn"


def test_blocked_plugins_are_listed_and_not_imported(install, points):
    install("good", good("soft"))
    module = install("bad", "raise ValueError")
    registry = Registry(load(points(), block=["bad"]))
    assert by_name(registry.plugins)["bad"].status == "blocked"
    assert module not in sys.modules
    assert registry.resolve(LossFactory, "soft")
    with pytest.raises(UnknownNameError, match="unknown plugin 'goo'; did you mean 'good'"):
        load(points(), block=["goo"])


def test_only_the_wanted_plugins_are_loaded(install, monkeypatch):
    install("good", good("soft"))
    install("bad", "raise ValueError")
    monkeypatch.setenv("MLCORE_PLUGINS", " good ,")
    registry = Registry.discover()
    assert {p.name for p in registry.plugins if p.status == "ok"} == {"good"}
    assert by_name(registry.plugins)["bad"].status == "blocked"
    assert by_name(Registry.discover(only=["bad"]).plugins)["bad"].status == "failed"
    with pytest.raises(UnknownNameError, match="unknown plugin 'nonsense'"):
        Registry.discover(only=["nonsense"])


def test_strict_raises_what_was_wrong(install, points, monkeypatch):
    install("bad", "raise ValueError('of mine')")
    with pytest.raises(PluginError, match="plugin 'bad': ValueError: of mine") as caught:
        load(points(), strict=True)
    assert isinstance(caught.value.__cause__, ValueError)
    monkeypatch.setenv("MLCORE_STRICT_PLUGINS", "1")
    with pytest.raises(PluginError, match="plugin 'bad'"):
        Registry.discover(only=["bad"])
    monkeypatch.setenv("MLCORE_STRICT_PLUGINS", "0")
    assert Registry.discover(only=["bad"])


@pytest.mark.parametrize("source", ["mlcore_hook_api = 9", good("x")])
def test_strict_refuses_the_incompatible_and_the_duplicate(install, points, source):
    install("bad", source)
    install("good", good("y"))
    if "api" not in source:
        install("bad", source)
    with pytest.raises(
        PluginError, match=r"plugin 'bad': (written for|the plugin name is used)"
    ):
        load(points(), strict=True)


def test_ctrl_c_during_an_import_is_no_plugin_fault(install, points):
    install("slow", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        load(points())
