"""A map: embedded references in a folder, to localize in without the images they came from.

===========================  ============================================================
``map.json``                 which model embedded the references, which index
``model/``                   that model
``embeddings-NNNNN.npy``     ``(n, K)`` float32, whitened, one shard
``references-NNNNN.arrow``   what is known of its rows, by column; written last: a shard
                             without it does not count
``thumbnails-NNNNN.arrow``   small pictures of its rows, where they were asked for
``index.faiss``              an approximate index over all rows, where one was asked for
===========================  ============================================================

Shards are mapped into memory, so that opening a map does not read it.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlcore.deployment import thumbnails
from mlcore.deployment.approximate_index import ApproximateIndex, IndexReport, build_index
from mlcore.deployment.model_folder import FILES, read_info
from mlcore.deployment.thumbnails import ThumbnailFile
from mlcore.errors import ConfigError, DataError
from mlcore.files import atomic_write
from mlcore.protocols import Progress, no_progress
from mlcore.retrieval.search import Neighbours, search
from mlcore.retrieval.shards import ShardedEmbeddings

if TYPE_CHECKING:
    import pyarrow as pa
    from torch import Tensor

FORMAT = 1
"""Raised when a map written today could not be opened by an older mlcore."""

TEXTS = ("image", "traversal", "condition", "region")
NUMBERS = (
    "easting_m",
    "northing_m",
    "altitude_m",
    "heading_rad",
    "latitude_deg",
    "longitude_deg",
)
"""The columns of references; a value that is not known is null, or NaN when it is added. A
name is always known."""

Part = tuple[NDArray[np.float32], Mapping[str, Any]]
"""Embeddings ``(n, K)``, and columns ``(n,)`` of what is known of them."""

THUMBNAIL = "thumbnail"
"""The column of a part that holds small pictures as JPEG files."""


@dataclass(frozen=True, kw_only=True)
class MapInfo:
    """What a map says of itself.

    Attributes:
        model: Identity of the model that embedded the references.
        dimensions: Of an embedding.
        index: The approximate index; None for exact search.
    """

    model: str
    dimensions: int
    index: IndexReport | None = None


class MapFolder:
    """References to search in.

    Args:
        path: The folder; use :meth:`creating` or :meth:`open`.
        info: What it says of itself.
    """

    def __init__(self, path: Path, info: MapInfo) -> None:
        self.path = path
        self.info = info

    @classmethod
    @contextmanager
    def creating(cls, path: Path, model: Path) -> Iterator[MapFolder]:
        """Make a map in the block; ``path`` holds all of it afterwards, or does not exist.

        Args:
            path: The folder.
            model: Folder of the model that embeds the references.

        Raises:
            ConfigError: There is something at ``path`` already, or it cannot be created.
        """
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            add = f", or add to that map with 'mlcore index {path} --append'"
            add = add if is_map(path) else ""
            raise ConfigError(f"--out {path} exists already; choose another folder{add}")
        info = read_info(model)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            (temporary / "model").mkdir(parents=True)
        except OSError as error:
            raise ConfigError(f"--out {path} cannot be created: {error.strerror}") from error
        try:
            for name in FILES:
                if (model / name).exists():
                    shutil.copyfile(model / name, temporary / "model" / name)
            folder = cls(temporary, MapInfo(model=info.identity, dimensions=info.dimensions))
            folder._write_info()
            yield folder
            temporary.replace(path)
            folder.path = path
            folder._forget()
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    @classmethod
    def open(cls, path: Path) -> MapFolder:
        """Open a map.

        Raises:
            DataError: There is no map at ``path``, its ``map.json`` is damaged or newer, or
                its model is another than the one that embedded the references.
        """
        if not is_map(path):
            raise DataError(
                f"{path} is not a map: it has no map.json; 'mlcore index' makes one"
            )
        try:
            content = json.loads((path / "map.json").read_text(encoding="utf-8"))
            version = content.pop("format")
            if version > FORMAT:
                raise DataError(
                    f"map {path} has format {version}, this mlcore reads formats up to "
                    f"{FORMAT}; update mlcore"
                )
            index = content.pop("index")
            report = None if index is None else IndexReport(**index)
            info = MapInfo(**content, index=report)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path / 'map.json'} cannot be read: {error!r}") from error
        if read_info(path / "model").identity != info.model:
            raise DataError(
                f"{path / 'model'} is not the model that embedded the references of {path}; "
                "make the map again with 'mlcore index'"
            )
        return cls(path, info)

    def require_model(self, identity: str, what: str) -> None:
        """Check that a model embedded the references.

        Args:
            identity: The model's.
            what: Where it is, for the message.

        Raises:
            DataError: Another one did.
        """
        if self.info.model != identity:
            raise DataError(
                f"map {self.path} was made with another model than {what}, so that their "
                "embeddings cannot be compared; make the map again with 'mlcore index'"
            )

    def append(self, parts: Iterable[Part], *, thumbnail_px: int = 0) -> int:
        """Add references, a shard for each part; all of them, or none if one fails.

        Args:
            parts: Columns may be any of :data:`TEXTS` and :data:`NUMBERS`, "image" always.
            thumbnail_px: Longest side of the pictures in the column :data:`THUMBNAIL`; 0 if
                the parts have none.

        Returns:
            How many references were added.

        Raises:
            DataError: The dimensions differ, or an image of that name is in the map.
        """
        known = set(self.columns["image"].to_pylist()) if self._tables() else set()
        first = len(self._tables())
        written: list[Path] = []
        tables: list[tuple[Path, pa.Table]] = []
        try:
            for number, (embeddings, columns) in enumerate(parts, start=first):
                self._require_dimensions(embeddings)
                pictures = columns.get(THUMBNAIL)
                table = _table(
                    {name: columns[name] for name in columns if name != THUMBNAIL},
                    len(embeddings),
                )
                known = self._with_names(known, table["image"].to_pylist())
                written.append(self.path / f"embeddings-{number:05d}.npy")
                with atomic_write(written[-1]) as file:
                    np.save(file, np.ascontiguousarray(embeddings, dtype=np.float32))
                tables.append((self.path / f"references-{number:05d}.arrow", table))
                if pictures is not None:
                    written.append(thumbnails.beside(tables[-1][0]))
                    thumbnails.write(written[-1], pictures, thumbnail_px)
        except BaseException:
            for path in written:
                path.unlink(missing_ok=True)
            raise
        for path, table in tables:
            _write_table(path, table)
        self._forget()
        return sum(len(table) for _, table in tables)

    def build_index(self, kind: str, progress: Progress = no_progress) -> IndexReport | None:
        """Build an approximate index over all references; "flat" removes the one there is.

        Args:
            kind: "flat", "ivf", "hnsw", "fp16", "int8", or a factory string of faiss.
            progress: Called with the number of references added.

        Raises:
            ConfigError: faiss does not know ``kind``, or cannot train it on so few references.
        """
        report = build_index(self.embeddings, kind, self.path / "index.faiss", progress)
        self.info = replace(self.info, index=report)
        self._write_info()
        self._forget()
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
            raise DataError(
                f"map {self.path} is empty; add references with 'mlcore index {self.path} "
                "--append --images DIR'"
            )
        return ShardedEmbeddings.of_files([_embeddings_of(table) for table in tables])

    @cached_property
    def columns(self) -> pa.Table:
        """What is known of each reference, mapped into memory."""
        import pyarrow as pa

        # Shards of older versions have no region: null, as in a map of one region.
        tables = [_read_table(path) for path in self._tables()]
        return pa.concat_tables(tables, promote_options="default")

    def search(self, queries: NDArray[np.float32], k: int) -> Neighbours:
        """Return the nearest references of each query ``(Q, K)``, with exact distances.

        An approximate index proposes candidates; their distances are computed exactly. Where
        it proposes fewer than ``k``, the last rows are -1.

        Raises:
            DataError: The map is empty, or the queries have other dimensions.
            ConfigError: ``k`` is less than 1.
        """
        if self._index is None:
            return search(self.embeddings, queries, k)
        return self._index.search(self.embeddings, queries, k)

    @property
    def thumbnail_px(self) -> int:
        """Longest side of the thumbnails; 0 if the map has none."""
        return self._thumbnails[0].longest_side_px if self._thumbnails else 0

    def require_thumbnails(self) -> None:
        """Check that every reference has a thumbnail.

        Raises:
            DataError: One has none.
        """
        if not self._thumbnails:
            raise DataError(
                f"map {self.path} has no thumbnails to compare; make it again with 'mlcore "
                "index RUN --thumbnails 640 --out MAP'"
            )

    def thumbnail(self, row: int) -> Tensor:
        """Return the thumbnail of a reference as uint8 ``(3, H, W)``.

        Raises:
            DataError: There is none, or it is damaged.
        """
        self.require_thumbnails()
        for file in self._thumbnails:
            if row < len(file):
                return file.image(row)
            row -= len(file)
        raise DataError(f"map {self.path} has no thumbnail of its last references")

    @cached_property
    def _thumbnails(self) -> list[ThumbnailFile]:
        """The files of all shards; none if a shard has none."""
        paths = [thumbnails.beside(table) for table in self._tables()]
        return [ThumbnailFile(path) for path in paths] if all(map(Path.exists, paths)) else []

    def rows(self, numbers: Sequence[int]) -> list[dict[str, Any]]:
        """Return what is known of some references, by column."""
        import pyarrow as pa  # which imports pandas to convert a list: longer than a search

        rows = pa.py_buffer(np.array(numbers, dtype=np.int64))
        wanted = pa.Array.from_buffers(pa.int64(), len(numbers), [None, rows])
        return list(self.columns.take(wanted).to_pylist())

    @cached_property
    def _index(self) -> ApproximateIndex | None:
        if self.info.index is None:
            return None
        return ApproximateIndex.read(self.path / "index.faiss", self.info.index, len(self))

    def _require_dimensions(self, embeddings: NDArray[np.float32]) -> None:
        if embeddings.shape[1] != self.info.dimensions:
            raise DataError(
                f"map {self.path} holds embeddings of {self.info.dimensions} dimensions, got "
                f"{embeddings.shape[1]}"
            )

    def _with_names(self, known: set[str], names: Sequence[str]) -> set[str]:
        twice = [name for name in names if name in known]
        if twice:
            raise DataError(
                f"{len(twice)} images to be added are in map {self.path} already by name, the "
                f"first is {twice[0]}; leave them out, or make a map of its own for them: "
                "'mlcore localize' searches several"
            )
        return known.union(names)

    def _tables(self) -> list[Path]:
        return sorted(self.path.glob("references-*.arrow"))

    def _forget(self) -> None:
        """Read again what is asked for next: the files have changed."""
        for name in ("embeddings", "columns", "_index", "_thumbnails"):
            self.__dict__.pop(name, None)

    def _write_info(self) -> None:
        content = {"format": FORMAT, **asdict(self.info)}
        with atomic_write(self.path / "map.json") as file:
            file.write((json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def is_map(path: Path) -> bool:
    """Return whether a folder is a map."""
    return (path / "map.json").is_file()


def _embeddings_of(table: Path) -> Path:
    return table.with_name(table.stem.replace("references", "embeddings") + ".npy")


def _table(columns: Mapping[str, Any], num_rows: int) -> pa.Table:
    """Return columns in the one schema that all shards have."""
    import pyarrow as pa

    types = {**dict.fromkeys(TEXTS, pa.string()), **dict.fromkeys(NUMBERS, pa.float64())}
    unknown = columns.keys() - types.keys()
    if unknown:
        raise ValueError(f"a map has no columns {sorted(unknown)}")
    return pa.table(
        {
            name: pa.array(columns[name], kind, from_pandas=True)
            if name in columns
            else pa.nulls(num_rows, kind)
            for name, kind in types.items()
        }
    )


def _write_table(path: Path, table: pa.Table) -> None:
    import pyarrow as pa

    with atomic_write(path) as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


def _read_table(path: Path) -> pa.Table:
    import pyarrow as pa

    try:
        return pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    except (OSError, pa.ArrowInvalid) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
