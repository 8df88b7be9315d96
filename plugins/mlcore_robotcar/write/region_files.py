"""Regions of a data set that is written: boxes where they do, else lists of images."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.files import write_lines
from mlcore.protocols import Split
from mlcore_robotcar.write.drives import Drive

_MARGIN_M = 5.0
"""Between the outermost images and the border of their region."""

Boxes = dict[str, NDArray[np.float64]]


def write_regions(out: Path, splits: dict[str, Split], drives: Sequence[Drive]) -> Path:
    """Write what cuts the images into their splits, and return its path.

    ``regions.txt`` with a box for each split; where boxes overlap, the folder ``regions`` with
    a list of each split's images.
    """
    boxes = _boxes(splits)
    if not any(_overlap(one, other) for one, other in combinations(boxes.values(), 2)):
        path = out / "regions.txt"
        write_lines(path, _polygons(boxes))
        return path
    folder = out / "regions"
    folder.mkdir()
    for name in boxes:
        lines = (
            f"{drive.date} {stamp}"
            for drive in drives
            for stretch in drive.stretches
            if stretch.region == name
            for stamp in stretch.timestamps.tolist()
        )
        write_lines(folder / f"{name}.txt", lines)
    return folder


def _boxes(splits: dict[str, Split]) -> Boxes:
    """Return the lowest and the highest corner ``(2, 2)`` of each split that has images."""
    boxes = {}
    for name, split in splits.items():
        tables = [table for table in (split.references, split.queries) if len(table)]
        if tables:
            at_m = np.concatenate([table.positions_m[:, :2] for table in tables])
            boxes[name] = np.stack([at_m.min(axis=0) - _MARGIN_M, at_m.max(axis=0) + _MARGIN_M])
    return boxes


def _overlap(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return bool((one[0] <= other[1]).all() and (other[0] <= one[1]).all())


def _polygons(boxes: Boxes) -> list[str]:
    lines = [
        "# Around the images of each split: easting and northing of each corner, in metres"
    ]
    for name, ((west, south), (east, north)) in boxes.items():
        corners = ((west, south), (east, south), (east, north), (west, north))
        lines += ["", name, *(f"{corner[0]:.2f} {corner[1]:.2f}" for corner in corners)]
    return lines
