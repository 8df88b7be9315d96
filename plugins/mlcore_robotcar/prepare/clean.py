"""What is left out of the prepared images, as in the paper, and the region of each image.

Nothing is removed from the disk: a column of the index says why an image is left out.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlcore.protocols import Progress
from mlcore_robotcar.config import RobotCarConfig
from mlcore_robotcar.download.poses import arc_length_m
from mlcore_robotcar.prepare.index import (
    SCHEMA,
    index_path,
    indexed_dates,
    read_footer,
    read_rows,
    words,
    write_table,
)
from mlcore_robotcar.protocol import resolve
from mlcore_robotcar.regions import REGIONS, Cut

_DESCRIPTION = "cleaning"
_BIN_M = 1.0
_FARTHEST_M = 25.0
"""Images farther from the reference path are in no bin: a side road's would all be in the bin
of the junction, and its median theirs."""


def clean(config: RobotCarConfig, out: Path, cut: Cut, progress: Progress) -> Counter[str]:
    """Write into every index the region of each image and why it is left out.

    Returns:
        Numbers of images by reason ("exposure", "offset") and by region.
    """
    dates = indexed_dates(out)
    bins = _Bins.of_reference(config, out, dates)
    if bins is not None:
        for date in dates:
            bins.add(_positions(out, date))
        bins.settle()
    counts: Counter[str] = Counter()
    progress(_DESCRIPTION, 0, len(dates))
    for done, date in enumerate(dates, start=1):
        counts += _clean_one(config, out, date, cut, bins)
        progress(_DESCRIPTION, done, len(dates))
    if bins is None and config.max_offset_m is not None:
        counts["no reference"] = 1
    return counts


def _clean_one(
    config: RobotCarConfig, out: Path, date: str, cut: Cut, bins: _Bins | None
) -> Counter[str]:
    path = index_path(out, date)
    table = read_rows(path, SCHEMA.names)
    positions_m = _stacked(table)
    dropped = np.full(len(table), "", dtype="<U8")
    if bins is not None and config.max_offset_m is not None:
        dropped[bins.offset_m(positions_m) > config.max_offset_m] = "offset"
    exposure = table["exposure"].to_numpy()
    if len(exposure):
        low, high = np.percentile(exposure, config.exposure_percentiles)
        dropped[(exposure < low) | (exposure > high)] = "exposure"
    codes = cut.codes(date, table["timestamp"].to_numpy(), positions_m)
    region = np.array([*REGIONS, ""])[codes]
    changed = table
    for name, texts in (("region", region), ("dropped", dropped)):
        column = words(texts.tolist())
        changed = changed.set_column(SCHEMA.names.index(name), name, column)
    if not changed.cast(SCHEMA).equals(table.cast(SCHEMA)):
        footer = read_footer(path)
        write_table(out, date, changed, condition=footer.condition, suffix=footer.suffix)
    kept = region[dropped == ""]
    return Counter(dropped[dropped != ""].tolist()) + Counter(kept[kept != ""].tolist())


class _Bins:
    """Bins of 1 m along a path, and the median position of the images in each.

    Args:
        path_m: ``(N, 2)`` positions along the path.
    """

    def __init__(self, path_m: NDArray[np.float64]) -> None:
        from scipy.spatial import cKDTree

        along = arc_length_m(path_m)
        marks = np.arange(0.0, along[-1] + _BIN_M, _BIN_M)
        centres = [np.interp(marks, along, path_m[:, axis]) for axis in (0, 1)]
        self._centres_m = np.stack(centres, axis=1)
        self._tree = cKDTree(self._centres_m)
        self._bins: list[NDArray[np.int32]] = []
        self._offsets_m: list[NDArray[np.float32]] = []
        self._medians_m = self._centres_m

    @classmethod
    def of_reference(cls, config: RobotCarConfig, out: Path, dates: list[str]) -> _Bins | None:
        """Return the bins of the reference traversal; None if it is not there."""
        reference = resolve(config, dates).reference
        if config.max_offset_m is None or reference not in dates:
            return None
        path_m = _positions(out, reference)
        return cls(path_m) if len(path_m) else None

    def _nearest(self, positions_m: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the bin of each position; one past the last where none is near."""
        _, nearest = self._tree.query(positions_m, distance_upper_bound=_FARTHEST_M)
        return np.asarray(nearest, dtype=np.int64)

    def add(self, positions_m: NDArray[np.float64]) -> None:
        """Take the images of a traversal into the medians: 12 bytes each."""
        nearest = self._nearest(positions_m)
        near = nearest < len(self._centres_m)
        self._bins.append(nearest[near].astype(np.int32))
        offsets_m = positions_m[near] - self._centres_m[nearest[near]]
        self._offsets_m.append(offsets_m.astype(np.float32))

    def settle(self) -> None:
        """Compute the medians."""
        bins, offsets_m = np.concatenate(self._bins), np.concatenate(self._offsets_m)
        self._bins, self._offsets_m = [], []
        sizes = np.bincount(bins, minlength=len(self._centres_m))
        starts = np.cumsum(sizes) - sizes
        filled = np.flatnonzero(sizes)
        medians_m = np.zeros_like(self._centres_m)
        for axis in (0, 1):
            ordered = offsets_m[np.lexsort((offsets_m[:, axis], bins)), axis]
            low = ordered[starts[filled] + (sizes[filled] - 1) // 2]
            high = ordered[starts[filled] + sizes[filled] // 2]
            medians_m[filled, axis] = (low.astype(np.float64) + high) / 2
        self._medians_m = self._centres_m + medians_m

    def offset_m(self, positions_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the distance of each position from its bin's median; inf without bin."""
        nearest = self._nearest(positions_m)
        offsets_m = np.full(len(positions_m), np.inf)
        near = nearest < len(self._centres_m)
        apart_m = positions_m[near] - self._medians_m[nearest[near]]
        offsets_m[near] = np.linalg.norm(apart_m, axis=1)
        return offsets_m


def _positions(out: Path, date: str) -> NDArray[np.float64]:
    return _stacked(read_rows(index_path(out, date), ("easting", "northing")))


def _stacked(table: pa.Table) -> NDArray[np.float64]:
    return np.stack([table["easting"].to_numpy(), table["northing"].to_numpy()], axis=1)
