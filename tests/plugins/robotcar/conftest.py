"""Fixtures of the tests of RobotCar: a cache of each test's own, and a raw tree."""

from __future__ import annotations

import pytest

from tests.support.robotcar_tree import write_tree


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def raw(tmp_path):
    return write_tree(tmp_path / "raw")
