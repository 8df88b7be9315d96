"""The tables of one city of MSLS, as columns: one row per image, panoramas left out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from mlcore.errors import DataError, did_you_mean

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

ROLES = ("database", "query")
_TRUE = ("true", "1", "1.0")


@dataclass(frozen=True, kw_only=True)
class CityRows:
    """Images of a city in one role.

    Attributes:
        paths: ``(n,)`` texts, below the root of the data set.
        positions_m: ``(n, 2)``, UTM easting and northing.
        heading_deg: ``(n,)``, the compass angle; NaN where there is none.
        latitude_deg: ``(n,)``.
        captured: ``(n,)`` datetime64 of days; NaT where that is not known.
        night: ``(n,)`` bool.
        view: ``(n,)`` texts in lower case.
        sequence: ``(n,)`` texts, the drive that an image belongs to.
        frame: ``(n,)``, its place in the drive.
        in_subtask: ``(n,)`` bool.
        num_panoramas: How many panoramas were left out.
    """

    paths: NDArray[np.str_]
    positions_m: Floats
    heading_deg: Floats
    latitude_deg: Floats
    captured: NDArray[np.datetime64]
    night: Mask
    view: NDArray[np.str_]
    sequence: NDArray[np.str_]
    frame: NDArray[np.int64]
    in_subtask: Mask
    num_panoramas: int

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Mask | NDArray[np.int64]) -> CityRows:
        """Return some of the rows."""
        columns = {
            name: value[rows] for name, value in vars(self).items() if name != "num_panoramas"
        }
        return replace(self, **columns)


def read_city(root: Path, city: str, role: str, subtask: str) -> CityRows:
    """Return the images of a city in one role, in the order of their sequences.

    Args:
        root: Root of the data set.
        city: Folder in ``train_val``.
        role: "database" or "query".
        subtask: A column of ``subtask_index.csv``.

    Raises:
        DataError: A table or column is missing, rows do not match, or a value is malformed.
    """
    folder = root / "train_val" / city / role
    processed = _Table.read(folder / "postprocessed.csv")
    keys = processed.texts("key")
    raw = _Table.read(folder / "raw.csv").in_order(keys)
    sequences = _Table.read(folder / "seq_info.csv").in_order(keys)
    subtasks = _Table.read(folder / "subtask_index.csv").in_order(keys)
    positions = [processed.numbers(name) for name in ("easting", "northing")]
    panorama = raw.flags("pano")
    view = processed.texts("view_direction") if "view_direction" in processed else keys[:0]
    rows = CityRows(
        paths=np.array([f"train_val/{city}/{role}/images/{key}.jpg" for key in keys]),
        positions_m=np.stack(positions, axis=1),
        heading_deg=raw.numbers("ca", may_be_empty=True),
        latitude_deg=raw.numbers("lat"),
        captured=_days(raw.texts("captured_at")),
        night=processed.flags("night"),
        view=np.char.lower(view) if len(view) else np.full(len(keys), "unknown"),
        sequence=sequences.texts("sequence_key"),
        frame=sequences.numbers("frame_number").astype(np.int64),
        in_subtask=subtasks.flags(subtask),
        num_panoramas=int(panorama.sum()),
    )
    order = np.lexsort((rows.frame, rows.sequence))
    return rows.take(order[~panorama[order]])


class _Table:
    """A CSV file, its columns read by name."""

    def __init__(self, file: Path, table: pa.Table) -> None:
        self.file = file
        self._table = table

    @classmethod
    def read(cls, file: Path) -> _Table:
        try:
            table = pacsv.read_csv(file)
        except (pa.ArrowException, OSError) as error:
            what = "does not exist" if not file.is_file() else f"cannot be read as CSV: {error}"
            raise DataError(f"{file} {what}; extract the archives of MSLS again") from error
        return cls(file, table)

    def __contains__(self, name: str) -> bool:
        return name in self._table.column_names

    def in_order(self, keys: NDArray[np.str_]) -> _Table:
        """Return the rows of some images; a table without keys must have their order."""
        if "key" not in self:
            if len(self._table) != len(keys):
                raise DataError(
                    f"{self.file} has {len(self._table)} rows, postprocessed.csv beside it "
                    f"{len(keys)}; take both from one release"
                )
            return self
        own = self.texts("key")
        order = np.argsort(own)
        place = order[np.searchsorted(own, keys, sorter=order).clip(max=len(own) - 1)]
        absent = keys[own[place] != keys]
        if len(absent):
            raise DataError(
                f"{self.file} has no row of {len(absent)} images of postprocessed.csv, the "
                f"first is {absent[0]}; take both from one release"
            )
        return _Table(self.file, self._table.take(pa.array(place)))

    def texts(self, name: str) -> NDArray[np.str_]:
        values = self._column(name).cast(pa.string()).fill_null("").to_pylist()
        return np.array(values, dtype=np.str_)

    def flags(self, name: str) -> Mask:
        return np.isin(np.char.lower(self.texts(name)), _TRUE)

    def numbers(self, name: str, *, may_be_empty: bool = False) -> Floats:
        try:
            values: Floats = self._column(name).cast(pa.float64()).to_numpy()
        except pa.ArrowException as error:
            raise DataError(f"{self.file}: column {name!r} is not numbers: {error}") from error
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad) and not may_be_empty:
            raise DataError(
                f"{self.file}, line {bad[0] + 2}: {name} is {values[bad[0]]}, not a finite "
                "number; extract the archives of MSLS again"
            )
        return values

    def _column(self, name: str) -> Any:
        if name not in self:
            names = self._table.column_names
            raise DataError(
                f"{self.file} has no column {name!r}{did_you_mean(name, names)} (its columns: "
                f"{', '.join(filter(None, names))})"
            )
        return self._table[name]


def _days(texts: NDArray[np.str_]) -> NDArray[np.datetime64]:
    """Return dates, given as milliseconds since 1970 or as dates that begin with the year."""
    days = np.full(len(texts), "NaT", dtype="datetime64[D]")
    for row, text in enumerate(texts.tolist()):
        try:
            days[row] = (
                np.datetime64(int(float(text)), "ms")
                if text.replace(".", "", 1).isdigit()
                else np.datetime64(text[:10].replace("_", "-"))
            )
        except ValueError:
            continue  # a season that is not known
    return days
