"""Selections of images by their columns: ``condition=night* & frame=0..59 | day=2024-05``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlcore.data import MAX_EXAMPLES
from mlcore.errors import ConfigError, DataError, suggestion
from mlcore_images.readers.captures import period_s, times_of
from mlcore_images.readers.listing import Listing, Mask, is_number, is_text

_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_MOST_SUGGESTED = 1000
"""Distinct values among which the nearest is looked for: more would take seconds."""


@dataclass(frozen=True)
class Clause:
    """One ``column=value`` or ``column=low..high``.

    Attributes:
        column: Name of a column.
        value: What it must equal, as text, where ``*`` and ``?`` stand for any text and any
            character; or the range as written.
        low: The least it may be, a number or a date; None for no limit.
        high: The greatest it may be, likewise.
    """

    column: str
    value: str
    low: str | None = None
    high: str | None = None

    @property
    def bounds(self) -> tuple[str, ...]:
        """Those that were given; none if this is not a range."""
        return tuple(bound for bound in (self.low, self.high) if bound is not None)


def parse(option: str, expression: str) -> tuple[tuple[Clause, ...], ...]:
    """Return the alternatives of a selection, each the clauses that must all hold.

    ``*``, which is every image, is an alternative without clauses.

    Raises:
        ConfigError: The expression does not follow the grammar.
    """
    return tuple(clauses for _, clauses in _alternatives(option, expression))


def _alternatives(option: str, expression: str) -> list[tuple[str, tuple[Clause, ...]]]:
    """Return each alternative as written, and its clauses."""
    found = []
    for text in map(str.strip, expression.split("|")):
        parts = [] if text == "*" else text.split("&")
        found.append((text, tuple(_clause(option, expression, part) for part in parts)))
    return found


def _clause(option: str, expression: str, part: str) -> Clause:
    column, equals, value = (text.strip() for text in part.partition("="))
    if not column or not equals or not value:
        raise ConfigError(
            f"dataset.{option} is {expression!r}: {part.strip()!r} is not a selection; write "
            "column=value or column=low..high, join several with & (and) or | (or), or write "
            "* for every image"
        )
    low, dots, high = (text.strip() for text in value.partition(".."))
    bounds = [bound for bound in (low, high) if bound]
    if not dots or not bounds or not all(map(_is_bound, bounds)):
        return Clause(column, value)
    if len(bounds) == 2 and _is_decreasing(low, high):
        raise ConfigError(
            f"dataset.{option} is {expression!r}: {value!r} is a decreasing range; "
            f"write {column}={high}..{low}"
        )
    return Clause(column, value, low or None, high or None)


def _is_bound(text: str) -> bool:
    return _is_number(text) or period_s(text) is not None


def _is_number(text: str) -> bool:
    return re.fullmatch(_NUMBER, text) is not None


def _is_decreasing(low: str, high: str) -> bool:
    if _is_number(low) and _is_number(high):
        return float(low) > float(high)
    periods = period_s(low), period_s(high)
    return None not in periods and periods[0] > periods[1]  # type: ignore[operator]


def select(listing: Listing, option: str, expression: str) -> Mask:
    """Return which images a selection selects ``(N,)``.

    Raises:
        ConfigError: The expression does not follow the grammar.
        DataError: It names an unknown column, has a range of a text column, or selects
            nothing, or one of its alternatives does.
    """
    chosen = np.zeros(len(listing), dtype=bool)
    alternatives = _alternatives(option, expression)
    for text, clauses in alternatives:
        mine = np.ones(len(listing), dtype=bool)
        for clause in clauses:
            try:
                mine &= _matches(listing, clause)
            except DataError as error:
                raise DataError(f"dataset.{option} is {expression!r}: {error}") from None
        if not mine.any():
            which = f"of which {text!r}" if len(alternatives) > 1 else "which"
            raise DataError(
                f"dataset.{option} is {expression!r}, {which} selects none of the "
                f"{len(listing)} images of {listing.source}{_known_values(listing, clauses)}"
            )
        chosen |= mine
    return chosen


def _matches(listing: Listing, clause: Clause) -> Mask:
    if clause.bounds:
        return _in_range(listing, clause)
    encoded = listing.encoded(clause.column)
    # Decided once for each distinct value; a last entry stands for "no value".
    fits = np.append(_equals(encoded.dictionary, clause.value), False)
    codes: NDArray[np.int64] = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy()
    matches: Mask = fits[codes]
    if _are_dates(listing, clause.column, (clause.value,)):
        matches |= _between(times_of(listing, clause.column), clause.value, clause.value)
    return matches


def _equals(values: pa.Array, wanted: str) -> Mask:
    """Compare as text where the column is text or a time, otherwise as numbers."""
    if "*" in wanted or "?" in wanted:
        wildcards = {"*": ".*", "?": "."}
        pattern = "".join(wildcards.get(letter) or re.escape(letter) for letter in wanted)
        texts = values if is_text(values.type) else values.cast(pa.string())
        return _mask(pc.match_substring_regex(texts, f"(?s)^{pattern}$"))
    if is_text(values.type):
        return _mask(pc.equal(values, pa.scalar(wanted, values.type)))
    if is_number(values.type) and _is_number(wanted):
        return _mask(pc.equal(values.cast(pa.float64(), safe=False), float(wanted)))
    return _mask(pc.equal(values.cast(pa.string()), wanted))


def _in_range(listing: Listing, clause: Clause) -> Mask:
    are_numbers = all(map(_is_number, clause.bounds))
    if are_numbers and not _are_dates(listing, clause.column, clause.bounds):
        return _between_numbers(listing, clause)
    times_s = times_of(listing, clause.column)
    unknown = ~np.isfinite(times_s) & np.asarray(listing.column(clause.column).is_valid())
    remedy = f"{clause.value!r} is a range of dates such as 2024-05-31"
    listing.refuse(unknown, clause.column, "is not a date", remedy)
    return _between(times_s, clause.low, clause.high)


def _between_numbers(listing: Listing, clause: Clause) -> Mask:
    numbers = listing.parse_numbers(listing.column(clause.column), clause.column)
    fits: Mask = np.isfinite(numbers)
    if clause.low is not None:
        fits &= numbers >= float(clause.low)
    if clause.high is not None:
        fits &= numbers <= float(clause.high)
    return fits


def _are_dates(listing: Listing, column: str, written: Sequence[str]) -> bool:
    """Return whether texts can be dates, and a column holds dates rather than numbers."""
    if any(period_s(text) is None for text in written):
        return False
    if all(map(_is_number, written)) and _are_numbers(listing, column):  # such as 2024
        return False
    return bool(np.isfinite(times_of(listing, column)).any())


def _are_numbers(listing: Listing, column: str) -> bool:
    try:
        listing.parse_numbers(listing.column(column), column)
    except DataError:
        return False
    return True


def _between(times_s: NDArray[np.float64], low: str | None, high: str | None) -> Mask:
    """Return which times are in the period from ``low`` to the end of ``high``."""
    starts, ends = -np.inf, np.inf
    if low is not None and (period := period_s(low)):
        starts = period[0]
    if high is not None and (period := period_s(high)):
        ends = period[1]
    return (times_s >= starts) & (times_s < ends)


def _mask(column: pa.Array) -> Mask:
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)


def _known_values(listing: Listing, clauses: Sequence[Clause]) -> str:
    """Return examples of the values of the columns that clauses name, and a nearest one."""
    parts, nearest = [], ""
    for clause in clauses:
        values = listing.encoded(clause.column).dictionary
        known = [str(value.as_py()) for value in values[:_MOST_SUGGESTED]]
        shown = ", ".join(map(repr, known[:MAX_EXAMPLES]))
        more = ", ..." if len(values) > MAX_EXAMPLES else ""
        parts.append(f"; {clause.column} is one of {shown}{more}")
        if not clause.bounds and clause.value not in known:
            nearest = nearest or suggestion(get_close_matches(clause.value, known, n=1))
    return "".join([*parts, nearest])
