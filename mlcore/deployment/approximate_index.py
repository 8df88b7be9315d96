"""Approximate search in a map: faiss proposes, exact distances decide."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import ConfigError, DataError
from mlcore.files import atomic_write
from mlcore.protocols import Progress, no_progress
from mlcore.retrieval.search import Neighbours, rank_candidates, search
from mlcore.retrieval.shards import ShardedEmbeddings

CANDIDATES = 100
"""References whose distance is computed exactly, for each query."""

_BLOCK_ROWS = 65_536
_QUERIES_OF_RECALL = 500
_ROWS_PER_LIST = 64
"""Training rows for each list of an inverted file; faiss warns below 39."""
_CONSTRUCTION_BREADTH, _SEARCH_BREADTH = 80, 128
"""efConstruction and efSearch of HNSW: candidates kept while a graph is built and searched."""


@dataclass(frozen=True, kw_only=True)
class IndexReport:
    """What an index is and how well it finds.

    Attributes:
        kind: As the user named it.
        factory: faiss's factory string.
        num_references: Rows in it.
        size_bytes: Size of its file, and about that of the memory it takes.
        build_s: Seconds that building took.
        recall_1: Share of references whose nearest other reference is found.
        recall_10: Share of the ten nearest other references that are found.
    """

    kind: str
    factory: str
    num_references: int
    size_bytes: int
    build_s: float
    recall_1: float
    recall_10: float


def factory_string(kind: str, num_references: int) -> str:
    """Return faiss's factory string for the name of an index, or the string itself."""
    lists = max(1, min(round(4 * math.sqrt(num_references)), num_references // _ROWS_PER_LIST))
    named = {"ivf": f"IVF{lists},Flat", "hnsw": "HNSW32", "fp16": "SQfp16", "int8": "SQ8"}
    return named.get(kind, kind)


def require_kind(kind: str, dimensions: int) -> None:
    """Check the name of an index before long work.

    Raises:
        ConfigError: It is neither one of the names nor a factory string of faiss.
    """
    import faiss

    if kind == "flat":
        return
    try:
        faiss.index_factory(dimensions, factory_string(kind, 1), faiss.METRIC_L2)
    except RuntimeError as error:
        raise ConfigError(
            f"--index {kind}: faiss has no such index of {dimensions} dimensions; use flat, "
            "ivf, hnsw, fp16, int8 or one of faiss's factory strings, such as IVF64,PQ16"
        ) from error


def build_index(
    references: ShardedEmbeddings, kind: str, path: Path, progress: Progress = no_progress
) -> IndexReport | None:
    """Build an index, write it to ``path`` and measure it; None for "flat", which needs none.

    Recall is measured against exact search, with evenly spaced references as queries and each
    one itself left out.

    Args:
        references: ``(N, D)``.
        kind: "flat", "ivf", "hnsw", "fp16", "int8", or a factory string of faiss.
        path: File to write; removed for "flat".
        progress: Called with the number of references added.

    Raises:
        ConfigError: faiss does not know ``kind``, or cannot train it on so few references.
    """
    import faiss

    if kind == "flat":
        path.unlink(missing_ok=True)
        return None
    started = time.perf_counter()
    total, dimensions = references.shape
    factory = factory_string(kind, total)
    try:
        index = faiss.index_factory(dimensions, factory, faiss.METRIC_L2)
        _set_breadths(index)
        inverted = faiss.try_extract_index_ivf(index)
        wanted = _ROWS_PER_LIST * max(256, 1 if inverted is None else inverted.nlist)
        step = max(1, total // wanted)
        if not index.is_trained:
            index.train(references.take(np.arange(0, total, step)))
        for start in range(0, total, _BLOCK_ROWS):
            stop = min(start + _BLOCK_ROWS, total)
            index.add(references.read(start, stop))
            progress("indexing references", stop, total)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].rpartition(": ")[2]
        raise ConfigError(
            f"--index {kind}: faiss cannot build {factory!r} over {total} references of "
            f"{dimensions} dimensions ({reason}); use flat, ivf, hnsw, fp16, int8 or another "
            "of faiss's factory strings"
        ) from error
    build_s = time.perf_counter() - started
    with atomic_write(path) as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
    recall_1, recall_10 = _recall(ApproximateIndex(index), references)
    return IndexReport(
        kind=kind,
        factory=factory,
        num_references=total,
        size_bytes=path.stat().st_size,
        build_s=build_s,
        recall_1=recall_1,
        recall_10=recall_10,
    )


class ApproximateIndex:
    """A faiss index over the rows of a map.

    Args:
        index: What faiss built or read.
    """

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def read(cls, path: Path, report: IndexReport, num_references: int) -> ApproximateIndex:
        """Map an index from disk.

        Raises:
            DataError: It is missing or damaged, or references were added after it was built.
        """
        import faiss

        if report.num_references != num_references:
            raise DataError(
                f"{path} covers {report.num_references} of {num_references} references; build "
                f"it again with 'mlcore index {path.parent} --index {report.kind}'"
            )
        try:
            index = faiss.read_index(
                os.fspath(path), faiss.IO_FLAG_MMAP | faiss.IO_FLAG_READ_ONLY
            )
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise DataError(f"index {path} cannot be read: {reason}") from error
        _set_breadths(index)
        return cls(index)

    def search(
        self, references: ShardedEmbeddings, queries: NDArray[np.float32], k: int
    ) -> Neighbours:
        """Return ``k`` near references of each query ``(Q, D)``, sorted by exact distance."""
        wanted = min(max(k, CANDIDATES), len(references))
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        _, rows = self._index.search(queries, wanted)
        return rank_candidates(references, queries, rows, k)


def _set_breadths(index: Any) -> None:
    """Search as many lists, or as much of a graph, as gives good recall at moderate cost."""
    import faiss

    inverted = faiss.try_extract_index_ivf(index)  # also below a rotation such as OPQ16
    if inverted is not None:
        inverted.nprobe = min(max(8, inverted.nlist // 32), inverted.nlist)
    if hasattr(index, "hnsw"):
        index.hnsw.efConstruction = _CONSTRUCTION_BREADTH
        index.hnsw.efSearch = _SEARCH_BREADTH


def _recall(index: ApproximateIndex, references: ShardedEmbeddings) -> tuple[float, float]:
    total = len(references)
    if total < 2:
        return 1.0, 1.0
    rows = np.unique(np.linspace(0, total - 1, _QUERIES_OF_RECALL).round().astype(np.int64))
    queries = references.take(rows)
    k = min(11, total)
    exact = _without(search(references, queries, k).row, rows)
    found = _without(index.search(references, queries, k).row, rows)
    hits = (exact[:, :, None] == found[:, None, :]).any(axis=2)
    return float(hits[:, 0].mean()), float(hits.mean())


def _without(found: NDArray[np.int64], rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the neighbours of rows less each row itself, or less the last one."""
    own = found == rows[:, None]
    own[~own.any(axis=1), -1] = True
    others: NDArray[np.int64] = found[~own].reshape(len(found), -1)
    return others
