"""Letterboxing as tensor algebra, so that an exported graph takes images of any size.

:func:`mlcore.data.images.letterbox` resizes bytes with torch's own kernel. Exported as it is,
that kernel becomes ONNX's ``Resize``, which rounds otherwise: up to 11 grey levels, and 2e-3 in
an embedding. Bilinear resampling is linear in each axis, so it is written here as two matrix
products with torch's integer weights, and every pixel is the same.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Letterbox(nn.Module):
    """Images of any one size to images of a fixed size, as ``mlcore.data.images.letterbox``.

    Without branches and loops over sizes, so that height and width stay dynamic in a graph.

    Args:
        height: Of the result, in pixels.
        width: Of the result, in pixels.
    """

    def __init__(self, height: int, width: int) -> None:
        super().__init__()
        self.height = height
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        """Letterbox uint8 ``(B, 3, H, W)`` to uint8 ``(B, 3, height, width)``."""
        # Sizes as tensors: a graph must not decide anything when it is exported.
        rows, columns = (images.new_ones(images.shape[axis]).double() for axis in (2, 3))
        old_height, old_width = rows.sum(), columns.sum()
        scale = torch.minimum(self.height / old_height, self.width / old_width)
        # An image of the right aspect, to a pixel, is stretched: see images.fits.
        gap = torch.maximum(self.height - old_height * scale, self.width - old_width * scale)
        new_height = torch.where(
            gap < 1, self.height, (old_height * scale).round().clamp(min=1)
        )
        new_width = torch.where(gap < 1, self.width, (old_width * scale).round().clamp(min=1))
        down, filled_rows = _resampling(rows, new_height, self.height)
        across, filled_columns = _resampling(columns, new_width, self.width)
        narrow = _resample(images.float(), across)
        resized = _resample(narrow.transpose(2, 3), down).transpose(2, 3)
        # Whole numbers below 2**53, so that the sum is exact in any order.
        total = images.double().sum(dim=(2, 3), keepdim=True).float()
        mean = (total / (old_height * old_width).float()).round()
        filled = filled_rows[:, None] & filled_columns
        return torch.where(filled, resized, mean).to(torch.uint8)


def _resampling(pixels: Tensor, new_size: Tensor, room: int) -> tuple[Tensor, Tensor]:
    """Return antialiased bilinear weights into a strip that is centred in a larger one.

    Args:
        pixels: ``(n,)`` ones, the pixels along one axis.
        new_size: Scalar ``m``, pixels that they become.
        room: ``r >= m``, pixels of the result, of which ``m`` in the middle are filled.

    Returns:
        Weights ``(r, n)``, rows adding up to 1, and which rows are filled ``(r,)``.
    """
    scale = pixels.sum() / new_size
    first = torch.div(room - new_size, 2, rounding_mode="floor")
    row = torch.arange(room, device=pixels.device).double() - first
    centre = (row + 0.5) * scale
    source = torch.cumsum(pixels, dim=0) - 0.5
    # The triangle reaches one pixel where the image grows, and `scale` pixels where it shrinks.
    reach = scale.clamp(min=1.0)
    weights = (1.0 - (source - centre[:, None]).abs() / reach).clamp(min=0.0)
    filled = (row >= 0) & (row < new_size)
    # Rows outside are not used; a sum of 0 there must not become NaN.
    total = torch.where(filled, weights.sum(dim=1), 1.0)
    return weights / total[:, None] * filled[:, None], filled


def _resample(pixels: Tensor, weights: Tensor) -> Tensor:
    """Apply weights ``(w', w)`` to the last axis of ``pixels``, with torch's integer rounding.

    Torch resamples bytes in integers (``upsample_bilinear2d_aa``): each weight is rounded to a
    multiple of ``2**-p``, where p is the largest precision, 22 at most, at which the largest
    weight plus half a unit stays below ``2**15`` units; the sum is rounded half up. Weights
    add up to 1, so that a sum is about ``255 * 2**22`` at most: float64 holds it exactly, in
    any order of summation.
    """
    precision = (torch.ceil(torch.log2(32767.5 / weights.max())) - 1).clamp(max=22)
    unit = torch.exp2(precision)
    whole = torch.floor(weights * unit + 0.5)
    total = pixels.double() @ whole.T
    return torch.floor((total + unit / 2) / unit).clamp(0, 255).float()
