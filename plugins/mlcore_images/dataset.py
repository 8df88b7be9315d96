"""The data set ``images``: columns of positions, and images read on demand."""

from __future__ import annotations

import hashlib
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore.factories import Finding
from mlcore.protocols import PlaceTable, Split
from mlcore_images.checks.positions import read_headings, read_positions
from mlcore_images.config import ImagesConfig
from mlcore_images.readers.captures import (
    as_taken,
    check_times,
    conditions_of,
    times_of,
    traversals_of,
)
from mlcore_images.readers.layouts import find_listing
from mlcore_images.readers.listing import Listing, shown
from mlcore_images.splits import QUERY, REFERENCE, SPLITS, assign

if TYPE_CHECKING:
    from torch import Tensor

_PROBED = 1000
"""Largest number of files looked for on opening, one per traversal."""
_FINGERPRINTED = 256
"""Largest number of evenly spaced images whose size in bytes is in the fingerprint."""


def open_images(config: ImagesConfig) -> ImagesDataset:
    """Open your own images.

    Raises:
        ConfigError: Options do not fit together, or a selection is malformed.
        DataError: The folder, the table or a value in it is missing, malformed or
            implausible.
    """
    return ImagesDataset(find_listing(config), config)


class ImagesDataset:
    """Images with positions from a table, from file names or from EXIF GPS.

    Keeps one path, position and heading per image, as columns; can be pickled.

    Attributes:
        layout: "CSV", "Parquet", "file names" or "EXIF".
        root: Folder that paths are relative to.
        paths: Path of each image; an image's index is its row in the source.
        findings: What was found and what was left out.
        notes: The same as text.
    """

    def __init__(self, listing: Listing, config: ImagesConfig) -> None:
        self.layout = listing.layout
        self.root = listing.root
        self.paths: pa.LargeStringArray = listing.paths
        located = read_positions(listing, config)
        headings_rad, of_headings = read_headings(listing, config.heading_convention)
        parts = assign(listing, config)
        traversal, traversals = traversals_of(listing)
        condition, conditions = conditions_of(listing)
        every = PlaceTable(
            index=np.arange(len(listing), dtype=np.int64),
            positions_m=located.positions_m,
            region=located.region,
            regions=located.regions,
            headings_rad=headings_rad,
            traversal=traversal,
            traversals=traversals,
            condition=condition,
            conditions=conditions,
        )
        order, of_order = as_taken(listing, traversal)
        self.splits = {
            name: Split(
                references=every.take(parts.rows(name, REFERENCE, order)),
                queries=every.take(parts.rows(name, QUERY, order)),
            )
            for name in SPLITS
        }
        self._times_s = times_of(listing)
        self.findings: tuple[Finding, ...] = (
            Finding(
                "info", f"{len(listing)} images listed by {listing.layout}: {listing.source}"
            ),
            *listing.findings,
            *located.findings,
            *of_headings,
            *(Finding("info", note) for note in (*parts.notes, *of_order)),
            *check_times(listing, self._times_s),
            *self._probe(traversal),
        )
        self.notes: tuple[str, ...] = tuple(map(str, self.findings))
        self._coordinates_deg = located.coordinates_deg
        self._source = listing.source

    @property
    def train(self) -> Split:
        """What is learned from; raises DataError where no image trains."""
        return self._nonempty("train", "references")

    @property
    def validation(self) -> Split:
        """What settings are chosen on; empty tables where no image is in it."""
        return self.splits["validation"]

    @property
    def test(self) -> Split:
        """What results are reported on; raises DataError where it has no queries."""
        return self._nonempty("test", "references", "queries")

    def _nonempty(self, name: str, *tables: str) -> Split:
        split = self.splits[name]
        for table in tables:
            if not len(getattr(split, table)):
                raise DataError(
                    f"split {name!r} of {self._source} has no {table}; set dataset.{name} and "
                    f"dataset.{table} to selections such as 'condition=autumn'"
                    + (", or set training.evaluate to false" if name == "test" else "")
                )
        return split

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any path, position, heading or split, and with sizes of images."""
        digest = hashlib.blake2b(digest_size=16)
        _, ends, text = self.paths.buffers()  # the first says which are null: none is
        digest.update(ends)
        digest.update(text)
        for split in self.splits.values():
            for table in (split.references, split.queries):
                digest.update(table.index.tobytes())
                digest.update(table.positions_m.tobytes())
                for column in (table.headings_rad, table.region):
                    if column is not None:
                        digest.update(column.tobytes())
        spread = np.linspace(0, len(self.paths) - 1, min(_FINGERPRINTED, len(self.paths)))
        for index in spread.astype(int):
            digest.update(b"%d," % _size(self.path(int(index))))
        return digest.hexdigest()

    def load_image(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 ``(3, H, W)``, RGB.

        Raises:
            DataError: The image is missing or cannot be decoded; the message names it.
        """
        from mlcore.data import read_image

        return read_image(self.path(index))

    def image_name(self, index: int) -> str:
        """Return the path of image ``index`` as the source gives it."""
        return str(self.paths[index])

    def path(self, index: int) -> Path:
        """Return where image ``index`` is."""
        return self.root / str(self.paths[index])

    def times_s(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return when images were taken, in seconds from some instant; NaN if not known."""
        return self._times_s[index]

    def coordinates_deg(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return latitude and longitude ``(N, 2)`` in degrees; NaN if positions are metres."""
        if self._coordinates_deg is None:
            return np.full((len(index), 2), np.nan)
        return self._coordinates_deg[index]

    def _probe(self, traversal: NDArray[np.integer]) -> tuple[Finding, ...]:
        """Look for the first image of each traversal: all of them would take minutes.

        Raises:
            DataError: Not one of them is there.
            UnicodeEncodeError: The locale has no letters for their names.
        """
        firsts = np.unique(traversal, return_index=True)[1][:_PROBED]
        missing = [int(index) for index in firsts if _size(self.path(int(index))) < 0]
        if not missing:
            return ()
        os.fsencode(self.path(missing[0]))  # a locale without the letters of a name finds none
        named = shown([self.image_name(index) for index in missing])
        if len(missing) == len(firsts):
            raise DataError(
                f"none of the {len(firsts)} images looked for is in {self.root}: {named}; "
                "dataset.root must be the folder that the paths are relative to"
            )
        message = (
            f"{len(missing)} of the {len(firsts)} images looked for are missing: {named}; "
            "'mlcore data check' looks for all"
        )
        return (Finding("warning", message),)


def _size(path: Path) -> int:
    """Return the size of a file in bytes, -1 if there is none."""
    try:
        return path.stat().st_size if path.is_file() else -1
    except (OSError, ValueError):  # a name too long, or with a zero byte
        return -1
