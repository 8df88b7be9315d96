"""The data set ``robotcar``: columns of positions, and images read on demand."""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Mapping
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import ConfigError, DataError
from mlcore.factories import Finding
from mlcore.protocols import PlaceTable, Progress, Split, no_progress
from mlcore_robotcar.config import RobotCarConfig, expect_sensible
from mlcore_robotcar.download.poses import MICROSECONDS
from mlcore_robotcar.findings import grouped
from mlcore_robotcar.layouts.listed import ListedSource
from mlcore_robotcar.layouts.prepared import PreparedSource
from mlcore_robotcar.layouts.sources import Columns, RawSource, Source
from mlcore_robotcar.protocol import Roles, resolve
from mlcore_robotcar.regions import REGIONS, Cut, find_regions

if TYPE_CHECKING:
    from torch import Tensor


def open_robotcar(
    config: RobotCarConfig, cache_dir: Path | None = None, progress: Progress = no_progress
) -> RobotCarDataset:
    """Open RobotCar, in whatever layout it is.

    Raises:
        ConfigError: No root is given, or a traversal that an option names is not there.
        DataError: Files are missing, malformed or implausible.
    """
    if config.root is None:
        raise ConfigError(
            "dataset.root is not set; give the folder that 'mlcore data prepare robotcar' "
            "wrote, or that of the download"
        )
    if not config.root.is_dir():
        raise DataError(f"dataset.root {config.root} is not a folder")
    expect_sensible(config)
    return RobotCarDataset(config, open_source(config, config.root, cache_dir, progress))


def open_source(
    config: RobotCarConfig,
    root: Path,
    cache_dir: Path | None = None,
    progress: Progress = no_progress,
) -> Source:
    """Return the images of a folder, by the layout given or found."""
    from mlcore_robotcar.layouts.db_structs import open_db_structs
    from mlcore_robotcar.layouts.third_party import open_names, open_tables

    layout = find_layout(root) if config.layout == "auto" else config.layout
    if layout == "prepared":
        return PreparedSource(root, config.leave_out)
    if layout == "csv":
        return open_tables(config, root)
    if layout == "mat":
        return open_db_structs(config, root)
    if layout == "names":
        return open_names(config, root)
    return RawSource(config, root, cache_dir, progress)


def find_layout(root: Path) -> str:
    """Return the layout of a folder: prepared, csv, mat, names, or else raw."""
    from mlcore_robotcar.download.tree import find_traversals
    from mlcore_robotcar.layouts.db_structs import find_db_structs
    from mlcore_robotcar.layouts.third_party import find_names, find_tables
    from mlcore_robotcar.prepare.index import SETTINGS

    if (root / SETTINGS).is_file():
        return "prepared"
    if find_tables(root):
        return "csv"
    if find_db_structs(root):
        return "mat"
    if find_traversals(root, "stereo/centre"):
        return "raw"
    return "names" if next(find_names(root), None) else "raw"


class RobotCarDataset:
    """Traversals of Oxford: a :class:`mlcore.protocols.PlaceDataset`.

    An image's index counts the images of all traversals, in the order of time, those outside
    all regions included. The tables have 42 bytes per image and are built on opening. They are
    not pickled: a process that loads images does not need them, or builds them again.

    Args:
        config: Protocol and regions.
        source: Where the images are.

    Attributes:
        source: As given.
        roles: The part that each traversal plays.
        notes: What was found and what was left out.
    """

    def __init__(self, config: RobotCarConfig, source: Source) -> None:
        assert config.root is not None, "open_robotcar() sees to that"
        self._config, self._root = config, config.root
        self.source = source
        self.roles: Roles = resolve(config, source.dates)
        self._starts = [0, *accumulate(source.sizes)]
        regions_note = "" if self._own() else self._cut()[1]
        total = f"{self._starts[-1]} images of {len(source.dates)} traversals"
        self.notes: tuple[str, ...] = (
            f"layout: {source.layout}; {total}",
            *((regions_note,) if regions_note else ()),
            *source.notes,
            *(() if self._own() else self.roles.notes),
        )
        _ = self.splits  # now, because unreadable files must be reported before a run

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found, as :mod:`mlcore.data.soundness` takes it."""
        if not isinstance(self.source, RawSource):
            return tuple(Finding("info", note) for note in self.notes)
        faults, warnings = self.source.faults, self.source.warnings
        grave = {*faults, *warnings}
        return (
            *grouped("fault", faults, name="damaged-files"),
            *grouped("warning", warnings),
            *(Finding("info", note) for note in self.notes if note not in grave),
        )

    def _own(self) -> Mapping[tuple[str, str], NDArray[np.int64]]:
        """Return the images of each split where the files say it; empty elsewhere."""
        source = self.source
        return (source.own or {}) if isinstance(source, ListedSource) else {}

    def _cut(self) -> tuple[Cut | None, str]:
        """Return the regions; None where those of the index count."""
        if isinstance(self.source, PreparedSource) and self._config.regions is None:
            return None, ""
        return find_regions(self._config.regions, self._root)

    @cached_property
    def splits(self) -> dict[str, Split]:
        """Train, validation and test; tables may be empty."""
        if self._own():
            return self._own_splits()
        cut, _ = self._cut()
        regions = [self.source.regions(at, cut) for at in range(len(self.source.dates))]
        sizes = np.array(
            [np.bincount(codes + 1, minlength=len(REGIONS) + 1)[1:] for codes in regions]
        )
        members = _members(self.roles, self.source.dates)
        fills = {
            (name, role): _Fill(self.source, sizes[numbers, REGIONS.index(name)].sum(), name)
            for (name, role), numbers in members.items()
        }
        for number, codes in enumerate(regions):
            takers = [fills[key] for key, numbers in members.items() if number in numbers]
            if takers and sizes[number].any():
                columns = self.source.columns(number)
                for fill in takers:
                    rows = np.flatnonzero(codes == REGIONS.index(fill.region))
                    fill.take(number, self._starts[number], rows, columns)
        return {
            name: Split(
                references=fills[name, "references"].table(),
                queries=fills[name, "queries"].table(),
            )
            for name in REGIONS
        }

    def _own_splits(self) -> dict[str, Split]:
        tables = {}
        for name in REGIONS:
            for role in ("references", "queries"):
                images = self._own().get((name, role), np.empty(0, np.int64))
                fill = _Fill(self.source, len(images), name)
                bounds = np.searchsorted(images, self._starts)
                for number in np.flatnonzero(np.diff(bounds)).tolist():
                    rows = images[bounds[number] : bounds[number + 1]] - self._starts[number]
                    columns = self.source.columns(number)
                    fill.take(number, self._starts[number], rows, columns)
                tables[name, role] = fill.table()
        return {
            name: Split(references=tables[name, "references"], queries=tables[name, "queries"])
            for name in REGIONS
        }

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "splits"}

    @property
    def num_images(self) -> int:
        """Images of all traversals."""
        return self._starts[-1]

    @property
    def train(self) -> Split:
        """The training split; raises DataError if the reference is missing."""
        return self._nonempty("train", "references")

    @property
    def validation(self) -> Split:
        """The validation split; tables are empty if its traversals are missing."""
        return self.splits["validation"]

    @property
    def test(self) -> Split:
        """The test split; raises DataError if a table is empty."""
        return self._nonempty("test", "references", "queries")

    def _nonempty(self, name: str, *tables: str) -> Split:
        split = self.splits[name]
        for table in tables:
            if not len(getattr(split, table)):
                raise DataError(self._why_empty(name, table))
        return split

    def _why_empty(self, name: str, table: str) -> str:
        dates = self.source.dates
        if self._own():
            return (
                f"split {name} has no {table}: no dbStruct file of {self._config.root} is of "
                "this split, or it names none; add it, or set dataset.reference and "
                "dataset.queries"
            )
        wanted = (
            self.roles.reference if table == "references" else ", ".join(self.roles.queries)
        )
        shown = ", ".join(dates[:5]) + (", ..." if len(dates) > 5 else "")
        if not wanted or (table == "references" and wanted not in dates):
            return (
                f"split {name} has no {table}: the traversals of the protocol are not there. "
                f"There are {shown}: set dataset.reference and dataset.queries, or "
                "dataset.protocol all"
            )
        return (
            f"split {name} has no {table}: no image of {wanted} is in its region; set "
            "dataset.regions to polygons that fit the drive"
        )

    @cached_property
    def fingerprint(self) -> str:
        """Changes with any position, with the split, and with how images were made."""
        digest = hashlib.blake2b(self.source.digest().encode(), digest_size=16)
        for split in self.splits.values():
            for table in (split.references, split.queries):
                digest.update(b"%d," % len(table))
                digest.update(table.index.tobytes())
        return digest.hexdigest()

    def load_image(self, index: int) -> Tensor:
        """Return image ``index`` as uint8 ``(3, H, W)``, RGB.

        Raises:
            DataError: The image is missing or cannot be decoded; the message names it.
        """
        number, row = self._place(index)
        return self.source.load(number, row)

    def image_name(self, index: int) -> str:
        """Return the path of image ``index``."""
        number, row = self._place(index)
        return self.source.name(number, row)

    def path(self, index: int) -> Path:
        """Return the file of image ``index``; there is none where it is in a tar."""
        if isinstance(self.source, RawSource):
            return Path(self.image_name(index))
        return self._root / self.image_name(index)

    def times_s(self, index: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return when images were taken, in seconds since 1970."""
        times_s = np.empty(len(index))
        numbers = np.searchsorted(self._starts, index, side="right") - 1
        for number in np.unique(numbers).tolist():
            mine = numbers == number
            stamps = self.source.timestamps(number)[index[mine] - self._starts[number]]
            times_s[mine] = stamps / MICROSECONDS
        return times_s

    def _place(self, index: int) -> tuple[int, int]:
        number = bisect_right(self._starts, index) - 1
        return number, index - self._starts[number]


def _members(roles: Roles, dates: list[str]) -> dict[tuple[str, str], list[int]]:
    """Return the traversals of each table, by their places in ``dates``."""
    training = [date for date in dates if date not in roles.never_train]
    members = {
        ("train", "references"): [roles.reference],
        ("train", "queries"): [date for date in training if date != roles.reference],
        ("validation", "references"): [roles.validation_reference],
        ("validation", "queries"): roles.validation_queries,
        ("test", "references"): [roles.reference],
        ("test", "queries"): roles.queries,
    }
    place = {date: number for number, date in enumerate(dates)}
    return {
        key: sorted(place[date] for date in names if date in place)
        for key, names in members.items()
    }


def _smallest(count: int) -> type[np.int16 | np.int32]:
    return np.int16 if count < 2**15 else np.int32


class _Fill:
    """A table of known length that is filled traversal by traversal, without a second copy."""

    def __init__(self, source: Source, size: int, region: str) -> None:
        self.region = region
        self._source = source
        self._filled = 0
        self._index = np.empty(size, np.int64)
        self._traversal: NDArray[np.integer] = np.empty(size, _smallest(len(source.dates)))
        self._columns = Columns(
            np.empty((size, 2)), np.empty(size) if source.has_headings else None, np.empty(size)
        )

    def take(self, number: int, start: int, rows: NDArray[np.int64], columns: Columns) -> None:
        """Add rows of a traversal whose first image has the index ``start``."""
        span = slice(self._filled, self._filled + len(rows))
        self._index[span] = start + rows
        self._traversal[span] = number
        for mine, theirs in zip(self._columns, columns, strict=True):
            if mine is not None:
                mine[span] = np.asarray(theirs)[rows]
        self._filled += len(rows)

    def table(self) -> PlaceTable:
        """Return the table."""
        names = sorted(set(self._source.conditions))
        of_traversal = np.array([names.index(c) for c in self._source.conditions], np.int8)
        return PlaceTable(
            index=self._index,
            positions_m=self._columns.positions_m,
            headings_rad=self._columns.headings_rad,
            arc_length_m=self._columns.arc_length_m,
            traversal=self._traversal,
            traversals=self._source.dates,
            condition=of_traversal[self._traversal],
            conditions=names,
        )
