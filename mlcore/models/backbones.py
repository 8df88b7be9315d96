"""Backbones: images in [0, 1] in, local features ``(B, C, h, w)`` out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlcore.models.contrast import ContrastNormalisation
from mlcore.models.weights import load_weights

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


class Backbone(nn.Module):
    """Input normalisation followed by convolutions.

    Args:
        normalisation: Maps images ``(B, 3, H, W)`` in [0, 1] to the input of ``layers``.
        layers: The convolutions.
        last_conv: Name in ``layers`` of the layer that Grad-CAM explains.
        num_channels: ``C`` of the output.
    """

    def __init__(
        self, normalisation: nn.Module, layers: nn.Module, *, last_conv: str, num_channels: int
    ) -> None:
        super().__init__()
        self.normalisation = normalisation
        self.layers = layers
        self.num_channels = num_channels
        self._last_conv = last_conv

    @property
    def last_conv(self) -> nn.Module:
        """The layer that Grad-CAM explains."""
        return self.layers.get_submodule(self._last_conv)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights."""
        return next(self.parameters()).dtype

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(B, C, h, w)``."""
        features: Tensor = self.layers(self.normalisation(images))
        return features


class ColourNormalisation(nn.Module):
    """Subtracts a mean and divides by a standard deviation, by colour channel."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Return ``(B, 3, H, W)``."""
        return (images - self.mean) / self.std


def small_cnn(width: int) -> Backbone:
    """Return five convolutions at strides 2, 4, 8, 8, 8, for training on a CPU.

    Group norm instead of batch norm: an embedding depends on its image alone, in training
    as in retrieval, and a batch that is one scene over and over does no harm. SiLU and the
    last norm keep channels alive: with ReLU and without that norm, half of them end below
    zero at every place of every image, where generalised-mean pooling has no gradient.

    Args:
        width: Channels of the first layer, a multiple of 8.
    """
    normalisation = ContrastNormalisation()
    layers = nn.Sequential(
        *_convolution(normalisation.num_channels, width, kernel_size=5, stride=2),
        *_convolution(width, 2 * width, stride=2),
        *_convolution(2 * width, 4 * width, stride=2),
        *_convolution(4 * width, 4 * width),
        nn.Conv2d(4 * width, 4 * width, 3, padding=1, bias=False),
        nn.GroupNorm(8, 4 * width),
    )
    return Backbone(
        normalisation, layers, last_conv=str(len(layers) - 2), num_channels=4 * width
    )


def _convolution(
    num_in: int, num_out: int, *, kernel_size: int = 3, stride: int = 1
) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(num_in, num_out, kernel_size, stride, kernel_size // 2, bias=False),
        nn.GroupNorm(8, num_out),
        nn.SiLU(inplace=True),
    )


def torchvision_backbone(name: str, pretrained: str) -> Backbone:
    """Return a network of torchvision up to its last convolution.

    VGG16 ends at conv5_3 *before* its ReLU and pooling, as NetVLAD crops it; a ResNet at
    the output of its last block, whose values are all positive.

    Args:
        name: resnet18, resnet50 or vgg16.
        pretrained: "imagenet", "none" or the path of a state dictionary.

    Raises:
        DataError: The weights cannot be had, or belong to another network.
    """
    layers, last_conv, num_channels = _vgg16() if name == "vgg16" else _resnet(name)
    if pretrained != "none":
        load_weights(layers, name, pretrained)
    normalisation = ColourNormalisation(_IMAGENET_MEAN, _IMAGENET_STD)
    return Backbone(normalisation, layers, last_conv=last_conv, num_channels=num_channels)


def _vgg16() -> tuple[nn.Module, str, int]:
    from torchvision.models.vgg import cfgs, make_layers

    convolutions = make_layers(cfgs["D"])[:-2]  # less the last ReLU and pooling
    for layer in convolutions:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    last = len(convolutions) - 1
    layers = nn.Sequential()
    layers.add_module("features", convolutions)
    return layers, f"features.{last}", int(convolutions[last].out_channels)


def _resnet(name: str) -> tuple[nn.Module, str, int]:
    from torchvision.models import get_model

    network = get_model(name, weights=None)
    num_channels = int(network.fc.in_features)
    layers = nn.Sequential()
    for part, module in network.named_children():
        if part not in ("avgpool", "fc"):
            layers.add_module(part, module)
    return layers, f"layer4.{len(network.layer4) - 1}", num_channels
