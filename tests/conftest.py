"""Fixtures shared by several suites."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent / "support"


@pytest.fixture
def synthetic_plugin(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install the plugin ``synthetic`` for one test; return its folder, put on PYTHONPATH."""
    monkeypatch.syspath_prepend(SUPPORT)
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))
    return SUPPORT


@pytest.fixture
def synthetic_dataset(synthetic_plugin: Path) -> object:
    """Return a tiny data set in memory: three splits of three traversals each."""
    if "mlcore_synthetic" in sys.modules:
        return sys.modules["mlcore_synthetic"].SyntheticDataset()
    return importlib.import_module("mlcore_synthetic").SyntheticDataset()


@pytest.fixture(scope="module")
def module_synthetic_plugin() -> Iterator[Path]:
    """Install the plugin ``synthetic`` for all tests of a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SUPPORT)
        yield SUPPORT
