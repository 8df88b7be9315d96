"""Selections of images by their columns: ``condition=autumn & frame=0..59``."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlcore.data import MAX_EXAMPLES
from mlcore.errors import ConfigError, DataError
from mlcore_images.readers.listing import Listing, Mask, is_number, is_text

_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_RANGE = re.compile(rf"(?P<low>{_NUMBER})?\.\.(?P<high>{_NUMBER})?")


@dataclass(frozen=True)
class Clause:
    """One ``column=value`` or ``column=low..high``.

    Attributes:
        column: Name of a column.
        value: What it must equal, as text.
        low: If not None, the least number it may be; ``value`` is the range as written.
        high: If not None, the greatest number it may be.
    """

    column: str
    value: str
    low: float | None = None
    high: float | None = None

    @property
    def is_range(self) -> bool:
        return self.low is not None or self.high is not None


def parse(option: str, expression: str) -> tuple[Clause, ...]:
    """Return the clauses of a selection; none for ``*``, which is every image.

    Raises:
        ConfigError: The expression does not follow the grammar.
    """
    if expression.strip() == "*":
        return ()
    return tuple(_clause(option, expression, part) for part in expression.split("&"))


def _clause(option: str, expression: str, part: str) -> Clause:
    column, equals, value = (text.strip() for text in part.partition("="))
    if not column or not equals or not value:
        raise ConfigError(
            f"dataset.{option} is {expression!r}: {part.strip()!r} is not a selection; write "
            "column=value or column=low..high, join several with &, or write * for every image"
        )
    found = _RANGE.fullmatch(value)
    low, high = found.group("low", "high") if found else (None, None)
    clause = Clause(
        column,
        value,
        None if low is None else float(low),
        None if high is None else float(high),
    )
    if low and high and float(low) > float(high):
        raise ConfigError(
            f"dataset.{option} is {expression!r}: {value!r} is a decreasing range; "
            f"write {column}={high}..{low}"
        )
    return clause


def select(listing: Listing, option: str, expression: str) -> Mask:
    """Return which images a selection selects ``(N,)``.

    Raises:
        ConfigError: The expression does not follow the grammar.
        DataError: It names an unknown column, has a range of a text column, or selects nothing.
    """
    chosen = np.ones(len(listing), dtype=bool)
    for clause in parse(option, expression):
        try:
            chosen &= _matches(listing, clause)
        except DataError as error:
            raise DataError(f"dataset.{option} is {expression!r}: {error}") from None
    if not chosen.any():
        raise DataError(
            f"dataset.{option} is {expression!r}, which selects none of the {len(listing)} "
            f"images of {listing.source}{_what_there_is(listing, option, expression)}"
        )
    return chosen


def _matches(listing: Listing, clause: Clause) -> Mask:
    if clause.is_range:
        return _in_range(listing, clause)
    encoded = listing.encoded(clause.column)
    # Decided once for each distinct value; a last entry stands for "no value".
    fits = np.append(_equals(encoded.dictionary, clause.value), False)
    codes: NDArray[np.int64] = encoded.indices.cast(pa.int64()).fill_null(-1).to_numpy()
    return fits[codes]


def _equals(values: pa.Array, wanted: str) -> Mask:
    """Compare as text where the column is text or a time, otherwise as numbers."""
    if is_text(values.type):
        return _mask(pc.equal(values, pa.scalar(wanted, values.type)))
    if is_number(values.type) and re.fullmatch(_NUMBER, wanted):
        return _mask(pc.equal(values.cast(pa.float64(), safe=False), float(wanted)))
    return _mask(pc.equal(values.cast(pa.string()), wanted))


def _in_range(listing: Listing, clause: Clause) -> Mask:
    numbers = listing.parse_numbers(listing.column(clause.column), clause.column)
    fits: Mask = np.isfinite(numbers)
    if clause.low is not None:
        fits &= numbers >= clause.low
    if clause.high is not None:
        fits &= numbers <= clause.high
    return fits


def _mask(column: pa.Array) -> Mask:
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), dtype=bool)


def _what_there_is(listing: Listing, option: str, expression: str) -> str:
    """Return examples of the values of the columns that a selection names."""
    parts = []
    for clause in parse(option, expression):
        values = listing.encoded(clause.column).dictionary
        shown = ", ".join(repr(value.as_py()) for value in values[:MAX_EXAMPLES])
        more = ", ..." if len(values) > MAX_EXAMPLES else ""
        parts.append(f"; {clause.column} is one of {shown}{more}")
    return "".join(parts)
