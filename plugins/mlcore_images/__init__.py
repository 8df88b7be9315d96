"""Your own geo-tagged images as a data set: a table, file names with positions, EXIF GPS.

Importing this package imports neither torch nor numpy; what it exports is loaded when
first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcore_images.checks.checking import check_images
    from mlcore_images.config import ImagesConfig
    from mlcore_images.dataset import ImagesDataset, open_images

_HOME = {
    "ImagesConfig": "config",
    "ImagesDataset": "dataset",
    "check_images": "checks.checking",
    "open_images": "dataset",
}

__all__ = ["ImagesConfig", "ImagesDataset", "check_images", "open_images"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
