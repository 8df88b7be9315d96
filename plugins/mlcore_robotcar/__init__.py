"""Oxford RobotCar as a data set, from the download or from the output of ``prepare``.

Importing this package imports neither torch, numpy nor OpenCV; what it exports is loaded
when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcore_robotcar.checking import check_robotcar
    from mlcore_robotcar.config import RobotCarConfig
    from mlcore_robotcar.dataset import RobotCarDataset, open_robotcar
    from mlcore_robotcar.prepare.prepare import prepare_robotcar

_HOME = {
    "RobotCarConfig": "config",
    "RobotCarDataset": "dataset",
    "check_robotcar": "checking",
    "open_robotcar": "dataset",
    "prepare_robotcar": "prepare.prepare",
}

__all__ = [
    "RobotCarConfig",
    "RobotCarDataset",
    "check_robotcar",
    "open_robotcar",
    "prepare_robotcar",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
