"""Pittsburgh (Pitts30k, Pitts250k) as a data set, from the NetVLAD spec files.

Importing this package imports neither torch nor numpy; what it exports is loaded when
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcore_pittsburgh.checking import check_pittsburgh
    from mlcore_pittsburgh.config import PittsburghConfig
    from mlcore_pittsburgh.dataset import PittsburghDataset, open_pittsburgh

_HOME = {
    "PittsburghConfig": "config",
    "PittsburghDataset": "dataset",
    "check_pittsburgh": "checking",
    "open_pittsburgh": "dataset",
}

__all__ = ["PittsburghConfig", "PittsburghDataset", "check_pittsburgh", "open_pittsburgh"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
