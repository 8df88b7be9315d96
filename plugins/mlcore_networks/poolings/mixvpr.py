"""MixVPR: the maps as vectors, mixed by perceptrons."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import normalize

from mlcore import Features
from mlcore.models import Pooling


class MixVpr(Pooling):
    """Mixes the places of each channel's map, then projects channels and places.

    Ali-bey, Chaib-draa, Giguere, MixVPR: Feature Mixing for Visual Place Recognition, WACV
    2023, equations 2 to 5. With each map as a vector x of ``h w`` numbers: ``depth`` times
    ``x + W2 relu(W1 LayerNorm(x))``, a linear layer over channels, another over places.

    Args:
        num_channels: ``C``.
        num_places: ``h w``, of all images.
        channels: ``C'`` after the linear layer over channels.
        rows: Numbers left of each map.
        depth: Mixing layers.
        hidden: Size of their hidden vectors.
    """

    def __init__(
        self,
        num_channels: int,
        num_places: int,
        *,
        channels: int,
        rows: int,
        depth: int,
        hidden: int,
    ) -> None:
        super().__init__()
        self.output_dim = channels * rows
        self.mixers = nn.ModuleList(
            nn.Sequential(
                nn.LayerNorm(num_places),
                nn.Linear(num_places, hidden),
                nn.ReLU(),
                nn.Linear(hidden, num_places),
            )
            for _ in range(depth)
        )
        self.channels = nn.Linear(num_channels, channels)
        self.places = nn.Linear(num_places, rows)

    def forward(self, features: Features) -> Tensor:
        """Return ``(B, channels * rows)`` of unit length."""
        mixed = features.maps.flatten(2)  # (B, C, hw)
        for mixer in self.mixers:
            mixed = mixed + mixer(mixed)
        projected = self.channels(mixed.transpose(1, 2))  # (B, hw, C')
        return normalize(self.places(projected.transpose(1, 2)).flatten(1), dim=1)
