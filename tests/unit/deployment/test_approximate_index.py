"""Approximate indexes: exact distances of what they propose, and a recall that is true."""

from __future__ import annotations

import numpy as np
import pytest

from mlcore.deployment.approximate_index import factory_string, require_kind
from mlcore.deployment.map_folder import MapFolder
from mlcore.errors import ConfigError, DataError
from mlcore.retrieval.search import rank_candidates, search


@pytest.mark.parametrize(
    "kind", ["ivf", "hnsw", "fp16", "int8", "IVF4,PQ2x4", "OPQ4,IVF4,Flat"]
)
def test_distances_are_exact_and_recall_is_stated(folder, vectors, kind):
    report = folder.build_index(kind)
    queries = vectors[::29] + np.float32(0.003)
    found = MapFolder.open(folder.path).search(queries, 4)
    exact = search(vectors, queries, 4)
    distance = np.linalg.norm(vectors[found.row].astype(np.float64) - queries[:, None], axis=2)
    assert np.allclose(found.distance, distance, rtol=1e-12)
    assert (np.diff(found.distance, axis=1) >= 0).all()
    assert (found.distance >= exact.distance - 1e-12).all()
    assert (report.kind, report.num_references) == (kind, 600)
    assert report.size_bytes == (folder.path / "index.faiss").stat().st_size
    # 100 candidates of 600 clumped vectors hold the nearest.
    assert 0.9 <= report.recall_10 <= 1
    assert 0.9 <= report.recall_1 <= 1


def test_recall_counts_what_is_missed(folder, vectors):
    """Codes of one bit per two dimensions find few neighbours."""
    poor = folder.build_index("PQ1x1")
    good = folder.build_index("fp16")
    assert good.recall_10 == 1.0
    assert poor.recall_10 < 0.9


def test_lists_suit_the_number_of_references():
    assert factory_string("ivf", 10) == "IVF1,Flat"
    assert factory_string("ivf", 6_400) == "IVF100,Flat"
    assert factory_string("ivf", 1_000_000) == "IVF4000,Flat"
    assert factory_string("IVF64,PQ16", 10) == "IVF64,PQ16"


def test_an_index_that_faiss_does_not_know():
    with pytest.raises(ConfigError, match="--index tree: faiss has no such index"):
        require_kind("tree", 8)
    with pytest.raises(ConfigError, match=r"--index PQ3: faiss"):
        require_kind("PQ3", 8)
    require_kind("flat", 8)


def test_too_few_references_to_train_on(folder):
    with pytest.raises(ConfigError, match="over 600 references of 8 dimensions"):
        folder.build_index("IVF1024,Flat")


def test_references_added_since_are_noticed(folder, vectors):
    folder.build_index("fp16")
    folder.append([(vectors[:1], {"image": np.array(["new.jpg"], dtype=object)})])
    with pytest.raises(DataError, match=r"covers 600 of 601 references; .* --index fp16"):
        folder.search(vectors[:1], 1)


def test_a_damaged_index_is_named(folder, vectors):
    folder.build_index("fp16")
    (folder.path / "index.faiss").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"index.faiss cannot be read"):
        MapFolder.open(folder.path).search(vectors[:1], 1)


def test_candidates_of_none_come_last(vectors):
    candidates = np.array([[5, -1, 3, -1]])
    found = rank_candidates(vectors, vectors[3:4], candidates, 3)
    assert found.row.tolist() == [[3, 5, -1]]
    assert found.distance[0, 0] == 0
    assert np.isinf(found.distance[0, 2])
