"""The whole hook surface of mlcore.

A plugin is a module (or object) named by an entry point in the group ``mlcore.plugins``
that implements any of these hooks::

    import mlcore

    @mlcore.hookimpl
    def mlcore_losses():
        return [mlcore.LossFactory(name="my-loss", ...)]

The module may state ``mlcore_hook_api = 1``, the version it was written for. Hooks are
called once, when a command starts; a factory is cheap, and only ``build`` imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import pluggy

from mlcore.factories import (
    BackboneFactory,
    DatasetFactory,
    InfluenceFactory,
    LossFactory,
    MinerFactory,
    ModelFactory,
    PoolingFactory,
    RerankerFactory,
)

PROJECT = "mlcore"
ENTRY_POINT_GROUP = "mlcore.plugins"

HOOK_API_VERSION = 1
"""Raised when a plugin written for the version before could break; see docs/hooks.md."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def mlcore_losses() -> Sequence[LossFactory]:  # type: ignore[empty-body]
    """Return the losses that the plugin provides."""


@hookspec
def mlcore_miners() -> Sequence[MinerFactory]:  # type: ignore[empty-body]
    """Return the miners that the plugin provides."""


@hookspec
def mlcore_influence_functions() -> Sequence[InfluenceFactory]:  # type: ignore[empty-body]
    """Return the influence functions that the plugin provides."""


@hookspec
def mlcore_datasets() -> Sequence[DatasetFactory]:  # type: ignore[empty-body]
    """Return the data sets that the plugin provides."""


@hookspec
def mlcore_backbones() -> Sequence[BackboneFactory]:  # type: ignore[empty-body]
    """Return the backbones that the plugin provides."""


@hookspec
def mlcore_poolings() -> Sequence[PoolingFactory]:  # type: ignore[empty-body]
    """Return the poolings that the plugin provides."""


@hookspec
def mlcore_models() -> Sequence[ModelFactory]:  # type: ignore[empty-body]
    """Return the whole networks and named pairs that the plugin provides."""


@hookspec
def mlcore_rerankers() -> Sequence[RerankerFactory]:  # type: ignore[empty-body]
    """Return the rerankers that the plugin provides."""


HOOKS = {
    "mlcore_losses": LossFactory,
    "mlcore_miners": MinerFactory,
    "mlcore_influence_functions": InfluenceFactory,
    "mlcore_datasets": DatasetFactory,
    "mlcore_backbones": BackboneFactory,
    "mlcore_poolings": PoolingFactory,
    "mlcore_models": ModelFactory,
    "mlcore_rerankers": RerankerFactory,
}
"""Each hook and the kind of factory it returns."""
