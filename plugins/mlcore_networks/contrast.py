"""Input normalisation that leaves little of exposure, haze and time of day."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

_NOISE = 0.03
"""Eight grey levels of 255: contrast and colour well below it are noise of the camera."""

_CHROMA_GAIN = 3.0
"""Brings the colours of a street to about the spread of its contrast."""


class ContrastNormalisation(nn.Module):
    """What a place keeps from day to night: local structure, and colour without its light.

    Channel 0 is grey less its mean in a window, over its standard deviation there.
    Channels 1 and 2 are the logarithms of red and blue over green, less their means over
    the image: a light that is dimmer, or of another colour, adds a constant to a logarithm
    and so changes nothing. Both fade to zero where the image is darker than its noise.
    """

    num_channels = 3

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(B, 3, H, W)`` in [0, 1] to ``(B, 3, H, W)``."""
        grey = images.mean(1, keepdim=True)
        centred = grey - _window_mean(grey)
        structure = centred / (_window_mean(centred.square()).sqrt() + _NOISE)
        logarithm = (images + _NOISE).log()
        chroma = logarithm[:, ::2] - logarithm[:, 1:2]
        chroma = _CHROMA_GAIN * (chroma - chroma.mean((2, 3), keepdim=True))
        return torch.cat([structure, chroma], dim=1)


def _window_mean(image: Tensor) -> Tensor:
    """Return means over a window of about a third of the height, from a coarse grid.

    A pixel's exact window would cost more than the convolutions that follow.
    """
    step = max(1, image.shape[2] // 12)
    coarse = avg_pool2d(image, 2 * step + 1, step, step, count_include_pad=False)
    coarse = avg_pool2d(coarse, 3, 1, 1, count_include_pad=False)
    return interpolate(coarse, size=image.shape[2:], mode="bilinear")
