"""What every data set's check looks at: missing files, images that decode, coverage.

For plugins: ``check`` of a data set adds what only its own files can have.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.data.positions import PositionIndex
from mlcore.errors import DataError
from mlcore.factories import Finding
from mlcore.protocols import PlaceDataset

NUM_DECODED = 200
"""Images that are decoded, evenly spaced over all; all of them in a full check."""
MAX_EXAMPLES = 5
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
    """Return the findings about images: which have no file, and which cannot be decoded.

    Args:
        dataset: The data set.
        num_images: How many it has.
        missing: Images without a file.
        full: Whether to decode all others, not :data:`NUM_DECODED` of them.
        absent: The message about missing ones, which says what would do.
        unreadable: That about those that cannot be decoded.
    """
    findings = []
    if len(missing):
        examples = tuple(map(dataset.image_name, missing[:MAX_EXAMPLES].tolist()))
        findings.append(Finding("fault", absent, len(missing), examples))
    there = np.setdiff1d(np.arange(num_images), missing)
    if not len(there):
        return findings
    number = len(there) if full else NUM_DECODED
    spread = np.unique(np.linspace(0, len(there) - 1, number).astype(int))
    sizes: Counter[str] = Counter()
    faults = []
    for index in there[spread].tolist():
        try:
            _, height, width = dataset.load_image(index).shape
        except DataError as error:
            faults.append(str(error))
            continue
        sizes[f"{width} x {height} px"] += 1
    common = ", ".join(f"{size} ({count})" for size, count in sizes.most_common(MAX_EXAMPLES))
    findings.append(Finding("info", f"{len(spread)} images decoded: {common or 'none'}"))
    if faults:
        examples = tuple(faults[:MAX_EXAMPLES])
        findings.append(Finding("fault", unreadable, len(faults), examples))
    return findings


def check_coverage(
    name: str, references_m: NDArray[np.float64], queries_m: NDArray[np.float64]
) -> list[Finding]:
    """Return the findings about queries without a reference within each of ``RADII_M``.

    Args:
        name: Of the split.
        references_m: ``(R, 2)`` or ``(R, 3)``, R > 0.
        queries_m: ``(Q, 2)`` or ``(Q, 3)``, Q > 0.
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
