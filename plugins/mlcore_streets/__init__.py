"""A town rendered from a seed: the data set that needs no download.

Importing this package imports neither NumPy nor torch; what it exports is loaded when
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcore_streets.config import StreetsConfig
    from mlcore_streets.dataset import StreetsDataset

_HOME = {"StreetsConfig": "config", "StreetsDataset": "dataset"}

__all__ = ["StreetsConfig", "StreetsDataset"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
