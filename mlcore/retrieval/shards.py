"""Embeddings in a folder of shards, written one by one: a kill loses at most one.

A shard is ``embeddings-NNNNN.npy`` ``(n, D)`` float32 with the index of its rows beside it
in ``embeddings-NNNNN.csv``, written last: a shard without it does not count. ``shards.json``
records model and images, so that embeddings of others are never added.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import ConfigError, DataError
from mlcore.files import atomic_write


class ShardFolder:
    """A folder that shards are written to.

    Args:
        path: The folder; created if it does not exist.
        made_from: What the embeddings depend on: model, images, size of a shard.

    Raises:
        ConfigError: The folder holds other shards, or other files.
    """

    def __init__(self, path: Path, made_from: Mapping[str, Any]) -> None:
        self.path = path
        manifest = path / "shards.json"
        content = json.dumps(dict(made_from), indent=1) + "\n"
        if manifest.exists():
            _require_equal(path, _read(manifest), json.loads(content))
            return
        if path.is_dir() and any(path.iterdir()):
            raise ConfigError(
                f"--out {path} holds files that are not shards; choose an empty folder"
            )
        path.mkdir(exist_ok=True)
        with atomic_write(manifest) as file:
            file.write(content.encode())

    def shard(self, number: int) -> Path:
        """Return the path of a shard."""
        return self.path / f"embeddings-{number:05d}.npy"

    def has(self, number: int) -> bool:
        """Return whether a shard and its index are complete."""
        return self.shard(number).exists() and self.shard(number).with_suffix(".csv").exists()

    def num_rows(self, number: int) -> int:
        """Return how many images a complete shard holds: those that could be read.

        Raises:
            DataError: The shard is damaged.
        """
        return len(ShardedEmbeddings.of_files([self.shard(number)]))


def _read(manifest: Path) -> Mapping[str, Any]:
    try:
        content = json.loads(manifest.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{manifest} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{manifest} is not what mlcore wrote; choose another folder")
    return content


def _require_equal(path: Path, there: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    for name in (*given, *there):
        if there.get(name) != given.get(name):
            raise ConfigError(
                f"--out {path} holds embeddings with {name} {there.get(name)}, this command "
                f"has {given.get(name)}; choose another folder"
            )


class ShardedEmbeddings:
    """The rows of all shards of a folder, one after the other, mapped into memory.

    Attributes:
        shape: ``(N, D)``.
        are_finite: Whether a search has found that every value is.
    """

    are_finite = False

    def __init__(self, parts: list[NDArray[np.float32]]) -> None:
        if not parts:
            raise DataError("there are no shards of embeddings")
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self.shape = (int(self._starts[-1]), int(parts[0].shape[1]))

    @classmethod
    def open(cls, folder: Path) -> ShardedEmbeddings:
        """Map the shards that ``mlcore embed --shard_size`` wrote.

        Raises:
            DataError: There is none, or one is damaged or of another dimension.
        """
        paths = sorted(folder.glob("embeddings-*.npy"))
        if not paths:
            raise DataError(f"no shards of embeddings in {folder}")
        return cls.of_files(paths)

    @classmethod
    def of_files(cls, paths: Sequence[Path]) -> ShardedEmbeddings:
        """Map shards, in the order given.

        Raises:
            DataError: One is torn or of another dimension.
        """
        parts: list[NDArray[np.float32]] = []
        for path in paths:
            try:
                parts.append(np.load(path, mmap_mode="r"))
            except (OSError, ValueError, EOFError) as error:
                raise DataError(f"shard {path} cannot be read: {error}") from error
            if parts[-1].shape[1:] != parts[0].shape[1:]:
                raise DataError(
                    f"shard {path} has rows of shape {parts[-1].shape[1:]}, the first has "
                    f"{parts[0].shape[1:]}"
                )
        return cls(parts)

    def __len__(self) -> int:
        return self.shape[0]

    def read(
        self, start: int, stop: int, out: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Return rows ``[start, stop)`` as a copy; the mapped pages are given back.

        Args:
            start: First row.
            stop: Row after the last.
            out: Where to copy them, ``(at least stop - start, D)``: new memory for each block
                of a long search costs as much time as reading it.
        """
        if out is None:
            out = np.empty((stop - start, self.shape[1]), dtype=np.float32)
        block = out[: stop - start]
        for part, first in zip(self._parts, self._starts, strict=False):
            low, high = max(start, int(first)), min(stop, int(first) + len(part))
            if low < high:
                block[low - start : high - start] = part[low - first : high - first]
                give_back(part)
        return block

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return rows ``(...)``, in any order, as ``(..., D)``."""
        found = np.empty((*rows.shape, self.shape[1]), dtype=np.float32)
        place = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(place):
            here, part = place == number, self._parts[number]
            found[here] = part[rows[here] - self._starts[number]]
            give_back(part)
        return found


def give_back(rows: NDArray[np.float32]) -> None:
    """Release the pages of a memory map, which would count as this process's memory."""
    mapped = getattr(rows, "_mmap", None)
    if mapped is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)
