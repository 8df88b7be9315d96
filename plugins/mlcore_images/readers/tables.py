"""Tables of images: CSV and Parquet, read as Arrow columns and never row by row."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from mlcore.errors import DataError
from mlcore_images.readers.dialects import (
    has_quotes,
    not_utf8,
    require_plain_csv,
    uneven_row,
)
from mlcore_images.readers.listing import Listing, as_mask, is_text

NUMBERS = (
    "easting_m",
    "northing_m",
    "latitude",
    "longitude",
    "heading_rad",
    "heading_deg",
)
LABELS = ("condition", "traversal", "split", "role", "region")
TEXTS = ("path", "timestamp")

_LABEL = pa.dictionary(pa.int32(), pa.string())
_LONGEST_HEADER = 1_000_000


def list_table(source: Path, root: Path, also: Sequence[str]) -> Listing:
    """Return the images of a CSV or Parquet file.

    Args:
        source: The file; ``.parquet`` (or ``.pq``) is Parquet, anything else CSV.
        root: Folder that its paths are relative to.
        also: Further columns to read, where the file has them.

    Raises:
        DataError: The file is missing, malformed or empty, or has no column ``path``.
    """
    if not source.is_file():
        raise DataError(f"table {source} does not exist; set dataset.table to its path")
    is_parquet = source.suffix.lower() in (".parquet", ".pq")
    if not is_parquet:
        require_plain_csv(source)
    try:
        names = pq.read_schema(source).names if is_parquet else _header(source)
        wanted = _wanted(source, names, also)
        table = _read_parquet(source, wanted) if is_parquet else _read_csv(source, wanted)
    except UnicodeEncodeError:  # the path, not the file: the locale is not UTF-8
        raise
    except (pa.ArrowException, OSError, csv.Error, UnicodeError) as error:
        kind = "Parquet" if is_parquet else "CSV"
        reason = "" if is_parquet else not_utf8(source) or uneven_row(source)
        raise DataError(f"{source} cannot be read as {kind}: {reason or error}") from error
    layout = "Parquet" if is_parquet else "CSV"
    return _checked(Listing(source, root, table, tuple(names), layout))


def _checked(listing: Listing) -> Listing:
    """Return the listing after a look at its paths."""
    column = listing.column("path")  # says so if there is none
    if not is_text(column.type):
        raise DataError(f"{listing.source}: column 'path' is {column.type}, not text")
    if not len(listing):
        raise DataError(f"{listing.source} lists no image: it has a header and no rows")
    empty = as_mask(pc.equal(column, "").fill_null(True))
    listing.refuse(empty, "path", "is empty", "name the image or remove the row")
    _refuse_duplicates(listing)
    return listing


def _refuse_duplicates(listing: Listing) -> None:
    paths = listing.column("path")
    if pc.count_distinct(paths).as_py() == len(paths):
        return
    counts = paths.value_counts()
    often = counts.filter(pc.greater(counts.field("counts"), 1)).field("values")
    rows = np.flatnonzero(as_mask(pc.equal(paths, often[0])))
    raise listing.fault(
        rows,
        "path",
        f"is listed {len(rows)} times; {len(often)} paths are listed more than once",
        "keep one row for each image",
    )


def _wanted(source: Path, names: Sequence[str], also: Sequence[str]) -> list[str]:
    # Spreadsheets write empty columns, which have no name and are not read.
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise DataError(f"{source}: column {twice[0]!r} appears twice; rename or remove one")
    known = {*NUMBERS, *LABELS, *TEXTS, *also}
    spaced = [name for name in names if name not in known and name.strip() in known]
    if spaced:
        raise DataError(
            f"{source}: column {spaced[0]!r} has a space before or after its name; remove it"
        )
    return [name for name in names if name in known]


def _header(source: Path) -> list[str]:
    with source.open(encoding="utf-8-sig") as file:
        for line in iter(lambda: file.readline(_LONGEST_HEADER), ""):
            if line != "\n":
                return next(csv.reader([line]))
    raise DataError(f"{source} is empty; its first line must name the columns")


def _read_csv(source: Path, wanted: Sequence[str]) -> pa.Table:
    """Read the columns; as text if a number is none, so that the row can be named."""
    labels = {name: _LABEL for name in wanted if name not in (*NUMBERS, *TEXTS)}
    texts = {name: pa.large_string() for name in wanted if name in TEXTS}
    numbers = {name: pa.float64() for name in wanted if name in NUMBERS}
    try:
        return _parse_csv(source, {**labels, **texts, **numbers}, use_threads=True)
    except pa.ArrowInvalid:
        numbers = dict.fromkeys(numbers, pa.large_string())
        # Only one thread knows the number of a row that has too many values.
        return _parse_csv(source, {**labels, **texts, **numbers}, use_threads=False)


def _parse_csv(source: Path, types: dict[str, pa.DataType], *, use_threads: bool) -> pa.Table:
    return pacsv.read_csv(
        source,
        read_options=pacsv.ReadOptions(use_threads=use_threads),
        parse_options=pacsv.ParseOptions(newlines_in_values=has_quotes(source)),
        convert_options=pacsv.ConvertOptions(
            column_types=types,
            include_columns=list(types),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )


def _read_parquet(source: Path, wanted: Sequence[str]) -> pa.Table:
    table = pq.read_table(source, columns=list(wanted), partitioning=None)
    for position, (name, column) in enumerate(zip(wanted, table.columns, strict=True)):
        kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
        if name in TEXTS and is_text(kind):
            table = table.set_column(position, name, column.cast(kind).cast(pa.large_string()))
    return table
