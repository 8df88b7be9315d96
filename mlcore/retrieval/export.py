"""Writes embeddings and their index as files for other programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.files import atomic_write
from mlcore.protocols import PlaceTable, Split

Columns = Mapping[str, NDArray[Any]]
"""Columns of an index by name, all ``(N,)``."""


def split_columns(split: Split, image_name: Callable[[int], str]) -> dict[str, NDArray[Any]]:
    """Return the index of the images of a split, references first.

    ``image``, ``role`` ("reference" or "query"), ``easting_m``, ``northing_m``,
    ``altitude_m`` and ``heading_rad`` where the data set has them, ``traversal``,
    ``condition``.
    """
    parts = [
        _table_columns(split.references, "reference", image_name),
        _table_columns(split.queries, "query", image_name),
    ]
    return {
        name: np.concatenate([part[name] for part in parts])
        for name in parts[0]
        if all(name in part for part in parts)
    }


def write_embeddings(
    path: Path,
    embeddings: NDArray[np.float32],
    index: Columns,
    made_from: Mapping[str, Any] | None = None,
) -> tuple[Path, ...]:
    """Write embeddings ``(N, D)`` and their index; returns the files written.

    A ``.parquet`` file holds the index and a column ``embedding`` of float32 lists; a
    ``.npy`` file the embeddings alone, in the order of the rows of a ``.csv`` beside it.

    Args:
        path: The file.
        embeddings: Of ``N`` images.
        index: What is known of each.
        made_from: What they depend on, such as run and whitening: JSON in the Parquet file's
            metadata under ``mlcore``, or ``FILE.npy.json`` beside ``FILE.npy``.
    """
    if path.suffix == ".parquet":
        _write_parquet(path, embeddings, index, made_from)
        return (path,)
    with atomic_write(path) as file:
        np.save(file, embeddings)
    written = path, _write_csv(path.with_suffix(".csv"), index)
    if made_from is None:
        return written
    about = path.with_suffix(".npy.json")
    with atomic_write(about) as file:
        file.write((json.dumps(dict(made_from), indent=1) + "\n").encode())
    return *written, about


def _table_columns(
    table: PlaceTable, role: str, image_name: Callable[[int], str]
) -> dict[str, NDArray[Any]]:
    axes = ("easting_m", "northing_m", "altitude_m")
    columns: dict[str, NDArray[Any]] = {
        "image": np.array([image_name(int(index)) for index in table.index], dtype=object),
        "role": np.full(len(table), role, dtype=object),
    }
    columns |= dict(zip(axes, table.positions_m.T, strict=False))
    if table.headings_rad is not None:
        columns["heading_rad"] = table.headings_rad
    if table.region is not None:
        columns["region"] = np.array(table.regions, dtype=object)[table.region]
    columns["traversal"] = np.array(table.traversals, dtype=object)[table.traversal]
    columns["condition"] = np.array(table.conditions, dtype=object)[table.condition]
    return columns


def _write_parquet(
    path: Path,
    embeddings: NDArray[np.float32],
    index: Columns,
    made_from: Mapping[str, Any] | None,
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    flat = pa.array(np.ascontiguousarray(embeddings).reshape(-1))
    columns = {name: pa.array(column) for name, column in index.items()}
    columns["embedding"] = pa.FixedSizeListArray.from_arrays(flat, embeddings.shape[1])
    metadata = None if made_from is None else {"mlcore": json.dumps(dict(made_from))}
    with atomic_write(path) as file:
        parquet.write_table(pa.table(columns, metadata=metadata), file)


def _write_csv(path: Path, index: Columns) -> Path:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(index)
    writer.writerows(zip(*(column.tolist() for column in index.values()), strict=True))
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())
    return path
