"""Who took an image when: traversals, conditions, and the order in time."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlcore.data import MAX_EXAMPLES
from mlcore.factories import Finding
from mlcore_images.readers.listing import Listing, as_mask

Codes = NDArray[np.int32]

_UNNAMED = "unnamed"
_ONLY_CONDITION = "all"


def traversals_of(listing: Listing) -> tuple[Codes, tuple[str, ...]]:
    """Return codes ``(N,)`` and names of the traversals.

    They are the column traversal; without it each condition is one, otherwise each folder.
    """
    known = (name for name in ("traversal", "condition") if name in listing)
    return _labels(listing, next(known, "folder"))


def conditions_of(listing: Listing) -> tuple[Codes, tuple[str, ...]]:
    """Return codes ``(N,)`` and names of the conditions; one, "all", without that column."""
    if "condition" in listing:
        return _labels(listing, "condition")
    return np.zeros(len(listing), dtype=np.int32), (_ONLY_CONDITION,)


def _labels(listing: Listing, column: str) -> tuple[Codes, tuple[str, ...]]:
    encoded = listing.encoded(column)
    names = [text or _UNNAMED for text in encoded.dictionary.cast(pa.string()).to_pylist()]
    codes = encoded.indices.cast(pa.int32())
    if codes.null_count:
        codes = codes.fill_null(len(names))
        names.append(_UNNAMED)
    return codes.to_numpy(), tuple(names)


def as_taken(listing: Listing, traversal: Codes) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return all rows in the order of time within each traversal, and a note if unknown.

    Timestamps are compared as numbers where all are numbers, otherwise as text, which is
    right for dates that begin with the year. Without timestamps the order is the source's.
    """
    listed = np.arange(len(listing), dtype=np.int64)
    if "timestamp" not in listing:
        return listed, ()
    column = listing.column("timestamp")
    if column.null_count:
        note = f"{column.null_count} timestamps are empty: images stay in the order listed"
        return listed, (note,)
    rank = pc.rank(_comparable(column), tiebreaker="first").to_numpy()
    return np.lexsort((rank, traversal)), ()


def check_times(listing: Listing, times_s: NDArray[np.float64]) -> tuple[Finding, ...]:
    """Return a warning if a timestamp is neither a number nor a date.

    Args:
        listing: The images.
        times_s: What :func:`times_of` made of their timestamps.
    """
    if "timestamp" not in listing:
        return ()
    column = _comparable(listing.column("timestamp"))
    if pa.types.is_floating(column.type):
        times_s = column.to_numpy()  # numbers of frames are in order, though no times
    unknown = np.flatnonzero(~np.isfinite(times_s) & as_mask(column.is_valid()))
    if not len(unknown):
        return ()
    first = listing.column("timestamp")[int(unknown[0])].as_py()
    message = (
        f"timestamps such as {first!r} are neither numbers nor dates that begin with the year "
        "(2024-05-31 10:20:30): images are ordered by them as texts, speeds are not checked"
    )
    return (
        Finding("warning", message, len(unknown), tuple(listing.where(unknown[:MAX_EXAMPLES]))),
    )


def times_of(listing: Listing, name: str = "timestamp") -> NDArray[np.float64]:
    """Return when each image was taken, in seconds ``(N,)``; NaN where that is not known.

    Numbers are seconds, milliseconds, microseconds or nanoseconds since 1970 by their size;
    small ones are seconds if they have decimals, and numbers of frames otherwise. Texts are
    dates as in EXIF, ISO 8601 or ``20191003_101112``.

    Args:
        listing: The images.
        name: A column of times; without it none is known.
    """
    unknown = np.full(len(listing), np.nan)
    if name not in listing:
        return unknown
    column = listing.column(name)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_timestamp(column.type):
        return _seconds(column)
    try:
        numbers = column.cast(pa.float64(), safe=False).to_numpy()
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        numbers = unknown
    known = numbers[np.isfinite(numbers)]
    if len(known) and not _is_date(known):
        return np.asarray(numbers / _units_per_second(known), np.float64)
    return _dates(column)


_PERIOD = re.compile(
    r"(\d{4})(?:[-:/](\d{2})(?:[-:/](\d{2})(?:[T ](\d{2}):(\d{2})(?::(\d{2}))?)?)?)?"
)


def period_s(text: str) -> tuple[float, float] | None:
    """Return start and end, in seconds since 1970, of a year, month, day, minute or second.

    None if the text is not ``2024``, ``2024-05``, ``2024-05-31``, ``2024-05-31 10:20`` or
    ``2024-05-31 10:20:30``.
    """
    found = _PERIOD.fullmatch(text)
    if found is None:
        return None
    given = [int(part) for part in found.groups() if part is not None]
    year, month, day, hour, minute, second = given + [1, 1, 1, 0, 0, 0][len(given) :]
    try:
        start = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
        if len(given) == 1:
            end = start.replace(year=year + 1)
        elif len(given) == 2:
            end = (start + timedelta(days=31)).replace(day=1)
        else:
            end = start + _LASTS[len(given)]
    except (ValueError, OverflowError):  # month 13, or the end of year 9999
        return None
    return start.timestamp(), end.timestamp()


_LASTS = {3: timedelta(days=1), 5: timedelta(minutes=1), 6: timedelta(seconds=1)}
"""How long a moment lasts, by the number of its parts: a day, a minute, a second."""


def _is_date(numbers: NDArray[np.float64]) -> bool:
    """Return whether numbers are written dates: 14 digits from 1900 to 2100."""
    return bool(((numbers >= 1.9e13) & (numbers < 2.1e13)).all())


def _units_per_second(numbers: NDArray[np.float64]) -> float:
    usual = float(np.median(np.abs(numbers)))
    for least, units in ((1e17, 1e9), (1e14, 1e6), (1e11, 1e3), (1e8, 1.0)):
        if usual >= least:
            return units
    has_decimals = (numbers != np.round(numbers)).any()
    return 1.0 if has_decimals else np.nan


def _seconds(column: pa.ChunkedArray) -> NDArray[np.float64]:
    microseconds = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    seconds: NDArray[np.float64] = microseconds.cast(pa.float64(), safe=False).to_numpy() / 1e6
    return seconds


def _dates(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return dates in seconds, NaN for a text that is not one."""
    texts = pc.utf8_trim_whitespace(column.cast(pa.large_string()))
    for pattern, replacement in _DATE_FORMS:
        texts = pc.replace_substring_regex(texts, pattern, replacement)
    try:
        return _seconds(texts.cast(pa.timestamp("us")))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):  # one is not: look at each
        return np.array([_seconds_of(text) for text in texts.to_pylist()], np.float64)


def _seconds_of(text: str | None) -> float:
    try:
        return datetime.fromisoformat(text or "").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return np.nan


_DATE_FORMS = (
    (r"(Z|[+-]\d{2}:?\d{2})$", ""),  # one source has one zone: only differences count
    (r"^(\d{4})[:/](\d{2})[:/](\d{2})", r"\1-\2-\3"),
    (r"^(\d{4})(\d{2})(\d{2})[T_ -]?(\d{2})(\d{2})(\d{2})", r"\1-\2-\3 \4:\5:\6"),
)


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column  # dates
