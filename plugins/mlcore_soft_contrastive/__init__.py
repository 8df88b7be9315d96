"""The proposed loss: soft contrastive learning for visual localization.

Importing this package imports no torch; what it exports is loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcore_soft_contrastive.config import SoftContrastiveConfig
    from mlcore_soft_contrastive.functional import soft_contrastive_loss
    from mlcore_soft_contrastive.influence import FieldOfView, Linear, Sigmoid, Step, Tanh
    from mlcore_soft_contrastive.module import SoftContrastiveLoss
    from mlcore_soft_contrastive.pairwise.distance import pairwise_distance

_HOME = {
    "FieldOfView": "influence",
    "Linear": "influence",
    "Sigmoid": "influence",
    "SoftContrastiveConfig": "config",
    "SoftContrastiveLoss": "module",
    "Step": "influence",
    "Tanh": "influence",
    "pairwise_distance": "pairwise.distance",
    "soft_contrastive_loss": "functional",
}

__all__ = [
    "FieldOfView",
    "Linear",
    "Sigmoid",
    "SoftContrastiveConfig",
    "SoftContrastiveLoss",
    "Step",
    "Tanh",
    "pairwise_distance",
    "soft_contrastive_loss",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
