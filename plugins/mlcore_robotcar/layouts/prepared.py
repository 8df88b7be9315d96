"""What ``mlcore data prepare robotcar`` wrote, as a source of images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore_robotcar.layouts.sources import Columns
from mlcore_robotcar.prepare.index import (
    SETTINGS,
    SUMMARY,
    image_path,
    index_path,
    indexed_dates,
    read_footer,
    read_rows,
    word_codes,
)
from mlcore_robotcar.regions import REGIONS, Cut

if TYPE_CHECKING:
    from torch import Tensor


class PreparedSource:
    """What ``mlcore data prepare robotcar`` wrote; reads footers, and columns when asked.

    Args:
        root: The prepared folder.
        leave_out: Traversals that are not used.

    Raises:
        DataError: The preparation was not finished, or its index is damaged.
    """

    layout = "prepared by mlcore"
    has_headings = True

    def __init__(self, root: Path, leave_out: Sequence[str]) -> None:
        self.root = root
        if not (root / SUMMARY).is_file():
            raise DataError(
                f"{root} is not completely prepared; run 'mlcore data prepare robotcar' again "
                "to finish"
            )
        every = indexed_dates(root)
        dates = [date for date in every if date not in leave_out]
        footers = {date: read_footer(index_path(root, date)) for date in dates}
        self.dates = [date for date in dates if footers[date].num_rows]
        if not self.dates:
            raise DataError(
                f"{root} has no image: its index is empty; see the output of 'mlcore data "
                "prepare'"
            )
        self.conditions = [footers[date].condition for date in self.dates]
        self.sizes = [footers[date].num_rows for date in self.dates]
        self._suffixes = [footers[date].suffix for date in self.dates]
        self._digests = [footers[date].digest for date in self.dates]
        self._stamps: dict[int, NDArray[np.int64]] = {}
        self.notes: list[str] = []
        if len(dates) < len(every):
            gone = ", ".join(sorted(set(every) - set(dates)))
            self.notes.append(f"left out by dataset.leave_out: {gone}")
        self.notes += self._summary()

    def _summary(self) -> list[str]:
        try:
            regions = str(
                json.loads((self.root / SUMMARY).read_text(encoding="utf-8"))["regions"]
            )
            settings = json.loads((self.root / SETTINGS).read_text(encoding="utf-8"))
            distortion = str(settings["distortion_table"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"{self.root}/{SUMMARY} or {SETTINGS} is damaged ({error}); run 'mlcore data "
                "prepare robotcar' again"
            ) from error
        undistorted = not distortion.startswith("none")
        return [regions, "images are undistorted" if undistorted else "images are distorted"]

    def regions(self, number: int, cut: Cut | None) -> NDArray[np.int8]:
        """Return the region of each image, -1 where it is left out."""
        names = ["dropped"] if cut else ["dropped", "region"]
        names += ["timestamp", "easting", "northing"] if cut else []
        table = read_rows(self.index(number), names)
        if cut is None:
            words, codes = word_codes(table["region"])
            of_word = [REGIONS.index(word) if word in REGIONS else -1 for word in words]
            regions = np.array([*of_word, -1], np.int8)[codes]
        else:
            stamps = table["timestamp"].to_numpy()
            regions = cut.codes(self.dates[number], stamps, _positions(table))
        words, codes = word_codes(table["dropped"])
        is_dropped = np.array([*(word != "" for word in words), True])[codes]
        return np.where(is_dropped, np.int8(-1), regions)

    def columns(self, number: int) -> Columns:
        """Return what is known of the images of a traversal."""
        names = ("easting", "northing", "heading", "arc_length")
        table = read_rows(self.index(number), names)
        return Columns(
            _positions(table), table["heading"].to_numpy(), table["arc_length"].to_numpy()
        )

    def index(self, number: int) -> Path:
        """Return the index file of a traversal."""
        return index_path(self.root, self.dates[number])

    def load(self, number: int, row: int) -> Tensor:
        """Return an image as it was written."""
        from mlcore.data import read_image

        return read_image(self.root / self.name(number, row))

    def name(self, number: int, row: int) -> str:
        """Return the image's path, relative to the root: it follows from its timestamp."""
        stamp = int(self.timestamps(number)[row])
        return image_path(self.dates[number], stamp, self._suffixes[number])

    def timestamps(self, number: int) -> NDArray[np.int64]:
        """Return the timestamps of a traversal, cached after reading: 8 bytes per image."""
        if number not in self._stamps:
            table = read_rows(self.index(number), ("timestamp",))
            self._stamps[number] = table["timestamp"].to_numpy()
        return self._stamps[number]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_stamps": {}}

    def digest(self) -> str:
        """Return what changes with any value of the index."""
        text = "\0".join([*self.dates, *self._digests])
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _positions(table: pa.Table) -> NDArray[np.float64]:
    return np.stack([table["easting"].to_numpy(), table["northing"].to_numpy()], axis=1)
