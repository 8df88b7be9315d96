"""Checks for every data set: missing files, images that cannot be decoded, coverage.

For plugins: ``check`` of a data set adds checks of its own file formats.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlcore.data.positions import PositionIndex
from mlcore.errors import DataError
from mlcore.factories import Finding
from mlcore.protocols import PlaceDataset

if TYPE_CHECKING:
    from torch import Tensor

NUM_DECODED = 200
"""Images that are decoded, evenly spaced over all; all of them in a full check."""
MAX_EXAMPLES = 5
_FEW_LEVELS = 18
"""What a 12-bit sensor leaves of a 16-bit file is 17 levels; even a foggy night has more."""
RADII_M = (10.0, 25.0)
"""Queries should have a reference within these."""


def file_names(folder: Path) -> frozenset[str]:
    """Return the names of the files in a folder, none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except (OSError, ValueError):  # no such folder, or a name that none can have
        return frozenset()


def check_files(
    dataset: PlaceDataset,
    num_images: int,
    missing: NDArray[np.int64],
    *,
    full: bool,
    absent: str,
    unreadable: str,
) -> list[Finding]:
    """Return the findings about images: missing files, and images that cannot be decoded.

    Args:
        dataset: The data set.
        num_images: How many it has.
        missing: Images without a file.
        full: Whether to decode all others, not :data:`NUM_DECODED` of them.
        absent: The message about missing ones, which says how to fix it.
        unreadable: That about those that cannot be decoded.
    """
    findings = []
    if len(missing):
        examples = tuple(map(dataset.image_name, missing[:MAX_EXAMPLES].tolist()))
        findings.append(Finding("fault", absent, len(missing), examples))
    there = np.setdiff1d(np.arange(num_images), missing)
    return findings + decode_sample(dataset, there, full=full, unreadable=unreadable)


def decode_sample(
    dataset: PlaceDataset, images: NDArray[np.int64], *, full: bool, unreadable: str
) -> list[Finding]:
    """Return the findings about images that cannot be decoded, or are almost uniform.

    Args:
        dataset: The data set.
        images: Indices of images that have a file.
        full: Whether to decode all of them, not :data:`NUM_DECODED`.
        unreadable: The message about those that cannot be decoded.
    """
    if not len(images):
        return []
    number = len(images) if full else NUM_DECODED
    spread = np.unique(np.linspace(0, len(images) - 1, number).astype(int))
    sizes: Counter[str] = Counter()
    faults, flat = [], []
    for index in images[spread].tolist():
        try:
            image = dataset.load_image(index)
        except DataError as error:
            faults.append(str(error))
            continue
        _, height, width = image.shape
        sizes[f"{width} x {height} px"] += 1
        if _is_flat(image):
            flat.append(dataset.image_name(index))
    common = ", ".join(f"{size} ({count})" for size, count in sizes.most_common(MAX_EXAMPLES))
    findings = [Finding("info", f"{len(spread)} images decoded: {common or 'none'}")]
    if faults:
        examples = tuple(faults[:MAX_EXAMPLES])
        findings.append(Finding("fault", unreadable, len(faults), examples))
    if flat:
        message = (
            f"images keep fewer than {_FEW_LEVELS} grey levels in 8 bits; stretch the range of "
            "16-bit and thermal images first"
        )
        findings.append(Finding("warning", message, len(flat), tuple(flat[:MAX_EXAMPLES])))
    return findings


def _is_flat(image: Tensor) -> bool:
    """Return whether a grey image keeps hardly any structure; one level is a plain colour."""
    import torch

    levels = int((torch.bincount(image[0].flatten(), minlength=256) > 0).sum())
    is_grey = bool((image[0] == image[1]).all() and (image[0] == image[2]).all())
    return is_grey and 1 < levels < _FEW_LEVELS


def check_coverage(
    name: str, references_m: NDArray[np.float64], queries_m: NDArray[np.float64]
) -> list[Finding]:
    """Return the findings about queries without a reference within each of ``RADII_M``.

    Args:
        name: Of the split.
        references_m: ``(R, 2)`` or ``(R, 3)``, R > 0, with regions as of
            :func:`mlcore.data.positions.apart_m`.
        queries_m: ``(Q, 2)`` or ``(Q, 3)``, Q > 0, likewise.
    """
    away_m = nearest_m(references_m, queries_m)
    return [
        Finding("warning", f"{name}: queries have no reference within {radius_m:g} m", alone)
        for radius_m in RADII_M
        if (alone := int((away_m > radius_m).sum()))
    ]


def nearest_m(
    positions_m: NDArray[np.float64], points_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return each point's distance to the nearest position, metres."""
    nearest = positions_m[PositionIndex(positions_m).nearest(points_m)]
    distance_m: NDArray[np.float64] = np.linalg.norm(nearest - points_m, axis=1)
    return distance_m
