"""CSV files in the dialects of spreadsheets: named, so that a user can save them again."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError

_HEAD_BYTES = 65_536
_BLOCK_BYTES = 2**20
_DELIMITERS = {
    ";": "semicolons",
    "\t": "tabs",
    "|": "vertical bars",
    ":": "colons",
    " ": "spaces",
}
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""UTF-32 first: its little-endian mark begins with that of UTF-16."""
_OTHER_FILES = {
    b"PK\x03\x04": "an Excel workbook or another zip file",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"PAR1": "a Parquet file; rename it to .parquet",
    b"version https://git-lfs": "a Git LFS pointer; fetch the file with 'git lfs pull'",
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"<": "HTML or XML: perhaps a page saved in place of a download",
    b"[": "JSON",
    b"{": "JSON",
}
"""By how they begin: files that are named .csv and are none."""
_REMEDY = "save it as 'CSV UTF-8', separated by commas, with decimal points"


def require_plain_csv(source: Path) -> None:
    """Refuse a table that is not UTF-8 text separated by commas, and say what it is.

    Raises:
        DataError: It is another encoding or another dialect, or cannot be read.
    """
    try:
        with source.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}") from error
    for start, what in _OTHER_FILES.items():
        if head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(start):
            remedy = "" if ";" in what else "; save it as 'CSV UTF-8'"
            raise DataError(f"{source} is not CSV but {what}{remedy}")
    encoding = _encoding(head)
    if encoding:
        raise DataError(f"{source} is {encoding} text; {_REMEDY}")
    text = head.removeprefix(codecs.BOM_UTF8).decode("utf-8", "replace")
    first = next((line for line in text.splitlines() if line.strip()), "")
    if first.strip().strip('"').lower().startswith("sep="):
        raise DataError(
            f"{source}: its first line is {first.strip()!r}, an instruction to a spreadsheet; "
            f"remove the first line, or {_REMEDY}"
        )
    found = _delimiter(first)
    if found:
        raise DataError(f"{source}: its columns are separated by {found}; {_REMEDY}")


def _encoding(head: bytes) -> str:
    """Return the name of an encoding other than UTF-8, by its mark or its zero bytes."""
    for mark, name in _BYTE_ORDER_MARKS.items():
        if head.startswith(mark):
            return name
    # ASCII text in UTF-16 has a zero in every second byte; no CSV in UTF-8 has any.
    return "UTF-16 or UTF-32" if head.count(0) > len(head) // 4 else ""


def _delimiter(header: str) -> str:
    """Return what separates the columns if it is not the comma, in words."""
    if "path" in _cells(header, ","):
        return ""
    for delimiter, words in _DELIMITERS.items():
        cells = _cells(header, delimiter)
        # Without a column path the table is refused anyway; say why if this is why.
        likely = "path" in cells or ("," not in header and delimiter != " ")
        if len(cells) > 1 and likely:
            return words
    return ""


def _cells(header: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([header], delimiter=delimiter), [])]
    except csv.Error:
        return []


def not_utf8(source: Path) -> str:
    """Return where a file stops being UTF-8 and how to fix it, or "" if it is UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    line = 1
    with source.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            try:
                decoder.decode(block)
            except UnicodeDecodeError as error:
                line += error.object[: error.start].count(b"\n")
                return f"line {line} is not UTF-8 (Latin-1, perhaps); {_REMEDY}"
            line += block.count(b"\n")
    return ""


def has_quotes(source: Path) -> bool:
    """Return whether a quoted value may be in a file, and so a newline within a value."""
    with source.open("rb") as file:
        return any(b'"' in block for block in iter(lambda: file.read(_BLOCK_BYTES), b""))


def lines_of(source: Path, rows: NDArray[np.integer] | Sequence[int]) -> list[int]:
    """Return the line on which each data row starts.

    Blank lines are not rows, and a quoted value may span lines, so lines have to be counted;
    only an error or a note asks.
    """
    wanted = {int(row): 0 for row in rows}
    last = max(wanted, default=-1)
    for row, (line, _) in enumerate(_rows(source), start=-1):  # the header is row -1
        if row in wanted:
            wanted[row] = line
        if row >= last:
            break
    return [wanted[int(row)] for row in rows]


def uneven_row(source: Path) -> str:
    """Return where a row has more or fewer values than the header, or "" if none has."""
    num_columns = 0
    for line, cells in _rows(source):
        num_columns = num_columns or len(cells)
        if len(cells) != num_columns:
            if any("\n" in cell for cell in cells):
                remedy = "close every quote"
            elif len(cells) > num_columns:
                remedy = "write decimal points, and quote texts with commas"
            else:
                remedy = "write a comma for each value that is missing"
            if num_columns == 1:
                remedy = "the first line must name the columns"
            values = "1 value" if len(cells) == 1 else f"{len(cells)} values"
            columns = "1 column" if num_columns == 1 else f"{num_columns} columns"
            return f"line {line} has {values}, but the header has {columns}; {remedy}"
    return ""


def _rows(source: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not blank, header included, with the line that it starts on."""
    with source.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        reader = csv.reader(file)
        line = 1
        try:
            for cells in reader:
                if cells:
                    yield line, cells
                line = reader.line_num + 1
        except csv.Error:  # a value of more than 131,072 characters
            return
