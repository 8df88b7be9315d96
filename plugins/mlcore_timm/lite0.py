"""EfficientNet-Lite0 as timm has it, with the names of the weights that a package brings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from mlcore.models import ColourNormalisation
from mlcore_timm.backbones import TimmBackbone, create, stage_of

NAME = "tf_efficientnet_lite0"

_MEAN, _STD = 127 / 255, 128 / 255
"""The weights were trained on ``(255 x - 127) / 128`` of images x in [0, 1]."""

_OUTER = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
_FIRST_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
_BLOCK = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
_BLOCKS_PER_STAGE = (1, 2, 2, 3, 3, 4, 1)


def lite0_backbone(stride: int) -> Lite0Backbone:
    """Return the backbone with random weights, its features at a stride in pixels."""
    network = create(NAME)
    return Lite0Backbone(network, name=NAME, stage=stage_of(network, NAME, stride))


class Lite0Backbone(TimmBackbone):
    """EfficientNet-Lite0 for weights with names like ``_blocks.0._bn1.weight``.

    Args:
        network: timm's model.
        name: Its name.
        stage: Number of the stage that the features are from.
    """

    def __init__(self, network: Any, *, name: str, stage: int) -> None:
        super().__init__(network, name=name, stage=stage)
        self.normalisation = ColourNormalisation((_MEAN,) * 3, (_STD,) * 3)

    def convert(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the weights in timm's names; those that have them already stay."""
        return {timm_name(name): tensor for name, tensor in state.items()}


def timm_name(name: str) -> str:
    """Return timm's name of a tensor of the package, or the name as it is."""
    first, _, rest = name.partition(".")
    if first == "_fc":
        return f"classifier.{rest}"
    if first != "_blocks":
        return f"{_OUTER.get(first, first)}.{rest}"
    number, layer, tensor = rest.split(".", 2)
    stage, within = 0, int(number)
    while within >= _BLOCKS_PER_STAGE[stage]:
        within -= _BLOCKS_PER_STAGE[stage]
        stage += 1
    names = _FIRST_BLOCK if stage == 0 else _BLOCK
    return f"blocks.{stage}.{within}.{names[layer]}.{tensor}"
