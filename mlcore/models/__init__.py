"""Embedding models: what a plugin derives its networks from.

A whole network is an :class:`EmbeddingModel`; one in two parts is a :class:`Backbone` and a
:class:`Pooling`, which :func:`compose` puts together. Importing this imports no torch; the
names that need it are imported when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlcore.models.config import ModelConfig, NetworkConfig

if TYPE_CHECKING:
    from mlcore.models.embedding import EmbeddingModel
    from mlcore.models.networks import Network, compose
    from mlcore.models.parts import Backbone, ColourNormalisation, Pooling

__all__ = [
    "Backbone",
    "ColourNormalisation",
    "EmbeddingModel",
    "ModelConfig",
    "Network",
    "NetworkConfig",
    "Pooling",
    "compose",
]

_LAZY = {
    "Backbone": "parts",
    "ColourNormalisation": "parts",
    "EmbeddingModel": "embedding",
    "Network": "networks",
    "Pooling": "parts",
    "compose": "networks",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
