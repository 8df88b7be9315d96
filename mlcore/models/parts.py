"""The two parts of a network: images to local features, and these to one vector.

Shapes: ``B`` images, ``H`` x ``W`` pixels, ``C`` channels of ``h`` x ``w`` local features,
``D`` dimensions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from mlcore.protocols import Features, FeatureShape


class Backbone(nn.Module, ABC):
    """Maps images to local features, and to a class token where it has one.

    Attributes:
        num_channels: ``C``.
        has_token: Whether :attr:`Features.token` is there.
        patch_size: Side of a patch in pixels; 1 for convolutions.
        input_size_px: Recommended height and width of images; None where any will do.
        normalisation: Maps images in [0, 1] to what the layers were made for; ``forward``
            applies it.
    """

    num_channels: int
    has_token: bool = False
    patch_size: int = 1
    input_size_px: tuple[int, int] | None = None
    normalisation: nn.Module

    @abstractmethod
    def forward(self, images: Tensor) -> Features:
        """Return the features of images ``(B, 3, H, W)`` in [0, 1]."""

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The blocks that are trained or frozen one by one, from first to last.

        A parameter outside all of them belongs to the block that is registered before it, or
        before the first one to the stem.
        """
        return ()

    @property
    def explained(self) -> nn.Module | None:
        """The layer whose output ``(B, C, h, w)`` Grad-CAM explains; None for the features."""
        return None

    @property
    def published(self) -> nn.Module:
        """The module whose parameter names are those of published weights."""
        return self

    def convert(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return published weights under the names and shapes of :attr:`published`."""
        return state

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next((p.dtype for p in self.parameters()), torch.float32)

    def feature_shape(self, input_size_px: tuple[int, int] | None = None) -> FeatureShape:
        """Return the shape of the features, with height and width if the input's are given."""
        height, width = 0, 0
        if input_size_px is not None:
            was_training = self.training
            with torch.inference_mode():
                maps = self.eval()(torch.zeros((1, 3, *input_size_px), dtype=self.dtype)).maps
            self.train(was_training)
            height, width = maps.shape[2:]
        return FeatureShape(
            num_channels=self.num_channels,
            has_token=self.has_token,
            height=height,
            width=width,
        )


class Pooling(nn.Module, ABC):
    """Maps features to one vector per image.

    Attributes:
        output_dim: ``D``.
        needs_initialisation: Whether :meth:`initialise` does anything.
    """

    output_dim: int
    needs_initialisation: bool = False

    @abstractmethod
    def forward(self, features: Features) -> Tensor:
        """Return ``(B, D)``."""

    def initialise(self, batches: Iterable[Features]) -> None:
        """Fit what is fitted to the features of training images; nothing for most poolings."""


class ColourNormalisation(nn.Module):
    """Subtracts a mean and divides by a standard deviation, by colour channel.

    Args:
        mean: Of images in [0, 1], red, green and blue; ImageNet's by default.
        std: Likewise.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        mean: Sequence[float] = (0.485, 0.456, 0.406),
        std: Sequence[float] = (0.229, 0.224, 0.225),
    ) -> None:
        super().__init__()
        for name, value in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(value).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(B, 3, H, W)``."""
        return (images - self.mean) / self.std
