"""Options of the backbones of timm; imports neither torch nor timm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mlcore.option_types import AT_LEAST_ONE


@dataclass(frozen=True, kw_only=True)
class TimmConfig:
    """Options of a backbone of timm.

    Attributes:
        model: timm's name of the model, with or without the tag of its weights.
        stride: Pixels from one local feature to the next, for a model with several such
            stages; None takes the last one.
    """

    model: str = "vit_small_patch14_dinov2.lvd142m"
    stride: Annotated[int | None, AT_LEAST_ONE] = None


@dataclass(frozen=True, kw_only=True)
class Lite0Config:
    """Options of EfficientNet-Lite0.

    Attributes:
        stride: Pixels from one local feature to the next: which stage the features are from.
    """

    stride: Literal[4, 8, 16, 32] = 16
