"""The plugin as mlcore sees it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import mlcore_soft_contrastive
from mlcore.factories import BuildContext, InfluenceFactory, LossFactory
from mlcore.registry.discovery import Registry, collect
from mlcore_soft_contrastive import plugin
from mlcore_soft_contrastive.loss import BatchLoss


def test_found_by_name_and_alias() -> None:
    registry = Registry.discover(only=["soft-contrastive"])
    (found,) = [p for p in registry.plugins if p.name == "soft-contrastive"]
    assert found.status == "ok", found.error
    factory = registry.resolve(LossFactory, "proposed")
    assert factory.name == "soft-contrastive"
    assert (factory.uses_influence, factory.mining) == (True, "internal")
    names = [factory.name for _, factory in registry.factories(InfluenceFactory)]
    assert names == ["field-of-view", "linear", "sigmoid", "step", "tanh"]


def test_builds_what_it_describes() -> None:
    for factory in collect(plugin):
        built = factory.build(factory.config(), BuildContext())
        if isinstance(factory, InfluenceFactory):
            assert built.support_m > 0
        else:
            assert isinstance(built, BatchLoss)


def test_listing_imports_no_torch() -> None:
    code = (
        "import sys, mlcore_soft_contrastive.plugin, mlcore_soft_contrastive.config;"
        "sys.exit(any(m in sys.modules for m in ('torch', 'numpy', 'cupy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_exports() -> None:
    for name in mlcore_soft_contrastive.__all__:
        assert getattr(mlcore_soft_contrastive, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = mlcore_soft_contrastive.nonsense
