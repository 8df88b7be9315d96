"""Embeddings in two dimensions: t-SNE, or PCA where there are too few.

Shapes: ``N`` embeddings of ``D`` dimensions.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import ConfigError, DataError
from mlcore.protocols import Progress, no_progress

Method = Literal["auto", "tsne", "pca"]

FEWEST_FOR_TSNE = 20
_FEWEST_FOR_AUTO = 100
_PERPLEXITY = 30.0
_DIMENSIONS_BEFORE = 50
_ITERATIONS = 750  # openTSNE's 250 with early exaggeration and 500 without
_ITERATIONS_BETWEEN_REPORTS = 50


class Projection(NamedTuple):
    """Embeddings in two dimensions.

    Attributes:
        points: ``(N, 2)`` float64, without a unit.
        method: "t-SNE" or "PCA".
    """

    points: NDArray[np.float64]
    method: str


def project(
    embeddings: NDArray[np.float32],
    *,
    method: Method = "auto",
    seed: int = 0,
    progress: Progress = no_progress,
    name: str = "t-SNE",
) -> Projection:
    """Project embeddings ``(N, D)`` to two dimensions.

    t-SNE (van der Maaten and Hinton, JMLR 2008; openTSNE) sees the first 50 principal
    components, exact neighbours at a perplexity of 30 or ``(N - 1) / 3``, and starts from
    the first two components, so that the same embeddings give the same picture.

    Args:
        embeddings: Of the network, not whitened: whitening scales noise up to the size of
            the signal.
        method: "auto" takes t-SNE from 100 embeddings on and PCA below.
        seed: Of t-SNE.
        progress: Called with the number of iterations done.
        name: Name of the work in progress.

    Raises:
        DataError: There are too few embeddings for the method, or all are the same.
        ConfigError: There is no such method.
    """
    if method not in ("auto", "tsne", "pca"):
        raise ConfigError(f"unknown method {method!r}; known: auto, tsne, pca")
    num_points = len(embeddings)
    if method == "auto":
        method = "tsne" if num_points >= _FEWEST_FOR_AUTO else "pca"
    if method == "tsne" and num_points < FEWEST_FOR_TSNE:
        raise DataError(
            f"t-SNE needs at least {FEWEST_FOR_TSNE} embeddings, got {num_points}; "
            "use --method pca"
        )
    if num_points < 2:
        raise DataError(f"a projection needs at least 2 embeddings, got {num_points}")
    if (embeddings == embeddings[0]).all():
        raise DataError(
            f"all {num_points} embeddings are identical: the network has collapsed, so there "
            "is nothing to draw"
        )
    components = _components(embeddings, seed)
    if method == "pca":
        return Projection(_plane(components), "PCA")
    return Projection(_tsne(components, seed, progress, name), "t-SNE")


def _components(embeddings: NDArray[np.float32], seed: int) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA

    size = min(_DIMENSIONS_BEFORE, *embeddings.shape)
    centred = embeddings.astype(np.float64)
    found: NDArray[np.float64] = PCA(size, random_state=seed % 2**32).fit_transform(centred)
    return found


def _plane(components: NDArray[np.float64]) -> NDArray[np.float64]:
    missing = max(0, 2 - components.shape[1])
    return np.pad(components[:, :2], ((0, 0), (0, missing)))


def _tsne(
    components: NDArray[np.float64], seed: int, progress: Progress, name: str
) -> NDArray[np.float64]:
    import faiss
    from openTSNE import TSNE, affinity, initialization
    from openTSNE.nearest_neighbors import PrecomputedNeighbors

    num_points = len(components)
    perplexity = min(_PERPLEXITY, (num_points - 1) / 3)
    narrow = np.ascontiguousarray(components, dtype=np.float32)
    squared, neighbours = faiss.knn(narrow, narrow, min(num_points, int(3 * perplexity) + 1))
    # Each is its own nearest neighbour; among duplicates it does not matter which is dropped.
    nearest = PrecomputedNeighbors(neighbours[:, 1:], np.sqrt(np.maximum(squared[:, 1:], 0)))
    weights = affinity.PerplexityBasedNN(knn_index=nearest, perplexity=perplexity)
    done = 0

    def report(*_: object) -> None:
        nonlocal done
        done += _ITERATIONS_BETWEEN_REPORTS
        progress(name, min(done, _ITERATIONS), _ITERATIONS)

    solver = TSNE(
        perplexity=perplexity,
        random_state=seed % 2**32,
        n_jobs=1,
        callbacks=report,
        callbacks_every_iters=_ITERATIONS_BETWEEN_REPORTS,
    )
    start = initialization.rescale(_plane(components))
    found = solver.fit(affinities=weights, initialization=start)
    progress(name, _ITERATIONS, _ITERATIONS)
    return np.asarray(found, dtype=np.float64)
