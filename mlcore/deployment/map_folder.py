"""A map: embedded references in a folder, to localize in without the images they came from.

==========================  =============================================================
``map.json``                what embedded the references, how many dimensions, which index
``embeddings-NNNNN.npy``    ``(n, D)`` float32, one shard
``references-NNNNN.arrow``  what is known of its rows, by column; written last: a shard without
                            it does not count
``index.faiss``             an approximate index over all rows, where one was asked for
==========================  =============================================================

Shards are written one by one, so that a kill costs one of them, and mapped into memory, so
that opening a map does not read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlcore.deployment.approximate_index import ApproximateIndex, IndexReport, build_index
from mlcore.errors import ConfigError, DataError
from mlcore.files import atomic_write
from mlcore.protocols import Progress, no_progress
from mlcore.retrieval.search import Neighbours, search
from mlcore.retrieval.shards import ShardedEmbeddings

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = 1
"""Raised when a map written today could not be opened by an older mlcore."""

_POSITION_COLUMNS = ("easting_m", "northing_m")


@dataclass(frozen=True, kw_only=True)
class MapInfo:
    """What a map says of itself.

    Attributes:
        model: Hash of the weights and the whitening that embedded the references.
        run: Name of the run that the model came from.
        dimensions: Of an embedding.
        index: The approximate index; None for exact search.
    """

    model: str
    run: str
    dimensions: int
    index: IndexReport | None = None


class MapFolder:
    """References to search in.

    Args:
        path: The folder; use :meth:`create` or :meth:`open`.
        info: What it says of itself.
    """

    def __init__(self, path: Path, info: MapInfo) -> None:
        self.path = path
        self.info = info

    @classmethod
    def create(cls, path: Path, info: MapInfo) -> MapFolder:
        """Make an empty map.

        Raises:
            ConfigError: There is something at ``path`` already, or it cannot be made.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(
                f"--out {path} exists already; choose another folder, or add to that map with "
                "--append"
            )
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--out {path} cannot be made: {error.strerror}") from error
        folder = cls(path, info)
        folder._write_info()
        return folder

    @classmethod
    def open(cls, path: Path) -> MapFolder:
        """Open a map.

        Raises:
            DataError: There is no map at ``path``, or its ``map.json`` is damaged or newer.
        """
        if not is_map(path):
            raise DataError(
                f"{path} is not a map: it has no map.json; 'mlcore index' makes one"
            )
        try:
            content = json.loads((path / "map.json").read_text(encoding="utf-8"))
            version = content.pop("format")
            index = content.pop("index")
            report = None if index is None else IndexReport(**index)
            info = MapInfo(**content, index=report)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path / 'map.json'} is damaged: {error!r}") from error
        if version > FORMAT:
            raise DataError(
                f"map {path} has format {version}; this mlcore reads up to {FORMAT}: update it"
            )
        return cls(path, info)

    def append(self, embeddings: NDArray[np.float32], columns: Mapping[str, Any]) -> None:
        """Add references as one shard.

        Args:
            embeddings: ``(n, D)``.
            columns: What is known of them, ``(n,)`` each: "image", and where known
                "easting_m", "northing_m", "altitude_m", "heading_rad", "latitude_deg",
                "longitude_deg", "traversal", "condition", "region".

        Raises:
            DataError: The dimensions or the columns differ from those that are there.
        """
        import pyarrow as pa

        if embeddings.shape[1] != self.info.dimensions:
            raise DataError(
                f"map {self.path} holds embeddings of {self.info.dimensions} dimensions, got "
                f"{embeddings.shape[1]}"
            )
        table = pa.table({name: pa.array(column) for name, column in columns.items()})
        for path in self._tables()[:1]:
            there = _read_table(path).column_names
            if there != table.column_names:
                raise DataError(
                    f"map {self.path} has columns {', '.join(there)}; the new references have "
                    f"{', '.join(table.column_names)}"
                )
        number = len(self._tables())
        with atomic_write(self.path / f"embeddings-{number:05d}.npy") as file:
            np.save(file, np.ascontiguousarray(embeddings, dtype=np.float32))
        with (
            atomic_write(self.path / f"references-{number:05d}.arrow") as file,
            pa.ipc.new_file(file, table.schema) as writer,
        ):
            writer.write_table(table)
        for name in ("embeddings", "columns", "_index"):
            self.__dict__.pop(name, None)

    def build_index(self, kind: str, progress: Progress = no_progress) -> IndexReport | None:
        """Build an approximate index over all references; "flat" removes the one there is.

        Args:
            kind: "flat", "ivf", "hnsw", "fp16", "int8", or a factory string of faiss.
            progress: Called with the number of references added.

        Raises:
            ConfigError: faiss does not know ``kind``, or cannot train it on so few references.
        """
        report = build_index(self.embeddings, kind, self.path / "index.faiss", progress)
        self.info = MapInfo(**{**vars(self.info), "index": report})
        self._write_info()
        self.__dict__.pop("_index", None)
        return report

    def __len__(self) -> int:
        return len(self.embeddings)

    @cached_property
    def embeddings(self) -> ShardedEmbeddings:
        """All references, mapped into memory.

        Raises:
            DataError: The map is empty, or a shard is torn.
        """
        tables = self._tables()
        if not tables:
            raise DataError(f"map {self.path} is empty; add references with 'mlcore index'")
        shards = [
            path.with_name(path.stem.replace("references", "embeddings") + ".npy")
            for path in tables
        ]
        return ShardedEmbeddings.of_files(shards)

    @cached_property
    def columns(self) -> pa.Table:
        """What is known of each reference, mapped into memory."""
        import pyarrow as pa

        return pa.concat_tables([_read_table(path) for path in self._tables()])

    @property
    def has_positions(self) -> bool:
        """Whether the references have positions in metres."""
        return all(name in self.columns.column_names for name in _POSITION_COLUMNS)

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbours:
        """Return the nearest references of each query ``(Q, D)``, with exact distances.

        An approximate index proposes candidates; their distances are computed exactly.

        Raises:
            DataError: The map is empty, or the queries have other dimensions.
            ConfigError: ``k`` is less than 1.
        """
        if self._index is None:
            return search(self.embeddings, queries, k)
        return self._index.search(self.embeddings, queries, k)

    def rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return what is known of some references, by column."""
        found: list[dict[str, Any]] = self.columns.take(list(numbers)).to_pylist()
        return found

    @cached_property
    def _index(self) -> ApproximateIndex | None:
        if self.info.index is None:
            return None
        return ApproximateIndex.read(self.path / "index.faiss", self.info.index, len(self))

    def _tables(self) -> list[Path]:
        return sorted(self.path.glob("references-*.arrow"))

    def _write_info(self) -> None:
        content = {"format": FORMAT, **asdict(self.info)}
        with atomic_write(self.path / "map.json") as file:
            file.write((json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def is_map(path: Path) -> bool:
    """Return whether a folder is a map."""
    return (path / "map.json").is_file()


def _embeddings_of(table: Path) -> Path:
    return table.with_name(table.stem.replace("references", "embeddings") + ".npy")


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa

    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
