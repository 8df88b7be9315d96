"""NetVLAD: residuals of local features to clustered words."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from mlcore import DataError, Features
from mlcore.models import Pooling

_FEATURES_PER_IMAGE = 100
_MOST_FEATURES = 50_000


class NetVlad(Pooling):
    """Residuals of local features to ``K`` words, softly assigned and summed.

    NetVLAD, equation 4: ``V_k = sum_i a_k(x_i) (x_i - c_k)`` with
    ``a(x) = softmax(W x + b)`` over unit local features ``x_i``; each ``V_k`` is
    normalised (intra-normalisation), then their concatenation.

    Args:
        num_channels: ``C`` of the local features.
        num_clusters: ``K``.
        seed: Of the clustering in :meth:`initialise`.
    """

    needs_initialisation = True

    def __init__(self, num_channels: int, num_clusters: int, *, seed: int = 0) -> None:
        super().__init__()
        self.output_dim = num_channels * num_clusters
        self._seed = seed % 2**31
        self.words = nn.Parameter(normalize(torch.randn(num_clusters, num_channels), dim=1))
        self.assignment = nn.Linear(num_channels, num_clusters)

    def forward(self, features: Features) -> Tensor:
        """Return ``(B, K * C)`` of unit length."""
        local = normalize(features.maps.flatten(2).transpose(1, 2), dim=2)  # (B, hw, C)
        weights = self.assignment(local).softmax(dim=2)  # (B, hw, K)
        sums = weights.transpose(1, 2) @ local  # (B, K, C)
        residuals = sums - weights.sum(1).unsqueeze(2) * self.words
        return normalize(normalize(residuals, dim=2).flatten(1), dim=1)

    def initialise(self, batches: Iterable[Features]) -> None:
        """Set words and assignment from clustered local features.

        ``W_k = 2 alpha c_k`` and ``b_k = -alpha |c_k|^2`` make the assignment a softmax
        of ``-alpha |x - c_k|^2``; alpha is such that the nearest word outweighs the second
        nearest 100 to 1 at the mean gap of their squared distances.

        Args:
            batches: Features; up to 100 evenly spaced ones per image and 50,000 in all are
                used.

        Raises:
            DataError: There are fewer local features than words.
        """
        samples = _evenly_spaced_features(batches)
        num_clusters = len(self.words)
        if len(samples) < num_clusters:
            raise DataError(
                f"NetVLAD needs at least {num_clusters} local features to start from, but the "
                f"training images gave {len(samples)}; lower num_clusters "
                "(--model.num_clusters or --pooling.num_clusters)"
            )
        words, squared_distances = _cluster(samples, num_clusters, self._seed)
        gap = float(np.mean(squared_distances[:, -1] - squared_distances[:, 0]))
        alpha = math.log(100.0) / max(gap, 1e-6)
        with torch.no_grad():
            self.words.copy_(torch.from_numpy(words))
            self.assignment.weight.copy_(2 * alpha * self.words)
            self.assignment.bias.copy_(-alpha * self.words.square().sum(1))


def _evenly_spaced_features(batches: Iterable[Features]) -> NDArray[np.float32]:
    """Return unit local features ``(N, C)``."""
    kept: list[NDArray[np.float32]] = []
    num_kept = 0
    for features in batches:
        local = normalize(features.maps.flatten(2).transpose(1, 2).float(), dim=2)
        places = torch.linspace(
            0, local.shape[1] - 1, min(_FEATURES_PER_IMAGE, local.shape[1]), device=local.device
        )
        kept.append(local[:, places.round().long()].flatten(0, 1).cpu().numpy())
        num_kept += len(kept[-1])
        if num_kept >= _MOST_FEATURES:
            break
    if not kept:
        raise DataError("NetVLAD got no image to start from")
    return np.concatenate(kept)[:_MOST_FEATURES]


def _cluster(
    samples: NDArray[np.float32], num_clusters: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return words ``(K, C)`` and squared distances ``(N, 2)`` to the nearest two."""
    import faiss

    kmeans = faiss.Kmeans(
        samples.shape[1], num_clusters, niter=20, seed=seed, min_points_per_centroid=1
    )
    kmeans.train(samples)
    words = np.asarray(kmeans.centroids, dtype=np.float32)
    squared_distances, _ = faiss.knn(samples, words, min(2, num_clusters))
    return words, squared_distances
