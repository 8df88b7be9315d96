"""Embedding models: images in, one vector an image out.

Shapes: ``B`` images, ``H`` x ``W`` pixels, ``C`` channels of ``h`` x ``w`` local features,
``D`` embedding dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from mlcore.models.backbones import Backbone
from mlcore.models.pooling import NetVlad


class EmbeddingModel(nn.Module, ABC):
    """Maps images to vectors whose Euclidean distance says whether they show one place.

    Attributes:
        embedding_dim: ``D``.
        normalize: Whether embeddings are scaled to unit length, in training and in
            retrieval. The engine sets it from the loss; True until then.
        allows_whitening: Whether PCA whitening may follow; not for the pixel baseline.
        needs_initialisation: Whether :meth:`initialise` does anything.
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

    def initialise(self, images: Iterable[Tensor]) -> None:
        """Fit what is fitted to data before training; does nothing for most models.

        Args:
            images: Batches ``(B, 3, H, W)`` of training images, as for ``forward``.
        """


class ConvolutionalModel(EmbeddingModel):
    """A backbone, a pooling and an optional linear projection.

    Args:
        backbone: Turns images in [0, 1] into local features ``(B, C, h, w)``.
        pooling: Turns these into ``(B, D')``; its ``output_dim`` is ``D'``.
        embedding_dim: ``D`` of the projection; None leaves it out.

    Attributes:
        last_conv: The layer whose output is explained by Grad-CAM.
    """

    def __init__(
        self, backbone: Backbone, pooling: nn.Module, embedding_dim: int | None
    ) -> None:
        super().__init__()
        pooled_dim = int(pooling.output_dim)  # type: ignore[arg-type]
        self.backbone = backbone
        self.pooling = pooling
        self.projection: nn.Module = (
            nn.Identity() if embedding_dim is None else nn.Linear(pooled_dim, embedding_dim)
        )
        self.embedding_dim = embedding_dim or pooled_dim
        self.needs_initialisation = isinstance(pooling, NetVlad)
        self.to(memory_format=torch.channels_last)

    @property
    def last_conv(self) -> nn.Module:
        """The last convolutional layer (ResNet: block), whose output is pooled."""
        return self.backbone.last_conv

    def local_features(self, images: Tensor) -> Tensor:
        """Return the features before pooling, ``(B, C, h, w)``."""
        images = _to_unit_range(images, self.backbone.dtype)
        features: Tensor = self.backbone(images.contiguous(memory_format=torch.channels_last))
        return features

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings ``(B, D)`` of any length."""
        features = self.local_features(images)
        with torch.autocast(features.device.type, enabled=False):
            # Powers and norms lose too much in 16 bits.
            embeddings: Tensor = self.projection(self.pooling(features.to(self.backbone.dtype)))
        return embeddings

    def initialise(self, images: Iterable[Tensor]) -> None:
        """Cluster local features of ``images`` into the words of NetVLAD.

        Raises:
            DataError: There are fewer local features than words.
        """
        if not isinstance(self.pooling, NetVlad):
            return
        device = next(self.parameters()).device
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            self.pooling.initialise(self.local_features(batch.to(device)) for batch in images)
        self.train(was_training)


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
        grey = (_to_unit_range(images, self.luma.dtype) * self.luma).sum(1, keepdim=True)
        small = interpolate(grey, self._size, mode="bilinear", antialias=True).flatten(1)
        centred = small - small.mean(1, keepdim=True)
        length = centred.norm(dim=1, keepdim=True)
        # Rounding gives a flat image a length of 1e-6; one grey level somewhere gives 4e-3.
        return torch.where(length > 1e-3, centred / length, 0.0)


def _to_unit_range(images: Tensor, dtype: torch.dtype) -> Tensor:
    scale = 1.0 if images.is_floating_point() else 1.0 / 255.0
    return images.to(dtype) * scale
