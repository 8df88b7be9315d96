"""Images prepared by third parties: listed once, with their positions."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlcore_robotcar.download.conditions import condition_of
from mlcore_robotcar.download.poses import arc_length_m
from mlcore_robotcar.layouts.sources import Columns
from mlcore_robotcar.regions import Cut

if TYPE_CHECKING:
    from torch import Tensor


class Listed(NamedTuple):
    """Images of a third-party layout, in any order.

    Attributes:
        dates: ``(N,)`` names of traversals.
        timestamps: ``(N,)`` int64, what orders the images of a traversal.
        paths: ``(N,)`` relative to the root.
        positions_m: ``(N, 2)`` float64, easting and northing.
        headings_rad: ``(N,)`` float64, or None.
        own: Rows of each split's references and queries, ascending; None: by the protocol.
    """

    dates: NDArray[np.str_]
    timestamps: NDArray[np.int64]
    paths: pa.LargeStringArray
    positions_m: NDArray[np.float64]
    headings_rad: NDArray[np.float64] | None
    own: Mapping[tuple[str, str], NDArray[np.int64]] | None = None


class ListedSource:
    """Images prepared by third parties, with their positions in tables or in names.

    Args:
        layout: What it is, in words.
        root: Folder of the images.
        listed: The images.
        leave_out: Traversals that are not used.
        notes: What was found when they were listed.

    Attributes:
        own: Images, by their place among all, of each split's references and queries; None
            where the protocol decides.
    """

    def __init__(
        self,
        layout: str,
        root: Path,
        listed: Listed,
        leave_out: Sequence[str],
        notes: Sequence[str],
    ) -> None:
        self.layout, self.root, self.notes = layout, root, list(notes)
        self.has_headings = listed.headings_rad is not None
        used = ~np.isin(listed.dates, list(leave_out))
        if not used.all():
            gone = ", ".join(np.unique(listed.dates[~used]).tolist())
            self.notes.append(f"left out by dataset.leave_out: {gone}")
        rows = np.flatnonzero(used)
        order = rows[np.lexsort((listed.timestamps[rows], listed.dates[rows]))]
        dates, starts = np.unique(listed.dates[order], return_index=True)
        self.dates = dates.tolist()
        self.conditions = [condition_of(date, ()) for date in self.dates]
        self._ends = [*starts.tolist()[1:], len(order)]
        self._starts = starts.tolist()
        self.sizes = np.diff([*self._starts, len(order)]).tolist()
        self.own: dict[tuple[str, str], NDArray[np.int64]] | None = None
        if listed.own is not None:
            place = np.full(len(listed.dates), -1, np.int64)
            place[order] = np.arange(len(order))
            taken = {key: np.sort(place[of_key]) for key, of_key in listed.own.items()}
            self.own = {key: found[found >= 0] for key, found in taken.items()}
        self._timestamps = listed.timestamps[order]
        self._paths = listed.paths.take(pa.array(order))
        self._positions_m = listed.positions_m[order]
        heading = listed.headings_rad
        self._headings_rad = None if heading is None else heading[order]

    def _span(self, number: int) -> slice:
        return slice(self._starts[number], self._ends[number])

    def regions(self, number: int, cut: Cut | None) -> NDArray[np.int8]:
        """Return the region of each image."""
        assert cut is not None, "a third-party layout has no regions of its own"
        span = self._span(number)
        stamps = self._timestamps[span]
        return cut.codes(self.dates[number], stamps, self._positions_m[span])

    def columns(self, number: int) -> Columns:
        """Return what is known of the images of a traversal."""
        span = self._span(number)
        positions_m = self._positions_m[span]
        heading = None if self._headings_rad is None else self._headings_rad[span]
        return Columns(positions_m, heading, arc_length_m(positions_m))

    def timestamps(self, number: int) -> NDArray[np.int64]:
        """Return the timestamps of a traversal."""
        return self._timestamps[self._span(number)]

    def load(self, number: int, row: int) -> Tensor:
        """Return an image as it is."""
        from mlcore.data import read_image

        return read_image(self.root / self.name(number, row))

    def name(self, number: int, row: int) -> str:
        """Return the image's path, relative to the root."""
        return str(self._paths[self._starts[number] + row])

    def digest(self) -> str:
        """Return what changes with any name or position."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update("\0".join(self.dates).encode())
        digest.update(self._timestamps.tobytes())
        digest.update(self._positions_m.tobytes())
        if self._headings_rad is not None:
            digest.update(self._headings_rad.tobytes())
        return digest.hexdigest()
