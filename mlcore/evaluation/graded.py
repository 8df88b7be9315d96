"""Graded measures: how well embedding distances follow geometric distances.

Accuracy counts what lies within a threshold; these look at the order of references instead.

Shapes: ``N`` references, ``Q`` queries, ``D`` dimensions, ``L`` limits, ``K`` numbers of
references.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ORDER_GAP_M = 2.0
"""Pairs of references closer than this in distance to the query are not compared."""
_LEAST_IDEAL = 1e-6
_MOST_PAIRS = 2**20
"""Pairs of references compared at once: a few MB."""
_ROWS_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True)
class GradedProtocol:
    """Parameters of the graded measures.

    Attributes:
        order_limits_m: References within these distances are compared by order accuracy.
        ndcg_at: Numbers k of NDCG@k.
        gain_cutoff_m: Distance at which the gain of NDCG is 1/2.
        gain_steepness_per_m: How fast the gain falls there.
    """

    order_limits_m: tuple[float, ...]
    ndcg_at: tuple[int, ...]
    gain_cutoff_m: float
    gain_steepness_per_m: float

    def gain(self, distance_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``1 / (1 + exp(steepness (d - cutoff)))``, the sigmoid influence function."""
        from scipy.special import expit

        gain: NDArray[np.float64] = expit(
            self.gain_steepness_per_m * (self.gain_cutoff_m - distance_m)
        )
        return gain


class OrderCounts(NamedTuple):
    """Pairs of references per query and limit.

    Attributes:
        right: ``(Q, L)`` float64, pairs in the right order; equal embedding distances count
            one half.
        pairs: ``(Q, L)`` int64, all pairs.
    """

    right: NDArray[np.float64]
    pairs: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class GradedColumns:
    """The per-query data of the graded measures.

    Attributes:
        order_right: ``(Q, L)`` float64, as in :class:`OrderCounts`.
        order_pairs: ``(Q, L)`` int64.
        ndcg: ``(Q, K)`` float64; NaN where no reference is near enough to have a gain.
    """

    order_right: NDArray[np.float64]
    order_pairs: NDArray[np.int64]
    ndcg: NDArray[np.float64]


def order_counts(
    references: NDArray[np.float32],
    queries: NDArray[np.float32],
    references_m: NDArray[np.float64],
    queries_m: NDArray[np.float64],
    limits_m: Sequence[float],
) -> OrderCounts:
    """Count, per query, the pairs of references that embeddings order correctly.

    A pair counts at a limit if both references lie within it (inclusive) and their distances
    to the query differ by at least 2 m. It is right if the nearer one has the smaller
    embedding distance.

    Memory beyond the result: that of the references within the largest limit of one query,
    and a few MB. Time grows with the square of their number.

    Args:
        references: ``(N, D)``.
        queries: ``(Q, D)``.
        references_m: ``(N, 2 or 3)``, with regions as of
            :func:`mlcore.data.positions.apart_m`.
        queries_m: ``(Q, 2 or 3)`` likewise.
        limits_m: ``L`` positive distances.
    """
    from scipy.spatial import KDTree

    right = np.zeros((len(queries), len(limits_m)))
    pairs = np.zeros((len(queries), len(limits_m)), dtype=np.int64)
    if not limits_m:
        return OrderCounts(right, pairs)
    centre = references_m.mean(axis=0)
    tree = KDTree(references_m - centre)
    reach_m = max(limits_m) + 1e-3  # the tree rounds; the exact distances decide
    for row, (query, query_m) in enumerate(zip(queries, queries_m, strict=True)):
        near = np.asarray(tree.query_ball_point(query_m - centre, reach_m), dtype=np.int64)
        distance_m = np.linalg.norm(references_m[near] - query_m, axis=-1)
        order = np.argsort(distance_m, kind="stable")
        near, distance_m = near[order], distance_m[order]
        embedding_distance = _distances(references, near, query)
        counts = _pairs_by_farther(distance_m, embedding_distance)
        # Of sorted references the first n are within a limit, so their pairs are too.
        within = np.searchsorted(distance_m, limits_m, side="right")
        right[row], pairs[row] = (
            np.concatenate([[0], np.cumsum(one)])[within] for one in counts
        )
    return OrderCounts(right, pairs)


def ndcg(
    retrieved_m: NDArray[np.float64],
    nearest_m: NDArray[np.float64],
    protocol: GradedProtocol,
) -> NDArray[np.float64]:
    """Return NDCG@k ``(Q, K)`` (Järvelin and Kekäläinen, TOIS 2002).

    ``DCG@k = sum_{r <= k} gain(d_r) / log2(r + 1)`` of the reference at rank r, divided by
    that of the k nearest references. NaN where the latter is below 1e-6.

    Args:
        retrieved_m: ``(Q, k)``, distances of the retrieved references by rank; k is the
            largest of ``protocol.ndcg_at``, or the number of references if that is smaller.
        nearest_m: ``(Q, k)``, the smallest distances of any references, ascending.
        protocol: The numbers k and the gain.
    """
    discount = 1 / np.log2(np.arange(2, retrieved_m.shape[1] + 2))
    reached, ideal = (
        np.cumsum(protocol.gain(distance_m) * discount, axis=1)
        for distance_m in (retrieved_m, nearest_m)
    )
    last = np.minimum(protocol.ndcg_at, retrieved_m.shape[1]).astype(np.int64) - 1
    reached, ideal = reached[:, last], ideal[:, last]
    has_gain = ideal >= _LEAST_IDEAL
    return np.where(has_gain, reached / np.where(has_gain, ideal, 1.0), np.nan)


def _distances(
    references: NDArray[np.float32], rows: NDArray[np.int64], query: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return Euclidean distances from a query to some references, in float64."""
    distance = np.empty(len(rows))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        difference = references[rows[part]].astype(np.float64) - query
        distance[part] = np.sqrt(np.einsum("nd,nd->n", difference, difference))
    return distance


def _pairs_by_farther(
    distance_m: NDArray[np.float64], embedding_distance: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return of each reference, by ascending distance, the pairs with a nearer one.

    How many are right, and how many there are.
    """
    size = len(distance_m)
    right, pairs = np.zeros(size), np.zeros(size, dtype=np.int64)
    block = max(1, _MOST_PAIRS // max(size, 1))
    for start in range(0, size, block):
        part = slice(start, start + block)
        is_pair = distance_m[part, None] - distance_m >= ORDER_GAP_M
        farther = embedding_distance[part, None]
        is_right = is_pair & (farther > embedding_distance)
        is_tie = is_pair & (farther == embedding_distance)
        right[part] = is_right.sum(axis=1) + 0.5 * is_tie.sum(axis=1)
        pairs[part] = is_pair.sum(axis=1)
    return right, pairs
