"""Libraries that a component declares: looked for, never imported, named in one sentence."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from types import SimpleNamespace

import pytest

import mlcore
from mlcore.errors import MissingLibraryError, is_installed
from mlcore.registry.discovery import Plugin
from mlcore.registry.validation import collect
from mlcore.testing import CheckSkipped, checks


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """No options."""


def factory(name: str = "needy", **fields: object) -> mlcore.InfluenceFactory:
    return mlcore.InfluenceFactory(
        name=name, summary="needs a library", config=NoOptions, build=build, **fields
    )


def build(options, context):
    raise AssertionError("built without its library")


def test_a_library_is_looked_for_and_not_imported(monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)  # importing it would print
    assert is_installed("this")
    assert "this" not in sys.modules
    assert not is_installed("surely_not_installed")


def test_the_sentence_names_component_library_and_remedy():
    mlcore.require_library("mlcore fly", "json", "wings[json]")
    with pytest.raises(MissingLibraryError) as caught:
        factory(requires={"json": "x", "wing": "wings[fly]"}).require_libraries()
    assert str(caught.value) == (
        "influence 'needy' needs wing, which is not installed: pip install 'wings[fly]'"
    )
    assert caught.value.exit_code == 2


def test_a_plugin_says_how_many_of_its_components_lack_a_library():
    factories = (factory(requires={"wing": "wings[fly]"}), factory(name="content"))
    plugin = Plugin(
        name="birds", distribution="wings", version="1", status="ok", factories=factories
    )
    (sentence,) = plugin.missing_libraries
    assert sentence == (
        "plugin 'birds' (1 of 2 components) needs wing, which is not installed: "
        "pip install 'wings[fly]'"
    )


@pytest.mark.parametrize("requires", [("wing",), {"wing": 1}, {1: "wings"}, None])
def test_requirements_of_another_form_are_refused(requires):
    @mlcore.hookimpl
    def mlcore_influence_functions():
        return [factory(requires=requires)]

    plugin = SimpleNamespace(mlcore_influence_functions=mlcore_influence_functions)
    with pytest.raises(mlcore.PluginError, match="requires of 'needy' must map module names"):
        collect(plugin)


def test_the_kit_checks_the_description_and_skips_the_rest():
    found = {check.name: check for check in checks([factory(requires={"wing": "wings[fly]"})])}
    for name in ("described", "config-round-trip", "limits-known"):
        found.pop(name)()
    assert "monotone" in found
    for check in found.values():
        with pytest.raises(CheckSkipped, match=r"pip install 'wings\[fly\]'"):
            check()
