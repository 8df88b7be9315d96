"""Exact nearest neighbours by Euclidean distance.

Shapes: ``N`` references, ``Q`` queries, ``D`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import ConfigError, DataError
from mlcore.protocols import Progress, no_progress
from mlcore.retrieval.shards import ShardedEmbeddings

_SPARE_CANDIDATES = 8
_QUERIES_AT_ONCE = 4096
_RANKED_BYTES = 32 * 2**20
"""Of candidates measured at once: freed memory of this size is used again, not mapped anew."""
_READERS, _PIECE_BYTES = 2, 8 * 2**20
"""Threads that read references, each so much at a time: two fill the memory's bandwidth."""


class Neighbours(NamedTuple):
    """The nearest references of each query, nearest first; ties by row.

    Attributes:
        distance: ``(Q, k)`` float64, Euclidean.
        row: ``(Q, k)`` int64, rows of the references.
    """

    distance: NDArray[np.float64]
    row: NDArray[np.int64]


def search(
    references: NDArray[np.float32] | ShardedEmbeddings,
    queries: NDArray[np.float32],
    k: int,
    *,
    memory_bytes: int = 256 * 2**20,
    progress: Progress = no_progress,
) -> Neighbours:
    """Return the ``min(k, N)`` references nearest to each query.

    faiss proposes ``k + 8`` candidates from float32 products; their distances are then
    computed from float64 differences and sorted, so that equal embeddings keep the order
    of the references (up to 8 of them beyond the k-th place) with any number of threads.

    Beyond queries and result, the search takes about ``memory_bytes``, 20 MB of faiss's own
    and 48 bytes per candidate of each query: references that are mapped from disk, or shards,
    are read block by block, each once, then the candidates again. References in memory are
    not copied if they are contiguous float32.

    Args:
        references: ``(N, D)``: an array, a memory map, or shards.
        queries: ``(Q, D)``.
        k: Number of neighbours.
        memory_bytes: Bound on the references and candidates held at once.
        progress: Called with the number of references searched.

    Raises:
        DataError: There is no reference, dimensions differ, or a value is not finite.
        ConfigError: ``k`` is less than 1.
    """
    _check(references, queries, k)
    source = _Source(references, memory_bytes // 2)
    num_candidates = min(k + _SPARE_CANDIDATES, len(references))
    with _reservoirs():
        candidates = _candidates(source, queries, num_candidates, progress)
    return _ranked(source, queries, candidates, min(k, len(references)), memory_bytes)


def rank_candidates(
    references: NDArray[np.float32] | ShardedEmbeddings,
    queries: NDArray[np.float32],
    candidates: NDArray[np.int64],
    k: int,
    *,
    memory_bytes: int = 256 * 2**20,
) -> Neighbours:
    """Return the ``k`` nearest of each query's candidates ``(Q, k')``, by exact distance.

    A candidate of -1 stands for none, as faiss has it; it comes last, infinitely far.

    Raises:
        DataError: There is no reference, dimensions differ, or a value is not finite.
        ConfigError: ``k`` is less than 1.
    """
    _check(references, queries, k)
    source = _Source(references, memory_bytes // 2)
    return _ranked(source, queries, candidates, min(k, candidates.shape[1]), memory_bytes)


class _Source:
    """References in memory, or read from disk block by block.

    Args:
        references: ``(N, D)``.
        block_bytes: Bound on the size of a block.
    """

    def __init__(
        self, references: NDArray[np.float32] | ShardedEmbeddings, block_bytes: int
    ) -> None:
        if isinstance(references, np.memmap) and references.dtype == np.float32:
            references = ShardedEmbeddings([references])
        self._size = len(references)
        self._on_disk: ShardedEmbeddings | None = None
        if isinstance(references, ShardedEmbeddings):
            self._on_disk = references
            self._block = max(1, block_bytes // (4 * references.shape[1]))
        else:
            self._in_memory = np.ascontiguousarray(references, dtype=np.float32)
            self._block = max(1, self._size)

    def blocks(self) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Yield the first row and the rows of each block, which the next one overwrites."""
        if self._on_disk is None:
            _require_finite("reference", self._in_memory)
            yield 0, self._in_memory
            return
        buffer = np.empty((min(self._block, self._size), self._on_disk.shape[1]), np.float32)
        with ThreadPoolExecutor(_READERS) as readers:
            for start in range(0, self._size, self._block):
                block = buffer[: min(self._block, self._size - start)]
                pieces = range(0, len(block), max(1, _PIECE_BYTES // block[0].nbytes))
                read = partial(self._read, start, block, pieces.step)
                for _ in readers.map(read, pieces):
                    pass
                yield start, block
        self._on_disk.are_finite = True

    def _read(self, start: int, block: NDArray[np.float32], num_rows: int, first: int) -> None:
        """Read and check so many rows of a block that begins at row ``start``."""
        assert self._on_disk is not None
        piece = block[first : first + num_rows]
        self._on_disk.read(start + first, start + first + len(piece), piece)
        if not self._on_disk.are_finite:
            _require_finite("reference", piece)

    def take(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return rows ``(n, D)``."""
        return self._in_memory[rows] if self._on_disk is None else self._on_disk.take(rows)

    def __len__(self) -> int:
        return self._size


@contextmanager
def _reservoirs() -> Iterator[None]:
    """Let faiss collect 20 neighbours and more as it does 100: 4 % faster than its heaps.

    A setting of the process. Searches of other threads take it on meanwhile, and find the same.
    """
    import faiss

    before = faiss.cvar.distance_compute_min_k_reservoir
    faiss.cvar.distance_compute_min_k_reservoir = min(before, 20)
    try:
        yield
    finally:
        faiss.cvar.distance_compute_min_k_reservoir = before


def _candidates(
    source: _Source, queries: NDArray[np.float32], wanted: int, progress: Progress
) -> NDArray[np.int64]:
    """Return the rows ``(Q, wanted)`` of the nearest references by float32 products."""
    import faiss

    best = np.full((len(queries), wanted), np.inf, dtype=np.float32)
    rows = np.full((len(queries), wanted), -1, dtype=np.int64)
    for first, block in source.blocks():
        for start in range(0, len(queries), _QUERIES_AT_ONCE):
            part = slice(start, start + _QUERIES_AT_ONCE)
            asked = np.ascontiguousarray(queries[part], dtype=np.float32)
            squared, found = faiss.knn(asked, block, min(wanted, len(block)))
            both = np.concatenate([best[part], squared], axis=1)
            both_rows = np.concatenate([rows[part], found + first], axis=1)
            order = np.argsort(both, axis=1, kind="stable")[:, :wanted]
            best[part] = np.take_along_axis(both, order, 1)
            rows[part] = np.take_along_axis(both_rows, order, 1)
        progress("searching", first + len(block), len(source))
    return rows


def _ranked(
    source: _Source,
    queries: NDArray[np.float32],
    candidates: NDArray[np.int64],
    num_kept: int,
    memory_bytes: int,
) -> Neighbours:
    """Sort candidates ``(Q, k')`` by exact distance, then row, and keep some of each query.

    Their rows are read in the order of the references, some at once.
    """
    wanted = np.maximum(candidates, 0).ravel()
    order = np.argsort(wanted, kind="stable")
    distance = np.empty(len(wanted), dtype=np.float64)

    def measure(pairs: NDArray[np.int64]) -> None:
        difference = source.take(wanted[pairs]).astype(np.float64)
        difference -= queries[pairs // candidates.shape[1]].astype(np.float32, copy=False)
        # Not by einsum, which adds up a single long row in another order than one of several.
        distance[pairs] = np.sqrt(np.square(difference, out=difference).sum(axis=1))

    pair_bytes = _READERS * 16 * queries.shape[1]
    step = max(1, min(memory_bytes // 2, _RANKED_BYTES) // max(1, pair_bytes))
    with ThreadPoolExecutor(_READERS) as threads:
        pieces = (order[first : first + step] for first in range(0, len(order), step))
        for _ in threads.map(measure, pieces):
            pass
    distance[candidates.ravel() < 0] = np.inf
    by_query = distance.reshape(candidates.shape)
    nearest = np.lexsort((candidates, by_query), axis=1)[:, :num_kept]
    return Neighbours(
        np.take_along_axis(by_query, nearest, 1), np.take_along_axis(candidates, nearest, 1)
    )


def _check(
    references: NDArray[np.float32] | ShardedEmbeddings,
    queries: NDArray[np.float32],
    k: int,
) -> None:
    if k < 1:
        raise ConfigError(f"the number of neighbours must be at least 1, got {k}")
    if not len(references):
        raise DataError("there are no reference images to search")
    if references.shape[1] != queries.shape[1]:
        raise DataError(
            f"references have {references.shape[1]} dimensions, queries "
            f"{queries.shape[1]}: they come from different models or whitenings"
        )
    _require_finite("query", queries)


def _require_finite(name: str, embeddings: NDArray[np.float32]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        quick = embeddings.sum()  # in float32, three times as fast; too large numbers overflow
    if not np.isfinite(quick) and not np.isfinite(embeddings.sum(dtype=np.float64)):
        raise DataError(f"a {name} embedding contains NaN or infinity")
