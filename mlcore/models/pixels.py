"""The baseline without learning, which every run is compared with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from mlcore.models.embedding import EmbeddingModel, to_unit_range


class PixelModel(EmbeddingModel):
    """The baseline without learning: a small grey image of zero mean and unit norm.

    The inner product of two embeddings is the normalised correlation of the images, and
    their Euclidean distance orders references alike. Never whitened.

    Args:
        rows: Height of the grey image in pixels.
        columns: Width of the grey image in pixels.
    """

    allows_whitening = False
    luma: Tensor

    def __init__(self, *, rows: int = 24, columns: int = 64) -> None:
        super().__init__()
        self._size = (rows, columns)
        self.embedding_dim = rows * columns
        luma = torch.tensor([0.299, 0.587, 0.114])  # ITU-R BT.601
        self.register_buffer("luma", luma.view(1, 3, 1, 1), persistent=False)

    def embed(self, images: Tensor) -> Tensor:
        """Return ``(B, rows * columns)``, zero mean and unit norm; 0 for a flat image."""
        grey = (to_unit_range(images, self.luma.dtype) * self.luma).sum(1, keepdim=True)
        small = interpolate(grey, self._size, mode="bilinear", antialias=True).flatten(1)
        centred = small - small.mean(1, keepdim=True)
        length = centred.norm(dim=1, keepdim=True)
        # Rounding gives a flat image a length of 1e-6; one grey level somewhere gives 4e-3.
        return torch.where(length > 1e-3, centred / length, 0.0)
