"""A hook that is to go is deprecated by pluggy's own means, and works until it is gone."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest

import mlcore
from mlcore import hookspecs
from mlcore.registry.validation import collect


@dataclass(frozen=True, kw_only=True)
class NoOptions:
    """No options."""


def test_a_deprecated_hook_works_and_warns(monkeypatch):
    deprecated = hookspecs.hookspec(
        warn_on_impl=DeprecationWarning("mlcore_miners goes in 2.0; use mlcore_samplers")
    )

    def mlcore_miners():
        """The hook as it would be specified then."""

    monkeypatch.setattr(hookspecs, "mlcore_miners", deprecated(mlcore_miners))

    factory = mlcore.MinerFactory(
        name="old", summary="", config=NoOptions, build=print, produces=mlcore.Pairs
    )

    @mlcore.hookimpl
    def implementation():
        return [factory]

    plugin = SimpleNamespace(mlcore_miners=implementation)
    with pytest.warns(DeprecationWarning, match="use mlcore_samplers") as caught:
        factories = collect(plugin)
    assert factories == (factory,)
    assert caught[0].filename == __file__


def test_nothing_of_the_surface_is_deprecated_now():
    for name in hookspecs.HOOKS:
        options = getattr(hookspecs, name).mlcore_spec
        assert (options["warn_on_impl"], options["warn_on_impl_args"]) == (None, None)
