"""A data set of image files, for plugins whose own reader knows paths, positions and splits."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlcore.data.checks import file_names
from mlcore.errors import ConfigError, DataError, did_you_mean
from mlcore.factories import Finding
from mlcore.protocols import Split

if TYPE_CHECKING:
    from torch import Tensor

_FINGERPRINTED = 256
"""Largest number of evenly spaced images whose size in bytes is in the fingerprint."""


class ListedImages:
    """Images by path; an image's index is its place in the list.

    Args:
        root: Folder that the paths are relative to.
        paths: ``(N,)``, a NumPy array of texts or bytes: one object per path would be slow to
            send to loading processes.
        splits: Of "train", "validation" and "test", those that there are.
        findings: What was found and what was left out.
        times_s: ``(N,)``, when images were taken, in seconds; NaN where that is not known.
        coordinates_deg: ``(N, 2)``, latitude and longitude; None where they are not known.
        without: Why a split that there is not is missing, by its name.

    Attributes:
        findings: As given.
        notes: The findings as text.
    """

    def __init__(
        self,
        root: Path,
        paths: NDArray[np.str_] | NDArray[np.bytes_],
        splits: Mapping[str, Split],
        findings: Sequence[Finding] = (),
        *,
        times_s: NDArray[np.float64] | None = None,
        coordinates_deg: NDArray[np.float64] | None = None,
        without: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self.paths = paths
        self.findings = tuple(findings)
        self.notes: tuple[str, ...] = tuple(map(str, findings))
        self._splits = dict(splits)
        self._times_s = times_s
        self._coordinates_deg = coordinates_deg
        self._without = dict(without or {})

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def train(self) -> Split:
        """What is learned from."""
        return self._split("train")

    @property
    def validation(self) -> Split:
        """What settings are chosen on."""
        return self._split("validation")

    @property
    def test(self) -> Split:
        """What results are reported on."""
        return self._split("test")

    def _split(self, name: str) -> Split:
        if name not in self._splits:
            raise DataError(self._without.get(name, f"there are no {name} images"))
        return self._splits[name]

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any path, position, heading or split, and with sizes of images."""
        digest = hashlib.blake2b(self.paths.tobytes(), digest_size=16)
        for name, split in self._splits.items():
            for table in (split.references, split.queries):
                digest.update(f"{name} {len(table)}\n".encode())
                columns = (table.index, table.positions_m, table.headings_rad, table.region)
                for column in columns:
                    if column is not None:
                        digest.update(np.ascontiguousarray(column).tobytes())
        for index in np.linspace(0, len(self) - 1, min(_FINGERPRINTED, len(self))).astype(int):
            path = self.path(int(index))
            digest.update(b"%d," % (path.stat().st_size if path.is_file() else -1))
        return digest.hexdigest()

    def load_image(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 ``(3, H, W)``, RGB.

        Raises:
            DataError: The image is missing or cannot be decoded; the message names it.
        """
        from mlcore.data.images import read_image

        return read_image(self.path(index))

    def image_name(self, index: int) -> str:
        """Return the path of image ``index`` below the root."""
        path = self.paths[index]
        return path.decode() if isinstance(path, bytes) else str(path)

    def path(self, index: int) -> Path:
        """Return where image ``index`` is."""
        return self.root / self.image_name(index)

    def missing(self) -> NDArray[np.int64]:
        """Return the images without a file; each folder is listed once, no file is opened."""
        listed = cache(file_names)
        paths = [self.path(index) for index in range(len(self))]
        there = [path.name in listed(path.parent) for path in paths]
        return np.flatnonzero(~np.array(there, dtype=bool))

    def times_s(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return when images were taken, in seconds from some instant; NaN if not known."""
        if self._times_s is None:
            return np.full(len(index), np.nan)
        return self._times_s[index]

    def coordinates_deg(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return latitude and longitude ``(N, 2)`` of images in degrees; NaN if not known."""
        if self._coordinates_deg is None:
            return np.full((len(index), 2), np.nan)
        return self._coordinates_deg[index]


def split_cities(
    folder: Path, *, train: Sequence[str], validation: Sequence[str], test: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """Return the cities of each split; without any to train on, all others are.

    Args:
        folder: Has a folder for each city.
        train: Cities of ``dataset.cities``.
        validation: Cities of ``dataset.validation_cities``.
        test: Cities of ``dataset.test_cities``.

    Raises:
        ConfigError: A city is listed twice.
        DataError: There is no such city, or none at all.
    """
    there = sorted(path.name for path in folder.iterdir() if path.is_dir())
    named = [*train, *validation, *test]
    for city in named:
        if city not in there:
            raise DataError(f"{folder} has no city {city!r}{did_you_mean(city, there)}")
        if named.count(city) > 1:
            raise ConfigError(
                f"city {city} is listed more than once in dataset.cities, "
                "dataset.validation_cities and dataset.test_cities"
            )
    if not there:
        raise DataError(f"{folder} has no folder of a city")
    others = tuple(city for city in there if city not in named)
    return {
        "train": tuple(train) or others,
        "validation": tuple(validation),
        "test": tuple(test),
    }
