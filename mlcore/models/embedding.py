"""Embedding models: images in, one vector an image out.

Shapes: ``B`` images, ``H`` x ``W`` pixels, ``C`` channels of ``h`` x ``w`` local features,
``D`` embedding dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize


class EmbeddingModel(nn.Module, ABC):
    """Maps images to vectors whose Euclidean distance says whether they show one place.

    Attributes:
        embedding_dim: ``D``.
        normalize: Whether embeddings are scaled to unit length, in training and in
            retrieval. The engine sets it from the loss; True until then.
        allows_whitening: Whether PCA whitening may follow; not for the pixel baseline.
        needs_initialisation: Whether :meth:`initialise` does anything.
        explained: The layer whose output ``(B, C, h, w)`` Grad-CAM explains; None for the
            last convolution.
    """

    embedding_dim: int
    normalize: bool = True
    allows_whitening: bool = True
    needs_initialisation: bool = False

    def forward(self, images: Tensor) -> Tensor:
        """Embed images.

        Args:
            images: ``(B, 3, H, W)`` RGB, uint8, or floating point in [0, 1].

        Returns:
            ``(B, D)``, unit vectors where ``normalize`` is set (a zero vector stays zero).
        """
        embeddings = self.embed(images)
        return normalize(embeddings, dim=1) if self.normalize else embeddings

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings ``(B, D)`` of any length; arguments as for ``forward``."""

    @property
    def explained(self) -> nn.Module | None:
        """The layer that Grad-CAM explains."""
        return None

    def initialise(self, images: Iterable[Tensor]) -> None:
        """Fit what is fitted to data before training; does nothing for most models.

        Args:
            images: Batches ``(B, 3, H, W)`` of training images, as for ``forward``.
        """


def to_unit_range(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Return images as ``dtype`` in [0, 1]."""
    scale = 1.0 if images.is_floating_point() else 1.0 / 255.0
    return images.to(dtype) * scale
