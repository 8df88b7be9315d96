"""Options that embedding models share, and the input size they lead to; no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mlcore.errors import ConfigError
from mlcore.option_types import AT_LEAST_ONE, NOT_NEGATIVE, Range, check_ranges

SMALLEST_INPUT_PX = 32
INPUT_PX = Range(at_least=SMALLEST_INPUT_PX)


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

    input_height_px: Annotated[int | None, INPUT_PX] = None
    input_width_px: Annotated[int | None, INPUT_PX] = None
    longest_side_px: Annotated[int, INPUT_PX] = 240

    def __post_init__(self) -> None:
        check_ranges(self)


@dataclass(frozen=True, kw_only=True)
class PixelConfig(ModelConfig):
    """Options of the pixel baseline.

    Attributes:
        columns: Width of the grey image that is the embedding, in pixels.
        rows: Height of the grey image that is the embedding, in pixels.
    """

    columns: Annotated[int, AT_LEAST_ONE] = 64
    rows: Annotated[int, AT_LEAST_ONE] = 24


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(ModelConfig):
    """What a network of a backbone and a pooling takes.

    Attributes:
        weights: Weights to start from: "none" (random), the name of published weights such
            as "imagenet", a file (.pth, .pt, .safetensors), or the folder of a trained run.
        trainable_blocks: Blocks of the backbone that are trained: all, none, or the last few.
        embedding_dim: Dimensions after a linear projection; None keeps what the pooling
            gives.
        feature_cache_mib: With trainable_blocks none, largest size (MiB) of the features
            that are kept in memory, so that each training image is embedded once; 0: none are
            kept. Augmented images differ at every step, so augment is then off by default.
    """

    weights: str = "none"
    trainable_blocks: Annotated[int | Literal["all", "none"], AT_LEAST_ONE] = "all"
    embedding_dim: Annotated[int | None, AT_LEAST_ONE] = None
    feature_cache_mib: Annotated[int, NOT_NEGATIVE] = 1024


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
