"""What data sets are made of: images, positions, checks, and readers that trust no file.

Everything a data-set plugin needs is importable from here, and loaded when first used:
importing this package imports neither NumPy nor torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlcore.data.checks import (
        MAX_EXAMPLES,
        RADII_M,
        check_coverage,
        check_files,
        file_names,
        nearest_m,
    )
    from mlcore.data.image_files import ImageFiles, find_images
    from mlcore.data.images import read_image
    from mlcore.data.mat_files import MatArray, fields_of, numbers_of, read_mat, texts_of
    from mlcore.data.positions import PositionIndex, heading_difference_rad, wrap_rad
    from mlcore.data.spec_bytes import MAX_BYTES, describe_contents, read_bounded

_HOME = {
    "MAX_BYTES": "spec_bytes",
    "MAX_EXAMPLES": "checks",
    "RADII_M": "checks",
    "ImageFiles": "image_files",
    "MatArray": "mat_files",
    "PositionIndex": "positions",
    "check_coverage": "checks",
    "check_files": "checks",
    "fields_of": "mat_files",
    "file_names": "checks",
    "find_images": "image_files",
    "heading_difference_rad": "positions",
    "nearest_m": "checks",
    "numbers_of": "mat_files",
    "read_bounded": "spec_bytes",
    "read_image": "images",
    "read_mat": "mat_files",
    "texts_of": "mat_files",
    "describe_contents": "spec_bytes",
    "wrap_rad": "positions",
}

__all__ = [
    "MAX_BYTES",
    "MAX_EXAMPLES",
    "RADII_M",
    "ImageFiles",
    "MatArray",
    "PositionIndex",
    "check_coverage",
    "check_files",
    "describe_contents",
    "fields_of",
    "file_names",
    "find_images",
    "heading_difference_rad",
    "nearest_m",
    "numbers_of",
    "read_bounded",
    "read_image",
    "read_mat",
    "texts_of",
    "wrap_rad",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
