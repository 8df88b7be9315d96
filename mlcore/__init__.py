"""mlcore: train image embeddings against geometry instead of class labels.

What a plugin author needs is importable from here, and so are :func:`load_run`, :func:`train`,
:func:`evaluate` and :func:`compare` of :mod:`mlcore.api`. It costs no import of torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcore.errors import (
    ConfigError,
    DataError,
    MissingLibraryError,
    MlcoreError,
    NonFiniteLossError,
    PluginError,
    UnknownNameError,
    require_library,
)
from mlcore.factories import (
    BackboneFactory,
    BuildContext,
    DatasetFactory,
    Finding,
    InfluenceFactory,
    LossFactory,
    MinerFactory,
    ModelFactory,
    PoolingFactory,
    Report,
    RerankerFactory,
    SamplingRadii,
    Weights,
)
from mlcore.hookspecs import HOOK_API_VERSION, hookimpl
from mlcore.protocols import (
    Batch,
    DeviceCode,
    Features,
    FeatureShape,
    LossOutput,
    Pairs,
    PlaceTable,
    Reranker,
    Role,
    Split,
    Triplets,
)

if TYPE_CHECKING:
    from mlcore.api import compare, evaluate, load_run, train

__version__ = "0.1.0"

__all__ = [
    "HOOK_API_VERSION",
    "BackboneFactory",
    "Batch",
    "BuildContext",
    "ConfigError",
    "DataError",
    "DatasetFactory",
    "DeviceCode",
    "FeatureShape",
    "Features",
    "Finding",
    "InfluenceFactory",
    "LossFactory",
    "LossOutput",
    "MinerFactory",
    "MissingLibraryError",
    "MlcoreError",
    "ModelFactory",
    "NonFiniteLossError",
    "Pairs",
    "PlaceTable",
    "PluginError",
    "PoolingFactory",
    "Report",
    "Reranker",
    "RerankerFactory",
    "Role",
    "SamplingRadii",
    "Split",
    "Triplets",
    "UnknownNameError",
    "Weights",
    "compare",
    "evaluate",
    "hookimpl",
    "load_run",
    "require_library",
    "train",
]

_API = ("compare", "evaluate", "load_run", "train")


def __getattr__(name: str) -> object:
    if name not in _API:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module("mlcore.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_API})
