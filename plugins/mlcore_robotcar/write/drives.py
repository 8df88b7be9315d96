"""Which traversals a data set becomes in the form of RobotCar, and when each is driven."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore.protocols import PlaceDataset, PlaceTable, Split
from mlcore_robotcar.regions import REGIONS

FRAME_US = 62_500
"""Between two frames: 16 Hz."""
_PAUSE_US = 60_000_000
"""Between two stretches: no pose is interpolated across it."""
_FIRST_DAY = dt.datetime(2020, 1, 1, 12, tzinfo=dt.UTC)
"""Years after Oxford's last: nobody takes what is written for a traversal of Oxford."""


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Images of one traversal in one region.

    Attributes:
        region: One of :data:`mlcore_robotcar.regions.REGIONS`.
        table: The images, in the order they were taken.
        timestamps: ``(N,)`` int64 microseconds, 16 Hz.
    """

    region: str
    table: PlaceTable
    timestamps: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Drive:
    """A traversal as it is written.

    Attributes:
        date: Its name.
        stretches: In the order of time.
        is_reference: Whether it has all references.
    """

    date: str
    stretches: tuple[Stretch, ...]
    is_reference: bool

    def __len__(self) -> int:
        return sum(len(stretch.table) for stretch in self.stretches)

    @property
    def timestamps(self) -> NDArray[np.int64]:
        """``(N,)`` of all its images."""
        return np.concatenate([stretch.timestamps for stretch in self.stretches])

    @property
    def conditions(self) -> dict[str, int]:
        """Number of images by condition, the most common first."""
        counts: dict[str, int] = {}
        for stretch in self.stretches:
            codes, sizes = np.unique(stretch.table.condition, return_counts=True)
            for code, size in zip(codes.tolist(), sizes.tolist(), strict=True):
                word = stretch.table.conditions[code]
                counts[word] = counts.get(word, 0) + size
        return dict(sorted(counts.items(), key=lambda item: -item[1]))


def splits_of(dataset: PlaceDataset) -> dict[str, Split]:
    """Return the splits by the names of their regions.

    Raises:
        DataError: There is no reference, a heading is unknown, or a position is not a number.
    """
    splits = dict(zip(REGIONS, (dataset.train, dataset.validation, dataset.test), strict=True))
    for name, split in splits.items():
        for role, table in (("references", split.references), ("queries", split.queries)):
            if not len(table):
                continue
            if table.headings_rad is None:
                raise DataError(
                    f"the {role} of {name} have no headings, which gps/ins.csv needs for its "
                    "column yaw; choose another format, such as pittsburgh"
                )
            bad = ~np.isfinite(table.positions_m).all(axis=1) | ~np.isfinite(table.headings_rad)
            if bad.any():
                first = dataset.image_name(int(table.index[np.flatnonzero(bad)[0]]))
                raise DataError(
                    f"{bad.sum()} of the {role} of {name} have no finite position or heading: "
                    f"{first} is the first; see 'mlcore data check'"
                )
    if not any(len(split.references) for split in splits.values()):
        raise DataError("the data set has no reference images, so there is nothing to write")
    return splits


def plan_drives(splits: dict[str, Split]) -> list[Drive]:
    """Return the traversals: one that has all references, then one for each of the queries'.

    RobotCar has one reference traversal for training and test: those of the splits follow
    one another in it.
    """
    references = [
        (name, rows) for name, split in splits.items() for rows in _traversals(split.references)
    ]
    queries = [
        [(name, rows)] for name, split in splits.items() for rows in _traversals(split.queries)
    ]
    return [_drive(number, parts) for number, parts in enumerate([references, *queries])]


def _traversals(table: PlaceTable) -> list[PlaceTable]:
    codes = np.unique(table.traversal)
    return [table.take(np.flatnonzero(table.traversal == code)) for code in codes]


def _drive(number: int, parts: Sequence[tuple[str, PlaceTable]]) -> Drive:
    start = _FIRST_DAY + dt.timedelta(days=number)
    stamp = round(start.timestamp()) * 1_000_000 + FRAME_US
    stretches = []
    for region, table in parts:
        timestamps = stamp + FRAME_US * np.arange(len(table), dtype=np.int64)
        stretches.append(Stretch(region=region, table=table, timestamps=timestamps))
        stamp = int(timestamps[-1]) + _PAUSE_US
    return Drive(
        date=f"{start:%Y-%m-%d-%H-%M-%S}",
        stretches=tuple(stretches),
        is_reference=number == 0,
    )
