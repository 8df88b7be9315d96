"""CSV files in the dialects of spreadsheets: named, so that a user can save them again."""

from __future__ import annotations

import codecs
import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError

_HEAD_BYTES = 65_536
_BLOCK_BYTES = 2**20
_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars", ":": "colons"}
_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
"""UTF-32 first: its little-endian mark begins with that of UTF-16."""
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
        if len(cells) > 1 and ("path" in cells or "," not in header):
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
    """Return the line on which each data row starts; the header is row -1.

    Blank lines are not rows, and a quoted value may span lines, so lines have to be counted;
    only an error or a note asks.
    """
    wanted = {int(row): 0 for row in rows}
    last = max(wanted, default=-1)
    row, in_quotes = -2, False  # the header becomes row -1
    with source.open(encoding="utf-8", errors="replace") as file:
        for line, text in enumerate(file, start=1):
            if not in_quotes and text != "\n":
                row += 1
                if row in wanted:
                    wanted[row] = line
                if row >= last:
                    break
            # Quotes within a value are doubled, and so change nothing.
            in_quotes ^= text.count('"') % 2 == 1
    return [wanted[int(row)] for row in rows]
