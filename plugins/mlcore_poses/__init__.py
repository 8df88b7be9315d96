"""A camera trajectory as a data set: poses of COLMAP, TUM or KITTI, and a folder of images.

Importing this package imports neither NumPy nor torch; what it exports is loaded when
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcore_poses.config import PosesConfig
    from mlcore_poses.dataset import open_poses

_HOME = {"PosesConfig": "config", "open_poses": "dataset"}

__all__ = ["PosesConfig", "open_poses"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
