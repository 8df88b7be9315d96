"""Input normalisation that leaves little of exposure, haze and time of day."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

_SMALLEST_DEVIATION = 0.02  # five grey levels of 255: below it, contrast is noise


class ContrastNormalisation(nn.Module):
    """Grey of zero mean and unit deviation around each pixel, and globally scaled colour.

    Channel 0 is grey less its mean in a window, divided by its standard deviation there:
    what is left is structure, by day as by night. Channels 1 to 3 are the colours, scaled
    to zero mean and unit deviation over the whole image.
    """

    num_channels = 4

    def forward(self, images: Tensor) -> Tensor:
        """Map ``(B, 3, H, W)`` in [0, 1] to ``(B, 4, H, W)``."""
        mean = images.mean((1, 2, 3), keepdim=True)
        deviation = images.var((1, 2, 3), keepdim=True, correction=0).sqrt()
        colour = (images - mean) / deviation.clamp(min=_SMALLEST_DEVIATION)
        grey = images.mean(1, keepdim=True)
        centred = grey - _window_mean(grey)
        local_deviation = _window_mean(centred.square()).sqrt()
        local = centred / local_deviation.clamp(min=_SMALLEST_DEVIATION)
        return torch.cat([local, colour], dim=1)


def _window_mean(image: Tensor) -> Tensor:
    """Return the mean over a square window of about a quarter of the image's height."""
    half = max(1, image.shape[2] // 8)
    side = 2 * half + 1
    rows = avg_pool2d(image, (side, 1), 1, (half, 0), count_include_pad=False)
    return avg_pool2d(rows, (1, side), 1, (0, half), count_include_pad=False)
