"""Exact search against brute force in float64."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcore.errors import ConfigError, DataError
from mlcore.retrieval.search import rank_candidates, search
from mlcore.retrieval.shards import ShardedEmbeddings


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
    for memory_bytes in (1, 20_000, 60_000):
        chunked = search(references, queries, 5, memory_bytes=memory_bytes)
        np.testing.assert_array_equal(chunked.row, whole.row)
        np.testing.assert_array_equal(chunked.distance, whole.distance)


def write_shards(folder, references, sizes):
    starts = np.cumsum([0, *sizes])
    assert starts[-1] == len(references)
    for number, (start, stop) in enumerate(pairwise(starts)):
        np.save(folder / f"embeddings-{number:05d}.npy", references[start:stop])
    return ShardedEmbeddings.open(folder)


@pytest.mark.parametrize("memory_bytes", [1, 3_000, 60_000, 10**6])
def test_references_on_disk_are_found_as_in_memory(tmp_path, memory_bytes):
    rng = np.random.default_rng(1)
    references = rng.normal(size=(300, 16)).astype(np.float32)
    references[200:220] = references[100:120]  # equals in other blocks and shards
    queries = np.concatenate([references[95:125], rng.normal(size=(40, 16))]).astype(np.float32)
    whole = search(references, queries, 5)
    shards = write_shards(tmp_path, references, [120, 1, 100, 79])
    np.save(tmp_path / "one.npy", references)
    for source in (shards, np.load(tmp_path / "one.npy", mmap_mode="r")):
        found = search(source, queries, 5, memory_bytes=memory_bytes)
        np.testing.assert_array_equal(found.row, whole.row)
        np.testing.assert_array_equal(found.distance, whole.distance)


def test_blocks_are_read_once_and_told(tmp_path):
    references = np.random.default_rng(1).normal(size=(64, 4)).astype(np.float32)
    shards = write_shards(tmp_path, references, [30, 34])
    told = []
    search(
        *(shards, references[:3], 2),
        memory_bytes=2 * 16 * 4 * 4,  # blocks of 16 rows
        progress=lambda what, done, total, _="": told.append((what, done, total)),
    )
    assert told == [("searching", done, 64) for done in (16, 32, 48, 64)]


def test_a_value_that_is_not_finite_is_found_in_any_block(tmp_path):
    references = np.ones((40, 4), dtype=np.float32)
    references[33, 2] = np.nan
    shards = write_shards(tmp_path, references, [20, 20])
    with pytest.raises(DataError, match="a reference embedding contains NaN"):
        search(shards, references[:1], 2, memory_bytes=200)


def test_shards_as_rows(tmp_path):
    references = np.arange(20, dtype=np.float32).reshape(10, 2)
    shards = write_shards(tmp_path, references, [3, 7])
    assert shards.shape == (10, 2)
    assert np.array_equal(shards.read(2, 5), references[2:5])
    rows = np.array([[9, 0], [3, 2]])
    assert np.array_equal(shards.take(rows), references[rows])


def test_bad_shards(tmp_path):
    with pytest.raises(DataError, match="no shards of embeddings"):
        ShardedEmbeddings.open(tmp_path)
    np.save(tmp_path / "embeddings-00000.npy", np.zeros((2, 3), dtype=np.float32))
    np.save(tmp_path / "embeddings-00001.npy", np.zeros((2, 4), dtype=np.float32))
    with pytest.raises(DataError, match=r"embeddings-00001.npy has rows of shape \(4,\)"):
        ShardedEmbeddings.open(tmp_path)
    (tmp_path / "embeddings-00001.npy").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"embeddings-00001.npy cannot be read"):
        ShardedEmbeddings.open(tmp_path)


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
        (np.zeros((1, 2)), np.zeros((1, 2)), 0, ConfigError, "at least 1, got 0"),
    ],
)
def test_bad_input(references, queries, k, error, message):
    with pytest.raises(error, match=message):
        search(references.astype(np.float32), queries.astype(np.float32), k)


@pytest.mark.parametrize("count", [1, 2, 117])
def test_equal_long_embeddings_keep_their_order_in_any_piece(count):
    """Of 9,000 numbers, 116 are measured at a time: the last piece may be a single one."""
    row, query = np.random.default_rng(0).standard_normal((2, 1, 9000), dtype=np.float32)
    candidates = np.arange(count)[None]
    found = rank_candidates(row.repeat(count, axis=0), query, candidates, count)
    assert found.row.tolist() == candidates.tolist()
