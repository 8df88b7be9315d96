"""What every plugin that is shipped keeps to, and what the engine promises plugins."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import pytest

import mlcore
from mlcore.factories import Factory, InfluenceFactory, LossFactory, MinerFactory
from mlcore.hookspecs import ENTRY_POINT_GROUP, HOOK_API_VERSION, HOOKS
from mlcore.option_types import check_options, options_of
from mlcore.options import ENGINE, parse_run, run_from_toml, run_to_toml
from mlcore.registry.discovery import Registry

SHIPPED = {
    point.name: point.value
    for point in entry_points(group=ENTRY_POINT_GROUP)
    if point.dist is not None and point.dist.name == "mlcore-localization"
}


@pytest.fixture(scope="module")
def registry() -> Registry:
    return Registry.discover(only=SHIPPED)


def test_the_surface_is_version_one():
    """Whoever changes a hook raises the version and this test with it."""
    assert HOOK_API_VERSION == 1
    assert {hook: kind.__name__ for hook, kind in HOOKS.items()} == {
        "mlcore_losses": "LossFactory",
        "mlcore_miners": "MinerFactory",
        "mlcore_influence_functions": "InfluenceFactory",
        "mlcore_datasets": "DatasetFactory",
        "mlcore_backbones": "BackboneFactory",
        "mlcore_poolings": "PoolingFactory",
        "mlcore_models": "ModelFactory",
        "mlcore_rerankers": "RerankerFactory",
    }
    assert [name for name in mlcore.__all__ if not hasattr(mlcore, name)] == []


def test_every_shipped_plugin_works(registry):
    assert {p.name: p.error for p in registry.plugins if p.name in SHIPPED} == dict.fromkeys(
        SHIPPED, ""
    )


@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_describing_a_plugin_imports_nothing_heavy(name):
    package = SHIPPED[name].partition(".")[0]
    script = (
        f"import sys, {package}, {SHIPPED[name]}\n"
        "print(sorted({'torch', 'numpy', 'scipy', 'PIL', 'pytorch_metric_learning', 'cupy'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_every_component_explains_itself(registry):
    untold = [
        f"{factory.kind} {factory.name}: {option.name}"
        for _, factory in registry.factories(Factory)
        for option in options_of(factory.config)
        if not option.help
    ]
    assert untold == []
    for _, factory in registry.factories(Factory):
        assert factory.summary
        assert "\n" not in factory.summary


@pytest.mark.parametrize("section", ENGINE)
def test_the_engines_options_explain_themselves(section):
    check_options(ENGINE[section])
    assert [option.name for option in options_of(ENGINE[section]) if not option.help] == []


def test_every_component_is_chosen_by_name_and_kept(registry, tmp_path):
    losses = [
        registry.qualified_name(factory) for _, factory in registry.factories(LossFactory)
    ]
    lines = [["--loss", name] for name in losses]
    lines += [
        ["--loss", "proposed", "--influence", registry.qualified_name(factory)]
        for _, factory in registry.factories(InfluenceFactory)
    ]
    external = next(
        f.name for _, f in registry.factories(LossFactory) if f.accepts is mlcore.Pairs
    )
    lines += [
        ["--loss", external, "--miner", registry.qualified_name(factory)]
        for _, factory in registry.factories(MinerFactory)
    ]
    path = tmp_path / "config.toml"
    for argv in lines:
        config = parse_run(argv, registry)
        path.write_text(run_to_toml(config))
        assert run_from_toml(path, registry) == config


def test_the_default_run_is_the_proposed_loss_on_the_embedded_town(registry):
    config = parse_run([], registry)
    assert config.loss.factory.aliases == ("proposed",)
    assert (config.dataset.name, config.model.name) == ("streets", "small-cnn")
    assert config.influence is not None
    assert config.influence.name == "sigmoid"
    assert config.miner is None
