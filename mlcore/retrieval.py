"""Exact nearest neighbours by Euclidean distance.

Shapes: ``N`` references, ``Q`` queries, ``D`` dimensions, ``k`` neighbours.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import ConfigError, DataError

_SPARE_CANDIDATES = 8


class Neighbours(NamedTuple):
    """The nearest references of each query, nearest first; of equals the lowest row first.

    Attributes:
        distance: ``(Q, k)`` float64, Euclidean.
        row: ``(Q, k)`` int64, rows of the references.
    """

    distance: NDArray[np.float64]
    row: NDArray[np.int64]


def search(
    references: NDArray[np.float32],
    queries: NDArray[np.float32],
    k: int,
    *,
    memory_bytes: int = 256 * 2**20,
) -> Neighbours:
    """Return the ``min(k, N)`` references nearest to each query.

    faiss proposes ``k + 8`` candidates from float32 products; their distances are then
    computed from float64 differences and sorted, so that equal embeddings keep the order
    of the references (up to 8 of them beyond the k-th place), however many threads run.

    Queries are searched in chunks: beyond inputs and result, the search takes about
    ``memory_bytes`` and some 20 MB of faiss's own. References are not copied if they are
    contiguous float32; a memory map stays one.

    Args:
        references: ``(N, D)``.
        queries: ``(Q, D)``.
        k: Neighbours wanted.
        memory_bytes: Bound on the candidates held at once.

    Raises:
        DataError: There is no reference, dimensions differ, or a value is not finite.
        ConfigError: ``k`` is less than 1.
    """
    import faiss

    _check(references, queries, k)
    references = np.ascontiguousarray(references, dtype=np.float32)
    num_kept = min(k, len(references))
    num_candidates = min(k + _SPARE_CANDIDATES, len(references))
    bytes_per_query = 2 * num_candidates * (references.shape[1] + 4) * 8
    chunk = max(1, memory_bytes // bytes_per_query)
    distance = np.empty((len(queries), num_kept), dtype=np.float64)
    row = np.empty((len(queries), num_kept), dtype=np.int64)
    for start in range(0, len(queries), chunk):
        part = np.ascontiguousarray(queries[start : start + chunk], dtype=np.float32)
        _, candidates = faiss.knn(part, references, num_candidates)
        rows = slice(start, start + len(part))
        distance[rows], row[rows] = _rank(references, part, candidates, num_kept)
    return Neighbours(distance, row)


def _rank(
    references: NDArray[np.float32],
    queries: NDArray[np.float32],
    candidates: NDArray[np.int64],
    num_kept: int,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sort candidates ``(Q, k')`` by exact distance, then row."""
    difference = references[candidates].astype(np.float64)
    difference -= queries[:, None]
    distance = np.sqrt(np.einsum("qkd,qkd->qk", difference, difference))
    order = np.lexsort((candidates, distance), axis=1)[:, :num_kept]
    return np.take_along_axis(distance, order, 1), np.take_along_axis(candidates, order, 1)


def _check(references: NDArray[np.float32], queries: NDArray[np.float32], k: int) -> None:
    if k < 1:
        raise ConfigError(f"cannot search for {k} neighbours; ask for at least 1")
    if not len(references):
        raise DataError("there is no reference image to search in")
    if references.shape[1] != queries.shape[1]:
        raise DataError(
            f"references have {references.shape[1]} dimensions, queries "
            f"{queries.shape[1]}: they come from different models or whitenings"
        )
    for name, embeddings in (("reference", references), ("query", queries)):
        if not np.isfinite(embeddings.sum(dtype=np.float64)):
            raise DataError(f"a {name} embedding is not finite")
