"""Tools for data sets: images, positions, checks, and readers for untrusted files.

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
    from mlcore.data.geometry_checks import find_clusters, grid_step, too_fast
    from mlcore.data.image_files import ImageFiles, find_images
    from mlcore.data.image_formats import (
        DAMAGED_EXIF,
        ImageWalk,
        image_suffixes,
        open_image,
    )
    from mlcore.data.images import read_image
    from mlcore.data.listed_images import ListedImages, split_cities
    from mlcore.data.mat_files import MatArray, fields_of, numbers_of, read_mat, texts_of
    from mlcore.data.positions import (
        PositionIndex,
        apart_m,
        distances_m,
        heading_difference_rad,
        wrap_rad,
    )
    from mlcore.data.projections import (
        Zone,
        change_zone,
        groups_of,
        near_zones,
        project,
        turn_deg,
    )
    from mlcore.data.soundness import FAULTS, check_opened, check_splits, require_sound
    from mlcore.data.spec_bytes import MAX_BYTES, describe_contents, read_bounded

_HOME = {
    "DAMAGED_EXIF": "image_formats",
    "FAULTS": "soundness",
    "ImageFiles": "image_files",
    "ImageWalk": "image_formats",
    "ListedImages": "listed_images",
    "MAX_BYTES": "spec_bytes",
    "MAX_EXAMPLES": "checks",
    "MatArray": "mat_files",
    "PositionIndex": "positions",
    "RADII_M": "checks",
    "Zone": "projections",
    "apart_m": "positions",
    "change_zone": "projections",
    "check_coverage": "checks",
    "check_files": "checks",
    "check_opened": "soundness",
    "check_splits": "soundness",
    "describe_contents": "spec_bytes",
    "distances_m": "positions",
    "fields_of": "mat_files",
    "file_names": "checks",
    "find_clusters": "geometry_checks",
    "find_images": "image_files",
    "grid_step": "geometry_checks",
    "groups_of": "projections",
    "heading_difference_rad": "positions",
    "image_suffixes": "image_formats",
    "near_zones": "projections",
    "nearest_m": "checks",
    "numbers_of": "mat_files",
    "open_image": "image_formats",
    "project": "projections",
    "read_bounded": "spec_bytes",
    "read_image": "images",
    "read_mat": "mat_files",
    "require_sound": "soundness",
    "split_cities": "listed_images",
    "texts_of": "mat_files",
    "too_fast": "geometry_checks",
    "turn_deg": "projections",
    "wrap_rad": "positions",
}

__all__ = [
    "DAMAGED_EXIF",
    "FAULTS",
    "MAX_BYTES",
    "MAX_EXAMPLES",
    "RADII_M",
    "ImageFiles",
    "ImageWalk",
    "ListedImages",
    "MatArray",
    "PositionIndex",
    "Zone",
    "apart_m",
    "change_zone",
    "check_coverage",
    "check_files",
    "check_opened",
    "check_splits",
    "describe_contents",
    "distances_m",
    "fields_of",
    "file_names",
    "find_clusters",
    "find_images",
    "grid_step",
    "groups_of",
    "heading_difference_rad",
    "image_suffixes",
    "near_zones",
    "nearest_m",
    "numbers_of",
    "open_image",
    "project",
    "read_bounded",
    "read_image",
    "read_mat",
    "require_sound",
    "split_cities",
    "texts_of",
    "too_fast",
    "turn_deg",
    "wrap_rad",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
