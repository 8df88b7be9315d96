"""GSV-Cities as a data set: places of many cities, each seen at several times.

Importing this package imports neither NumPy nor torch; what it exports is loaded when
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcore_gsv_cities.config import GsvCitiesConfig
    from mlcore_gsv_cities.dataset import open_gsv_cities

_HOME = {"GsvCitiesConfig": "config", "open_gsv_cities": "dataset"}

__all__ = ["GsvCitiesConfig", "open_gsv_cities"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
