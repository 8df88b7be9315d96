"""The index of a prepared folder: a Parquet file for each traversal.

``index/<traversal>.parquet`` is a Parquet data set as a whole: any reader of Parquet opens the
folder. Rows are in the order of time. A file is written last of all that belongs to its
traversal, and atomically: where it is there, its images are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore.files import atomic_write

FOLDER, IMAGES, SETTINGS, SUMMARY = "index", "images", "settings.json", "summary.json"
_KEY = b"mlcore_robotcar"
_VERSION = 1
_WORD = pa.dictionary(pa.int32(), pa.string())

SCHEMA = pa.schema(
    {
        "traversal": _WORD,
        "timestamp": pa.int64(),
        "chunk": pa.int32(),
        "path": pa.string(),
        "easting": pa.float64(),
        "northing": pa.float64(),
        "heading": pa.float64(),
        "condition": _WORD,
        "exposure": pa.float64(),
        "region": _WORD,
        "arc_length": pa.float64(),
        "dropped": _WORD,
    }
)
"""Metres, radians clockwise from north, microseconds; ``dropped`` is empty or says why."""


class Footer(NamedTuple):
    """What a file says of itself without a row being read.

    Attributes:
        num_rows: Images in it.
        suffix: Of the images: "jpg" or "png".
        condition: Of the traversal.
        digest: Changes with any value in the file.
    """

    num_rows: int
    suffix: str
    condition: str
    digest: str


def index_path(root: Path, date: str) -> Path:
    """Return where the index of a traversal is."""
    return root / FOLDER / f"{date}.parquet"


def image_path(date: str, timestamp: int, suffix: str) -> str:
    """Return the path of an image, relative to the prepared folder."""
    return f"{IMAGES}/{date}/{timestamp}.{suffix}"


def indexed_dates(root: Path) -> list[str]:
    """Return the traversals with an index, in the order of time."""
    return sorted(path.stem for path in (root / FOLDER).glob("*.parquet"))


def make_table(
    date: str,
    columns: Mapping[str, NDArray[Any]],
    *,
    condition: str,
    suffix: str,
    region: Sequence[str] | None = None,
    dropped: Sequence[str] | None = None,
) -> pa.Table:
    """Return the index of a traversal as a table.

    Args:
        date: Name of the traversal.
        columns: timestamp, chunk, easting, northing, heading, exposure, arc_length.
        condition: Of the traversal.
        suffix: Of the images, "jpg" or "png".
        region: Of each image, empty outside all; None before they are known.
        dropped: Why an image is left out, empty where it is not; None before it is known.
    """
    size = len(columns["timestamp"])
    stamps = columns["timestamp"].tolist()
    texts = {
        "path": pa.array([image_path(date, stamp, suffix) for stamp in stamps], pa.string()),
        "traversal": words([date] * size),
        "condition": words([condition] * size),
        "region": words([""] * size if region is None else region),
        "dropped": words([""] * size if dropped is None else dropped),
    }
    return pa.table(
        {
            field.name: texts[field.name]
            if field.name in texts
            else pa.array(columns[field.name], field.type)
            for field in SCHEMA
        },
        schema=SCHEMA,
    )


def words(texts: Sequence[str]) -> pa.DictionaryArray:
    """Return a column of few different words."""
    return pa.array(texts, pa.string()).dictionary_encode()


def write_table(root: Path, date: str, table: pa.Table, *, condition: str, suffix: str) -> None:
    """Write a table with the columns of :data:`SCHEMA` as the index of a traversal."""
    about = {
        "version": _VERSION,
        "suffix": suffix,
        "condition": condition,
        "digest": _digest(table),
    }
    table = table.replace_schema_metadata({_KEY: json.dumps(about).encode()})
    path = index_path(root, date)
    path.parent.mkdir(parents=True, exist_ok=True)
    of_words = [field.name for field in SCHEMA if pa.types.is_dictionary(field.type)]
    with atomic_write(path) as file:
        # Positions do not compress, and are read the faster for not trying.
        pq.write_table(
            table, file, use_dictionary=of_words,
            compression={name: "zstd" if name == "path" else "none" for name in SCHEMA.names},
        )  # fmt: skip


def _digest(table: pa.Table) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for name in ("timestamp", "easting", "northing", "heading", "exposure"):
        digest.update(np.ascontiguousarray(table[name].to_numpy()).tobytes())
    for name in ("region", "dropped"):
        texts, codes = word_codes(table[name])
        digest.update(json.dumps(texts).encode())
        digest.update(codes.tobytes())
    return digest.hexdigest()


def word_codes(column: pa.ChunkedArray) -> tuple[list[str], NDArray[np.int32]]:
    """Return the words of a column, sorted, and the code of each row."""
    encoded = column.combine_chunks()
    if not pa.types.is_dictionary(encoded.type):
        encoded = encoded.dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    order = {text: code for code, text in enumerate(sorted(set(texts)))}
    table = np.array([order[text] for text in texts], np.int32)
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    return list(order), table[codes] if len(table) else np.empty(0, np.int32)


def read_footer(path: Path) -> Footer:
    """Return what an index says of itself.

    Raises:
        DataError: It is damaged, or none of ours.
    """
    try:
        metadata = pq.read_metadata(path)
        about = json.loads((metadata.metadata or {})[_KEY])
        if about["version"] != _VERSION:
            raise DataError(
                f"{path} has version {about['version']} of the index, this mlcore needs "
                f"{_VERSION}; prepare into a new folder"
            )
        return Footer(
            int(metadata.num_rows),
            str(about["suffix"]),
            str(about["condition"]),
            str(about["digest"]),
        )
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise _unusable(path, error) from error


def read_rows(path: Path, columns: Sequence[str]) -> pa.Table:
    """Return columns of the index of a traversal.

    Raises:
        DataError: It is damaged, or lacks a column.
    """
    try:
        file = pq.ParquetFile(path, memory_map=True, read_dictionary=["region", "dropped"])
        table = file.read(columns=list(columns), use_threads=False)
    except (pa.ArrowException, OSError) as error:
        raise _unusable(path, error) from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise _unusable(path, f"no column {missing[0]}")
    return table


def _unusable(path: Path, error: object) -> DataError:
    return DataError(
        f"index {path} cannot be used ({error}); remove it and run 'mlcore data prepare' again"
    )
