"""The images that tuples are drawn from, as columns, and the locations along them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mlcore.data.positions import apart_m
from mlcore.protocols import PlaceTable, Split

Rows = NDArray[np.int64]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, kw_only=True)
class TrainingImages:
    """References and queries of a training split as one table, the references first.

    Memory: 24 bytes per image, 32 with headings; columns of a split without queries are
    used as they are, memory-mapped or not.

    Attributes:
        index: ``(N,)`` int64, what the data set's ``load_image`` takes.
        positions_m: ``(N, 2)`` or ``(N, 3)`` float64, metres.
        headings_rad: ``(N,)`` float64, or None unless both parts have headings.
        region: ``(N,)`` codes, or None for one region.
        place: ``(N,)`` codes of the data set's places, or None unless both parts have some.
    """

    index: Rows
    positions_m: NDArray[np.float64]
    headings_rad: NDArray[np.float64] | None
    region: NDArray[np.integer] | None = None
    place: NDArray[np.integer] | None = None

    @classmethod
    def of(cls, split: Split) -> TrainingImages:
        """Return the images of a split."""
        parts = [part for part in (split.references, split.queries) if len(part)]
        headings = [part.headings_rad for part in parts if part.headings_rad is not None]
        regions = [part.region for part in parts if part.region is not None]
        places = [part.place for part in parts if part.place is not None]
        return cls(
            index=_joined([part.index for part in parts]),
            positions_m=_joined([part.positions_m for part in parts]),
            headings_rad=_joined(headings) if len(headings) == len(parts) else None,
            region=_joined(regions) if regions else None,
            place=_joined(places) if len(places) == len(parts) else None,
        )

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def apart_m(self) -> NDArray[np.float64]:
        """Positions for searches: :func:`mlcore.data.positions.apart_m`."""
        return apart_m(self.positions_m, self.region)

    def places(self, cell_m: float) -> Rows:
        """Return the place ``(N,)`` of each image, from 0: the data set's, or else a cell's."""
        if self.place is None:
            return place_ids(self.positions_m, cell_m, self.region)
        codes: Rows = np.unique(self.place, return_inverse=True)[1]
        return codes.astype(np.int64, copy=False)


def location_rows(references: PlaceTable, spacing_m: float) -> Rows:
    """Return the reference rows that stand for one location each.

    They are the first image of every ``spacing_m`` along each traversal: fewer than one
    every ``spacing_m`` where images are sparser than that. A traversal of several regions
    counts as one in each.
    """
    walks = [references.traversal]
    walks += [] if references.region is None else [references.region]
    order = np.lexsort(walks)
    starts = np.append(True, np.any([w[order][1:] != w[order][:-1] for w in walks], axis=0))
    starts = starts[: len(order)]
    if references.arc_length_m is not None:
        along_m = references.arc_length_m[order]
    else:
        along_m = _walked_m(references.positions_m[order], starts)
    stretch = np.floor(along_m / spacing_m)
    starts[1:] |= stretch[1:] != stretch[:-1]
    rows: Rows = order[starts]
    return rows


def place_ids(
    positions_m: NDArray[np.float64],
    cell_m: float,
    region: NDArray[np.integer] | None = None,
) -> Rows:
    """Return the place ``(N,)`` of each position: its cell of a grid, from 0 up.

    Each region has a grid of its own.
    """
    axes = [np.floor(axis / cell_m) for axis in positions_m[:, :2].T]
    axes = axes if region is None else [region, *axes]
    cell = np.zeros(len(positions_m), np.int64)
    for axis in axes:
        code = np.unique(axis, return_inverse=True)[1]
        cell = np.unique(cell * (code.max(initial=0) + 1) + code, return_inverse=True)[1]
    return cell.astype(np.int64, copy=False)


def _walked_m(
    positions_m: NDArray[np.float64], starts: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Return the distance ``(N,)`` walked since the last of ``starts``."""
    steps = np.zeros(len(positions_m))
    steps[1:] = np.linalg.norm(np.diff(positions_m, axis=0), axis=1)
    walked = np.cumsum(steps)
    start = np.maximum.accumulate(np.where(starts, np.arange(len(starts)), 0))
    distance: NDArray[np.float64] = walked - walked[start]
    return distance


def _joined(parts: list[NDArray[T]]) -> NDArray[T]:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
