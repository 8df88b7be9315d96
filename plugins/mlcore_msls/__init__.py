"""Mapillary Street-Level Sequences as a data set: streets of many cities over years.

Importing this package imports neither NumPy nor torch; what it exports is loaded when
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcore_msls.config import MslsConfig
    from mlcore_msls.dataset import open_msls

_HOME = {"MslsConfig": "config", "open_msls": "dataset"}

__all__ = ["MslsConfig", "open_msls"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
