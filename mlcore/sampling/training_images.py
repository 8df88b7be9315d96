"""The images that tuples are drawn from, as columns, and the locations along them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

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
    """

    index: Rows
    positions_m: NDArray[np.float64]
    headings_rad: NDArray[np.float64] | None

    @classmethod
    def of(cls, split: Split) -> TrainingImages:
        """Return the images of a split."""
        parts = [part for part in (split.references, split.queries) if len(part)]
        headings = [part.headings_rad for part in parts if part.headings_rad is not None]
        return cls(
            index=_joined([part.index for part in parts]),
            positions_m=_joined([part.positions_m for part in parts]),
            headings_rad=_joined(headings) if len(headings) == len(parts) else None,
        )

    def __len__(self) -> int:
        return len(self.index)


def location_rows(references: PlaceTable, spacing_m: float) -> Rows:
    """Return the reference rows that stand for one location each.

    They are the first image of every ``spacing_m`` along each traversal: fewer than one
    every ``spacing_m`` where images are sparser than that.
    """
    order = np.argsort(references.traversal, kind="stable")
    traversal = references.traversal[order]
    starts = np.append(True, traversal[1:] != traversal[:-1])[: len(order)]
    if references.arc_length_m is not None:
        along_m = references.arc_length_m[order]
    else:
        along_m = _walked_m(references.positions_m[order], starts)
    stretch = np.floor(along_m / spacing_m)
    starts[1:] |= stretch[1:] != stretch[:-1]
    rows: Rows = order[starts]
    return rows


def place_ids(positions_m: NDArray[np.float64], cell_m: float) -> Rows:
    """Return the place ``(N,)`` of each position: its cell of a global grid, from 0 up."""
    axes = [np.floor(axis / cell_m) for axis in positions_m[:, :2].T]
    column, row = (np.unique(axis, return_inverse=True)[1] for axis in axes)
    cell = column * (row.max(initial=0) + 1) + row
    place: Rows = np.unique(cell, return_inverse=True)[1].astype(np.int64, copy=False)
    return place


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
