"""Exact search against brute force in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcore.errors import ConfigError, DataError
from mlcore.retrieval import search


def brute_force(references, queries, k):
    """Return distances and rows by a loop, ties by row."""
    distance = np.empty((len(queries), k))
    row = np.empty((len(queries), k), dtype=np.int64)
    for number, query in enumerate(queries.astype(np.float64)):
        found = [
            (float(np.sqrt(((query - reference) ** 2).sum())), place)
            for place, reference in enumerate(references.astype(np.float64))
        ]
        for rank, (metres, place) in enumerate(sorted(found)[:k]):
            distance[number, rank], row[number, rank] = metres, place
    return distance, row


@given(
    seed=st.integers(0, 2**32),
    num_references=st.integers(1, 40),
    num_queries=st.integers(0, 12),
    dimensions=st.integers(1, 9),
    k=st.integers(1, 50),
    offset=st.sampled_from([0.0, 1e3]),
)
@settings(max_examples=60, deadline=None)
def test_equals_brute_force(seed, num_references, num_queries, dimensions, k, offset):
    generator = np.random.default_rng(seed)
    references = generator.normal(offset, 1, (num_references, dimensions)).astype(np.float32)
    queries = generator.normal(offset, 1, (num_queries, dimensions)).astype(np.float32)
    found = search(references, queries, k)
    distance, row = brute_force(references, queries, min(k, num_references))
    np.testing.assert_array_equal(found.row, row)
    np.testing.assert_allclose(found.distance, distance, rtol=1e-12)


def test_chunks_change_nothing():
    rng = np.random.default_rng(0)
    references = rng.normal(size=(300, 16)).astype(np.float32)
    queries = rng.normal(size=(70, 16)).astype(np.float32)
    whole = search(references, queries, 5)
    for memory_bytes in (1, 20_000):
        chunked = search(references, queries, 5, memory_bytes=memory_bytes)
        np.testing.assert_array_equal(chunked.row, whole.row)
        np.testing.assert_array_equal(chunked.distance, whole.distance)


def test_of_equal_references_the_first_comes_first():
    references = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    found = search(references, np.eye(3, dtype=np.float32), 4)
    assert found.row.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert (found.distance == 0).all()


def test_references_may_be_strided_or_float64():
    references = np.random.default_rng(0).normal(size=(40, 8))
    strided = references[::2, ::-1]
    found = search(strided, strided, 1)
    assert found.row[:, 0].tolist() == list(range(20))


@pytest.mark.parametrize(
    ("references", "queries", "k", "error", "message"),
    [
        (np.zeros((0, 2)), np.zeros((1, 2)), 1, DataError, "no reference image"),
        (np.zeros((1, 3)), np.zeros((1, 2)), 1, DataError, "references have 3 .* queries 2"),
        (np.full((1, 2), np.nan), np.zeros((1, 2)), 1, DataError, "a reference embedding"),
        (np.zeros((1, 2)), np.full((1, 2), np.inf), 1, DataError, "a query embedding"),
        (np.zeros((1, 2)), np.zeros((1, 2)), 0, ConfigError, "0 neighbours"),
    ],
)
def test_bad_input(references, queries, k, error, message):
    with pytest.raises(error, match=message):
        search(references.astype(np.float32), queries.astype(np.float32), k)
