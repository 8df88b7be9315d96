"""Options of the embedding models and the input size they lead to; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mlcore.errors import ConfigError

SMALLEST_INPUT_PX = 32


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What every model takes: the size of its input.

    Attributes:
        input_height_px: Height of the images the model gets; None follows from the aspect
            ratio of the typical training image and the width or longest side.
        input_width_px: Width of the images the model gets; None likewise.
        longest_side_px: Longest side of the input where neither height nor width is
            given; smaller images keep their size.
    """

    input_height_px: int | None = None
    input_width_px: int | None = None
    longest_side_px: int = 240


@dataclass(frozen=True, kw_only=True)
class PixelConfig(ModelConfig):
    """Options of the pixel baseline.

    Attributes:
        columns: Width of the grey image that is the embedding, in pixels.
        rows: Height of the grey image that is the embedding, in pixels.
    """

    columns: int = 64
    rows: int = 24


@dataclass(frozen=True, kw_only=True)
class SmallCnnConfig(ModelConfig):
    """Options of the small network.

    Attributes:
        pooling: How local features become one vector: their average, their generalised
            mean (gem), or their residuals to clustered words (netvlad).
        num_clusters: Words of netvlad.
        embedding_dim: Dimensions after a linear projection; None keeps what the pooling
            gives.
        width: Channels of the first layer, a multiple of 8; the last has four times as
            many.
    """

    pooling: Literal["average", "gem", "netvlad"] = "gem"
    num_clusters: int = 16
    embedding_dim: int | None = 256
    width: int = 16


@dataclass(frozen=True, kw_only=True)
class ResNetConfig(ModelConfig):
    """Options of the networks that start from ImageNet weights.

    Attributes:
        pretrained: Weights to start from: "imagenet" (torchvision's, downloaded once),
            "none" (random), or the path of a torchvision state dictionary.
        pooling: How local features become one vector: their average, their generalised
            mean (gem), or their residuals to clustered words (netvlad).
        num_clusters: Words of netvlad.
        embedding_dim: Dimensions after a linear projection; None keeps what the pooling
            gives.
    """

    pretrained: str = "imagenet"
    pooling: Literal["average", "gem", "netvlad"] = "gem"
    num_clusters: int = 64
    embedding_dim: int | None = None


@dataclass(frozen=True, kw_only=True)
class VggConfig(ResNetConfig):
    """Options of VGG16; pooled by NetVLAD as in the paper unless told otherwise."""

    pooling: Literal["average", "gem", "netvlad"] = "netvlad"


def input_size(config: ModelConfig, image_shape: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width in pixels of the images a model gets.

    One given side sets the other by the aspect ratio of the image; with neither given,
    the image keeps its aspect, its longest side at most ``longest_side_px``.

    Args:
        config: Options of the model.
        image_shape: Height and width in pixels of the typical training image.

    Raises:
        ConfigError: A side is shorter than 32 px.
    """
    image_height, image_width = image_shape
    height, width = config.input_height_px, config.input_width_px
    if height is None and width is None:
        scale = min(1.0, config.longest_side_px / max(image_shape))
        height, width = round(image_height * scale), round(image_width * scale)
    elif height is None:
        height = round(image_height * (width or 0) / image_width)
    elif width is None:
        width = round(image_width * height / image_height)
    if height < SMALLEST_INPUT_PX or (width or 0) < SMALLEST_INPUT_PX:
        raise ConfigError(
            f"model input of {height} x {width} px (height x width) is smaller than "
            f"{SMALLEST_INPUT_PX} px on a side; raise --model.longest_side_px, "
            "--model.input_height_px or --model.input_width_px"
        )
    return height, width or 0
