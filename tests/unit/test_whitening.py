"""PCA whitening against scikit-learn, and where it degenerates."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.decomposition import PCA

from mlcore.errors import ConfigError, DataError
from mlcore.retrieval.whitening import Whitening, fit_whitening


def embeddings_of(num_images, dimensions, seed=0):
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(dimensions, dimensions))
    raw = generator.normal(size=(num_images, dimensions)) @ mixing + generator.normal(
        size=dimensions
    )
    return (raw / np.linalg.norm(raw, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("num_images", "dimensions"), [(100, 12), (40, 12), (24, 50)])
def test_equals_scikit_learn(num_images, dimensions):
    embeddings = embeddings_of(num_images, dimensions)
    queries = embeddings_of(7, dimensions, seed=1)
    whitening = fit_whitening(embeddings, 5, source="train")
    reference = PCA(n_components=whitening.dimensions, whiten=True, svd_solver="full")
    expected = reference.fit(embeddings.astype(np.float64)).transform(queries)
    np.testing.assert_allclose(whitening(queries), expected, atol=2e-5)


@pytest.mark.parametrize(("num_images", "dimensions"), [(100, 12), (24, 50)])
def test_components_are_eigenvectors_with_their_largest_entry_positive(num_images, dimensions):
    embeddings = embeddings_of(num_images, dimensions)
    whitening = fit_whitening(embeddings, 5, source="train")
    covariance = np.cov(embeddings.astype(np.float64).T)
    for component, deviation in zip(whitening.components, whitening.deviation, strict=True):
        np.testing.assert_allclose(covariance @ component, deviation**2 * component, atol=1e-12)
        assert component[np.abs(component).argmax()] > 0
    assert (np.diff(whitening.deviation) < 0).all()


def test_what_it_was_fitted_on_comes_out_white():
    embeddings = embeddings_of(200, 10)
    whitened = fit_whitening(embeddings, 10, source="train")(embeddings).astype(np.float64)
    np.testing.assert_allclose(whitened.mean(axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.cov(whitened.T), np.eye(10), atol=1e-4)


@pytest.mark.parametrize(
    ("num_images", "dimensions", "wanted", "kept"),
    [(400, 12, 256, 12), (400, 12, 5, 5), (40, 12, 256, 10), (5, 12, 256, 1), (3, 4, 8, 1)],
)
def test_keeps_the_least_of_three_limits(num_images, dimensions, wanted, kept):
    whitening = fit_whitening(embeddings_of(num_images, dimensions), wanted, source="train")
    assert whitening.dimensions == kept
    assert whitening.num_images == num_images


def test_dimensions_that_do_not_vary_are_dropped():
    embeddings = embeddings_of(100, 6)
    embeddings[:, 2] = 0.5
    embeddings[:, 4] = embeddings[:, 1]
    whitening = fit_whitening(embeddings, 256, source="train")
    assert whitening.dimensions == 4
    assert np.abs(whitening(embeddings)).max() < 10


def test_cut_keeps_the_first_dimensions():
    embeddings = embeddings_of(100, 12)
    whole = fit_whitening(embeddings, 12, source="train")
    np.testing.assert_array_equal(whole.cut(3)(embeddings), whole(embeddings)[:, :3])
    assert whole.cut(99).dimensions == 12
    with pytest.raises(ConfigError, match="at least 1 dimension, got 0"):
        whole.cut(0)


def test_arrays_bring_it_back(tmp_path):
    embeddings = embeddings_of(100, 12)
    whitening = fit_whitening(embeddings, 4, source="references")
    np.savez(tmp_path / "whitening.npz", **whitening.to_arrays())
    with np.load(tmp_path / "whitening.npz", allow_pickle=False) as arrays:
        again = Whitening.from_arrays(arrays)
    np.testing.assert_array_equal(again(embeddings), whitening(embeddings))
    assert (again.source, again.num_images) == ("references", 100)


def test_bad_input():
    with pytest.raises(DataError, match="at least 2 images, got 1"):
        fit_whitening(embeddings_of(1, 4), 4, source="train")
    with pytest.raises(
        DataError, match=r"all 50 embeddings .* identical: the network has collapsed"
    ):
        fit_whitening(np.tile(embeddings_of(1, 4), (50, 1)), 4, source="train")
    with pytest.raises(DataError, match="fitted on 4 dimensions, embeddings have 5"):
        fit_whitening(embeddings_of(50, 4), 4, source="train")(embeddings_of(50, 5))
