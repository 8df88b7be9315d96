"""Poolings: local features ``(B, C, h, w)`` in, one vector an image ``(B, output_dim)`` out."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import normalize

from mlcore.errors import ConfigError, DataError

_FEATURES_PER_IMAGE = 100
_MOST_FEATURES = 50_000


def build_pooling(name: str, num_channels: int, num_clusters: int, seed: int) -> nn.Module:
    """Return the pooling called ``name``: average, gem or netvlad.

    Raises:
        ConfigError: There is no such pooling.
    """
    if name == "average":
        return AveragePooling(num_channels)
    if name == "gem":
        return GemPooling(num_channels)
    if name == "netvlad":
        return NetVlad(num_channels, num_clusters, seed=seed)
    raise ConfigError(f"unknown pooling {name!r}; known: average, gem, netvlad")


class AveragePooling(nn.Module):
    """The mean over all places of the feature map."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.output_dim = num_channels

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, C)``."""
        return features.mean((2, 3))


class GemPooling(nn.Module):
    """Generalised mean with one learned exponent: ``(mean x^p)^(1/p)``.

    Radenovic, Tolias, Chum, Fine-tuning CNN Image Retrieval with No Human Annotation,
    TPAMI 2019, equation 3. Deviation: p stays in [1, 8], and features below 1e-4 count as
    1e-4, so that neither value nor gradient leaves the range of float32.
    """

    def __init__(self, num_channels: int, initial_exponent: float = 3.0) -> None:
        super().__init__()
        self.output_dim = num_channels
        self.exponent = nn.Parameter(torch.tensor(initial_exponent))

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, C)``, positive."""
        exponent = self.exponent.clamp(1.0, 8.0)
        powers = features.clamp(min=1e-4).pow(exponent)
        return powers.mean((2, 3)).pow(1.0 / exponent)


class NetVlad(nn.Module):
    """Residuals of local features to ``K`` words, softly assigned and summed.

    NetVLAD, equation 4: ``V_k = sum_i a_k(x_i) (x_i - c_k)`` with
    ``a(x) = softmax(W x + b)`` over unit local features ``x_i``; each ``V_k`` is
    normalised (intra-normalisation), then their concatenation.

    Args:
        num_channels: ``C`` of the local features.
        num_clusters: ``K``.
        seed: Of the clustering in :meth:`initialise`.
    """

    def __init__(self, num_channels: int, num_clusters: int, *, seed: int = 0) -> None:
        super().__init__()
        self.output_dim = num_channels * num_clusters
        self._seed = seed % 2**31
        self.words = nn.Parameter(normalize(torch.randn(num_clusters, num_channels), dim=1))
        self.assignment = nn.Linear(num_channels, num_clusters)

    def forward(self, features: Tensor) -> Tensor:
        """Return ``(B, K * C)`` of unit length."""
        local = normalize(features.flatten(2).transpose(1, 2), dim=2)  # (B, hw, C)
        weights = self.assignment(local).softmax(dim=2)  # (B, hw, K)
        sums = weights.transpose(1, 2) @ local  # (B, K, C)
        residuals = sums - weights.sum(1).unsqueeze(2) * self.words
        return normalize(normalize(residuals, dim=2).flatten(1), dim=1)

    def initialise(self, batches: Iterable[Tensor]) -> None:
        """Set words and assignment from clustered local features.

        ``W_k = 2 alpha c_k`` and ``b_k = -alpha |c_k|^2`` make the assignment a softmax
        of ``-alpha |x - c_k|^2``; alpha is such that the nearest word outweighs the second
        nearest 100 to 1 at the mean gap of their squared distances.

        Args:
            batches: Local features ``(B, C, h, w)``; up to 100 evenly spaced ones an image
                and 50,000 in all are used.

        Raises:
            DataError: There are fewer local features than words.
        """
        samples = _evenly_spaced_features(batches)
        num_clusters = len(self.words)
        if len(samples) < num_clusters:
            raise DataError(
                f"NetVLAD needs at least {num_clusters} local features to start from, the "
                f"training images gave {len(samples)}; lower --model.num_clusters"
            )
        words, squared_distances = _cluster(samples, num_clusters, self._seed)
        gap = float(np.mean(squared_distances[:, -1] - squared_distances[:, 0]))
        alpha = math.log(100.0) / max(gap, 1e-6)
        with torch.no_grad():
            self.words.copy_(torch.from_numpy(words))
            self.assignment.weight.copy_(2 * alpha * self.words)
            self.assignment.bias.copy_(-alpha * self.words.square().sum(1))


def _evenly_spaced_features(batches: Iterable[Tensor]) -> NDArray[np.float32]:
    """Return unit local features ``(N, C)``."""
    kept: list[NDArray[np.float32]] = []
    num_kept = 0
    for features in batches:
        local = normalize(features.flatten(2).transpose(1, 2).float(), dim=2)
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
