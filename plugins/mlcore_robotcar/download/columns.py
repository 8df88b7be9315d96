"""Text files read whole, within a limit, also within a tar; CSV columns by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore_robotcar.download.tar_members import Member, TableFile

MAX_BYTES = 128 * 2**20
"""Of one table of positions: a million rows of ins.csv."""
_MAX_TEXT_BYTES = 8 * 2**20
"""Of timestamps or tags: 400,000 frames, 7 hours at 16 Hz."""
_LONGEST_HEADER = 10_000
_NULLS = ["", "nan", "NaN", "NAN", "-nan", "NA", "null"]


def read_columns(
    path: TableFile,
    needed: Sequence[str],
    *,
    also: Sequence[str] = (),
    texts: Sequence[str] = (),
    whole: Sequence[str] = (),
) -> Mapping[str, NDArray[Any]]:
    """Return columns of a CSV with a header, by name; what else it has is not read.

    Args:
        path: The file.
        needed: Columns that must be there.
        also: Columns that may be.
        texts: Which of them are text; NumPy objects.
        whole: Which of them are integers, none missing; the rest are float64, with NaN.

    Raises:
        DataError: The file is missing, too large or malformed, or lacks a column.
    """
    data = _bytes(path)
    names, body = _header(path, data)
    missing = [name for name in needed if name not in names]
    if missing:
        raise DataError(
            f"{path} has no column {', '.join(missing)}; its first line names "
            f"{', '.join(names)[:300] or 'none'}"
        )
    wanted = [name for name in (*needed, *also) if name in names]
    types = {
        name: pa.string() if name in texts else pa.int64() if name in whole else pa.float64()
        for name in wanted
    }
    if not body.strip():
        raise DataError(f"{path} has a header and no rows; download it again")
    table = _parsed(path, body, names, types)
    for name in whole:
        if table[name].null_count:
            raise DataError(f"{path}: column {name!r} has {table[name].null_count} empty cells")
    return {name: _numpy(table[name]) for name in wanted}


def _numpy(column: pa.ChunkedArray) -> NDArray[Any]:
    values: NDArray[Any] = column.to_numpy()
    return values


def _parsed(
    path: TableFile, body: bytes, names: Sequence[str], types: Mapping[str, pa.DataType]
) -> pa.Table:
    try:
        return pacsv.read_csv(
            BytesIO(body),
            # One thread: only so is the number of a malformed row known.
            read_options=pacsv.ReadOptions(use_threads=False, column_names=list(names)),
            parse_options=pacsv.ParseOptions(quote_char=False),
            convert_options=pacsv.ConvertOptions(
                column_types=dict(types), include_columns=list(types), null_values=_NULLS,
                strings_can_be_null=True,
            ),
        )  # fmt: skip
    except (pa.ArrowException, UnicodeError) as error:
        raise DataError(
            f"{path}, rows counted from 1 below the header: {str(error)[:300]}; it may be "
            "truncated, download it again"
        ) from error


def _header(path: TableFile, data: bytes) -> tuple[list[str], bytes]:
    """Return the names in the first line, and what follows it."""
    line, _, body = data.partition(b"\n")
    if len(line) > _LONGEST_HEADER:
        raise DataError(
            f"{path}: its first line has {len(line):,} bytes, too many for a header"
        )
    try:
        names = [name.strip() for name in line.decode("utf-8").strip().split(",")]
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8: {error}") from error
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path}: its first line names column {twice[0]!r} twice")
    return names, body


def read_text(path: TableFile) -> str:
    """Return a short text.

    Raises:
        DataError: It is missing, too large, no UTF-8, or a web page.
    """
    try:
        return _bytes(path, _MAX_TEXT_BYTES).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8: {error}") from error


def _bytes(path: TableFile, limit: int = MAX_BYTES) -> bytes:
    if isinstance(path, Member):
        data = path.read(limit + 1)
    else:
        try:
            with path.open("rb") as file:
                data = file.read(limit + 1)
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > limit:
        raise DataError(f"{path} has more than {limit:,} bytes: no such table is as large")
    data = data.removeprefix(b"\xef\xbb\xbf")
    if data.lstrip()[:1] == b"<":
        raise DataError(
            f"{path} is a web page, such as a login or an error; download the file itself"
        )
    return data
