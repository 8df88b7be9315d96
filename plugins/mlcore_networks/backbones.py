"""The small network for CPUs, and networks of torchvision up to their last convolution."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from mlcore import Features
from mlcore.models import Backbone, ColourNormalisation
from mlcore_networks.contrast import ContrastNormalisation

_VGG16 = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
"""Channels and number of the convolutions between poolings: table 1 D of Simonyan 2015."""


class Convolutions(Backbone):
    """Input normalisation followed by convolutions.

    Args:
        normalisation: Maps images ``(B, 3, H, W)`` in [0, 1] to the input of ``layers``.
        layers: The convolutions.
        blocks: Names in ``layers`` of where each block starts.
        explained: Name in ``layers`` of the layer that Grad-CAM explains.
        num_channels: ``C`` of the output.
    """

    def __init__(
        self,
        normalisation: nn.Module,
        layers: nn.Module,
        *,
        blocks: Sequence[str],
        explained: str,
        num_channels: int,
    ) -> None:
        super().__init__()
        self.normalisation = normalisation
        self.layers = layers
        self.num_channels = num_channels
        self._blocks, self._explained = tuple(blocks), explained

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The layers at which the blocks start."""
        return [self.layers.get_submodule(name) for name in self._blocks]

    @property
    def explained(self) -> nn.Module:
        """The last convolution (ResNet: block)."""
        return self.layers.get_submodule(self._explained)

    @property
    def published(self) -> nn.Module:
        """The layers, named as in torchvision."""
        return self.layers

    def forward(self, images: Tensor) -> Features:
        """Return the features of images in [0, 1]."""
        return Features(self.layers(self.normalisation(images)))


def small_cnn(width: int) -> Convolutions:
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
    convolutions = [name for name, layer in layers.named_children() if hasattr(layer, "stride")]
    return Convolutions(
        normalisation,
        layers,
        blocks=convolutions,
        explained=convolutions[-1],
        num_channels=4 * width,
    )


def _convolution(
    num_in: int, num_out: int, *, kernel_size: int = 3, stride: int = 1
) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(num_in, num_out, kernel_size, stride, kernel_size // 2, bias=False),
        nn.GroupNorm(8, num_out),
        nn.SiLU(inplace=True),
    )


def vgg16() -> Convolutions:
    """Return VGG16 up to conv5_3 *before* its ReLU and pooling, as NetVLAD crops it.

    Its blocks are the five groups of convolutions between poolings. Names and initial weights
    are torchvision's, whose networks take about as long to import as torch itself.
    """
    convolutions: list[nn.Module] = []
    starts = []
    num_in = 3
    for num_out, repeats in _VGG16:
        starts.append(f"features.{len(convolutions)}")
        for _ in range(repeats):
            convolutions += [nn.Conv2d(num_in, num_out, 3, padding=1), nn.ReLU(inplace=True)]
            num_in = num_out
        convolutions.append(nn.MaxPool2d(2))
    del convolutions[-2:]  # the last ReLU and pooling
    for layer in convolutions:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
    layers = nn.Sequential()
    layers.add_module("features", nn.Sequential(*convolutions))
    return Convolutions(
        ColourNormalisation(),
        layers,
        blocks=starts,
        explained=f"features.{len(convolutions) - 1}",
        num_channels=num_in,
    )


def resnet(name: str) -> Convolutions:
    """Return a ResNet of torchvision up to its last block, whose values are all positive.

    Args:
        name: torchvision's: resnet18 or resnet50.
    """
    from torchvision.models import get_model

    network = get_model(name, weights=None)
    layers = nn.Sequential()
    for part, module in network.named_children():
        if part not in ("avgpool", "fc"):
            layers.add_module(part, module)
    blocks = [
        f"{part}.{number}"
        for part in ("layer1", "layer2", "layer3", "layer4")
        for number in range(len(getattr(network, part)))
    ]
    return Convolutions(
        ColourNormalisation(),
        layers,
        blocks=blocks,
        explained=blocks[-1],
        num_channels=int(network.fc.in_features),
    )
