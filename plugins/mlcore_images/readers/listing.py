"""A list of images with what its source says of them, not yet interpreted.

Every layout (table, file names, EXIF) ends up as the same columns, and every complaint
about a value goes through :meth:`Listing.fault`, so that it names file, row, column and
value alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlcore.data import MAX_EXAMPLES
from mlcore.errors import DataError, did_you_mean
from mlcore.factories import Finding
from mlcore_images.readers.dialects import lines_of

Mask = NDArray[np.bool_]

_NUMBER = r"^\s*-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*$|^\s*-?(?i:nan|inf|infinity)\s*$"


@dataclass(frozen=True)
class Listing:
    """Images and the columns that are known of them.

    Attributes:
        source: The table, or the folder whose files are listed: named in messages.
        root: Folder that paths are relative to.
        table: One row per image; ``path`` (large_string) is always there, other columns as
            the source has them.
        names: Every column of the source, also those that were not read.
        layout: What was found, in words.
        findings: What was left out and why.
    """

    source: Path
    root: Path
    table: pa.Table
    names: Sequence[str]
    layout: str
    findings: tuple[Finding, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __contains__(self, column: str) -> bool:
        return column in self.table.column_names

    @cached_property
    def paths(self) -> pa.LargeStringArray:
        """Path of each image, relative to ``root`` or absolute."""
        return self.table["path"].combine_chunks()

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a column as it was read.

        ``folder`` is made from the path if need be, and ``folder1`` to ``folder9``, its first
        parts, which are empty where there are fewer.

        Raises:
            DataError: There is none of that name; the message offers the nearest.
        """
        if name in self.table.column_names:
            return self.table[name]
        if name == "folder":
            return pa.chunked_array([pc.replace_substring_regex(self.paths, r"/?[^/]*$", "")])
        if depth := re.fullmatch(r"folder([1-9])", name):
            part = rf"^(?:[^/]*/){{{int(depth[1]) - 1}}}(?P<part>[^/]*)/"
            return pa.chunked_array([pc.extract_regex(self.paths, part).field("part")])
        listed = ", ".join(self.names)
        raise DataError(
            f"{self.source} has no column {name!r}{did_you_mean(name, self.names)} "
            f"(its columns: {listed})"
        )

    def encoded(self, name: str) -> pa.DictionaryArray:
        """Return a column as codes into its distinct values."""
        column = self.column(name)
        if not pa.types.is_dictionary(column.type):
            column = column.dictionary_encode()
        merged = column.unify_dictionaries().combine_chunks()
        return merged.chunk(0) if isinstance(merged, pa.ChunkedArray) else merged

    def numbers(self, name: str) -> NDArray[np.float64]:
        """Return a column as finite float64.

        Raises:
            DataError: The column is missing, or a value is missing, not a number or not finite;
                the message names row and value.
        """
        values, missing = self.optional_numbers(name)
        self.refuse(missing, name, "is empty", "give every image a position")
        return values

    def optional_numbers(self, name: str) -> tuple[NDArray[np.float64], Mask]:
        """Return a column as float64 and where it has no value.

        Raises:
            DataError: The column is missing, or a value is not a number or not finite.
        """
        column = self.column(name)
        missing = as_mask(column.is_null())
        values = self.parse_numbers(column, name)
        remedy = "correct the row or remove it"
        self.refuse(~np.isfinite(values) & ~missing, name, "is not finite", remedy)
        return values, missing

    def parse_numbers(self, column: pa.ChunkedArray, name: str) -> NDArray[np.float64]:
        """Return the values of ``column`` as float64, NaN where there is none."""
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        try:
            values = column.cast(pa.float64(), safe=False).to_numpy()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            if is_text(column.type):
                bad = ~as_mask(pc.match_substring_regex(column, _NUMBER).fill_null(True))
                self.refuse(bad, name, "is not a number", "write it like -12.5")
            raise DataError(
                f"{self.source}: column {name!r} is not a number: {error}"
            ) from error
        return np.asarray(values, dtype=np.float64)

    def refuse(self, bad: Mask, column: str, problem: str, remedy: str) -> None:
        """Raise DataError if a row is ``bad``; it names the first, and how many there are."""
        rows = np.flatnonzero(bad)
        if len(rows):
            raise self.fault(rows, column, problem, remedy)

    def fault(
        self, rows: NDArray[np.integer], column: str, problem: str, remedy: str
    ) -> DataError:
        """Return the error that ``column`` has a problem at ``rows``."""
        value = self.column(column)[int(rows[0])].as_py()
        quoted = "" if value is None or value == "" else f" {value!r}"
        names = self.where(rows[: MAX_EXAMPLES + 2])
        first, others = names[0], names[1:]
        more = f" (as in {len(rows) - 1} more: {shown(others)})" if others else ""
        return DataError(f"{self.source}, {first}: {column}{quoted} {problem}; {remedy}{more}")

    def where(self, rows: NDArray[np.integer]) -> list[str]:
        """Return what a person would call the rows: line, row number or path."""
        if self.layout == "CSV":
            return [f"line {line}" for line in lines_of(self.source, rows)]
        if self.layout == "Parquet":
            return [f"row {int(row) + 1}" for row in rows]
        return [str(self.paths[int(row)]) for row in rows]


def shown(names: Sequence[str]) -> str:
    """Return the first few names for a message: "a, b, c, ..."."""
    return ", ".join(names[:MAX_EXAMPLES]) + (", ..." if len(names) > MAX_EXAMPLES else "")


def is_text(kind: pa.DataType) -> bool:
    """Return whether an Arrow type holds text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_number(kind: pa.DataType) -> bool:
    """Return whether an Arrow type holds numbers."""
    kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    return any(test(kind) for test in kinds)


def as_mask(column: pa.ChunkedArray | pa.Array) -> Mask:
    """Return a boolean Arrow column without nulls as a NumPy array."""
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    return np.asarray(chunked.to_numpy(), dtype=bool)
