"""Poolings that are means: over the whole map, over cells, of powers; and the class token."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, normalize

from mlcore import Features
from mlcore.models import Pooling


class AveragePooling(Pooling):
    """The mean over all places of the feature map."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.output_dim = num_channels

    def forward(self, features: Features) -> Tensor:
        """Return ``(B, C)``."""
        return features.maps.mean((2, 3))


class GemPooling(Pooling):
    """Generalised mean with one learned exponent: ``(mean x^p)^(1/p)``.

    Radenovic, Tolias, Chum, Fine-tuning CNN Image Retrieval with No Human Annotation,
    TPAMI 2019, equation 3. Deviation: p stays in [1, 8], and features below 1e-4 count as
    1e-4, so that neither value nor gradient leaves the range of float32.
    """

    def __init__(self, num_channels: int, initial_exponent: float = 3.0) -> None:
        super().__init__()
        self.output_dim = num_channels
        self.exponent = nn.Parameter(torch.tensor(initial_exponent))

    def forward(self, features: Features) -> Tensor:
        """Return ``(B, C)``, positive."""
        return generalised_mean(features.maps, self.exponent)


def generalised_mean(maps: Tensor, exponent: Tensor) -> Tensor:
    """Return ``(mean x^p)^(1/p)`` over the places of maps ``(B, C, h, w)``."""
    exponent = exponent.clamp(1.0, 8.0)
    powers = maps.clamp(min=1e-4).pow(exponent)
    return powers.mean((2, 3)).pow(1.0 / exponent)


class GridPooling(Pooling):
    """The means over the cells of a grid, side by side: keeps the layout of the image.

    Cell ``i`` of ``n`` along a side of ``s`` features covers those from ``floor(i s / n)`` up
    to ``ceil((i + 1) s / n)``, so that any size can be divided.

    Args:
        num_channels: ``C``.
        rows: Cells along the height.
        columns: Cells along the width.
    """

    def __init__(self, num_channels: int, *, rows: int, columns: int) -> None:
        super().__init__()
        self._cells = (rows, columns)
        self.output_dim = num_channels * rows * columns

    def forward(self, features: Features) -> Tensor:
        """Return ``(B, C * rows * columns)``."""
        return adaptive_avg_pool2d(features.maps, self._cells).flatten(1)


class TokenPooling(Pooling):
    """The class token."""

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        self.output_dim = num_channels

    def forward(self, features: Features) -> Tensor:
        """Return ``(B, C)``."""
        assert features.token is not None, "the factory's needs say so"
        return features.token


class CosPlace(Pooling):
    """Unit features, their generalised mean, a linear layer, unit length.

    Berton, Masone, Caputo, Rethinking Visual Geo-localization for Large-Scale Applications,
    CVPR 2022, section 3.3.

    Args:
        num_channels: ``C``.
        dimensions: ``D``.
    """

    def __init__(self, num_channels: int, *, dimensions: int) -> None:
        super().__init__()
        self.output_dim = dimensions
        self.exponent = nn.Parameter(torch.tensor(3.0))
        self.linear = nn.Linear(num_channels, dimensions)

    def forward(self, features: Features) -> Tensor:
        """Return ``(B, D)`` of unit length."""
        pooled = generalised_mean(normalize(features.maps, dim=1), self.exponent)
        return normalize(self.linear(pooled), dim=1)


class ConvAp(Pooling):
    """A 1 x 1 convolution, the means over the cells of a grid, unit length.

    Ali-bey, Chaib-draa, Giguere, GSV-Cities: Toward Appropriate Supervised Visual Place
    Recognition, Neurocomputing 2022, section 4.

    Args:
        num_channels: ``C``.
        channels: Channels after the convolution.
        rows: Cells along the height.
        columns: Cells along the width.
    """

    def __init__(self, num_channels: int, *, channels: int, rows: int, columns: int) -> None:
        super().__init__()
        self._cells = (rows, columns)
        self.output_dim = channels * rows * columns
        self.convolution = nn.Conv2d(num_channels, channels, 1)

    def forward(self, features: Features) -> Tensor:
        """Return ``(B, channels * rows * columns)`` of unit length."""
        means = adaptive_avg_pool2d(self.convolution(features.maps), self._cells)
        return normalize(means.flatten(1), dim=1)
