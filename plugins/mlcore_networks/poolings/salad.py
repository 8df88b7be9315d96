"""SALAD: features assigned to clusters by optimal transport."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mlcore import ConfigError, Features
from mlcore.models import Pooling

_ROUNDS = 3


class Salad(Pooling):
    """Features assigned to clusters or a dustbin by transport, summed by cluster.

    Izquierdo and Civera, Optimal Transport Aggregation for Visual Place Recognition, CVPR
    2024, equations 3 to 8. Deviations: no dropout; without a class token its part is left
    out.

    Args:
        num_channels: ``C``.
        num_clusters: ``m``.
        channels: ``l``, dimensions of each cluster's vector.
        token_dim: Dimensions of the class token's part; 0 where there is none.
        hidden: Hidden channels of the perceptrons.
    """

    def __init__(
        self,
        num_channels: int,
        *,
        num_clusters: int,
        channels: int,
        token_dim: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self._num_clusters = num_clusters
        self.output_dim = token_dim + num_clusters * channels
        self.scores = _perceptron(num_channels, hidden, num_clusters)
        self.local = _perceptron(num_channels, hidden, channels)
        self.token = _perceptron(num_channels, hidden, token_dim) if token_dim else None
        self.dustbin = nn.Parameter(torch.tensor(1.0))

    def forward(self, features: Features) -> Tensor:
        """Return ``(B, token_dim + m * l)`` of unit length.

        Raises:
            ConfigError: There are no more features than clusters.
        """
        height, width = features.maps.shape[2:]
        require_more_features(height, width, self._num_clusters)
        places = features.maps.flatten(2).transpose(1, 2)  # (B, n, C)
        scores = self.scores(places).transpose(1, 2)  # (B, m, n)
        dustbin = self.dustbin.expand(scores.shape[0], 1, scores.shape[2])
        assigned = transport(torch.cat([scores, dustbin], dim=1))[:, :-1]
        parts = [normalize(assigned @ self.local(places), dim=2).flatten(1)]
        if self.token is not None:
            assert features.token is not None, "the backbone says that it has one"
            parts.insert(0, normalize(self.token(features.token), dim=1))
        return normalize(torch.cat(parts, dim=1), dim=1)


def transport(scores: Tensor) -> Tensor:
    """Return the assignment ``(B, m + 1, n)`` of places (columns) to clusters and dustbin.

    Log-Sinkhorn: rows are scaled to sum to 1, the dustbin (last) to ``n - m``, then columns
    to 1, three times.
    """
    num_rows, num_places = scores.shape[1:]
    masses = scores.new_zeros(num_rows)
    masses[-1] = math.log(num_places - (num_rows - 1))
    columns = scores.new_zeros((scores.shape[0], 1, num_places))
    rows = columns
    for _ in range(_ROUNDS):
        rows = masses[:, None] - torch.logsumexp(scores + columns, dim=2, keepdim=True)
        columns = -torch.logsumexp(scores + rows, dim=1, keepdim=True)
    return (scores + rows + columns).exp()


def require_more_features(height: int, width: int, num_clusters: int) -> None:
    """Raise ConfigError unless there are more places than clusters: the dustbin's mass."""
    if height * width <= num_clusters:
        raise ConfigError(
            f"pooling 'salad' needs more local features than clusters, but {height} x {width} "
            f"features do not exceed {num_clusters} clusters; use larger images "
            "(--model.longest_side_px or --model.input_height_px) or fewer "
            "--pooling.num_clusters"
        )


def _perceptron(num_in: int, hidden: int, num_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(num_in, hidden), nn.ReLU(), nn.Linear(hidden, num_out))
