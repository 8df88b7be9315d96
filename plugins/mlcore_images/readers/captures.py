"""Who took an image when: traversals, conditions, and the order in time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlcore_images.readers.listing import Listing

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


def _comparable(column: pa.ChunkedArray) -> pa.ChunkedArray:
    try:
        return column.cast(pa.float64(), safe=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return column  # dates
