"""Which parts of a backbone are trained, and how deep each parameter lies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from mlcore.errors import ConfigError
from mlcore.models.parts import Backbone


def depths(backbone: Backbone) -> Mapping[str, int]:
    """Return the number of the block of each parameter, by name: 1 for the first, 0 the stem.

    A parameter outside all blocks belongs to the block that is registered before it.
    """
    numbers = {id(block): number for number, block in enumerate(backbone.blocks, start=1)}
    owner: dict[int, int] = {}
    depth = 0
    for module in backbone.modules():
        depth = numbers.get(id(module), depth)
        for parameter in module.parameters(recurse=False):
            owner.setdefault(id(parameter), depth)
    return {name: owner[id(parameter)] for name, parameter in backbone.named_parameters()}


def train_last(backbone: Backbone, number: int | Literal["none", "all"]) -> None:
    """Freeze a backbone but for its last ``number`` blocks.

    Raises:
        ConfigError: It has fewer blocks.
    """
    if number == "all":
        return
    num_blocks = len(backbone.blocks)
    wanted = 0 if number == "none" else number
    if wanted > num_blocks:
        raise ConfigError(
            f"--model.trainable_blocks {number}: the backbone has {num_blocks} blocks; give "
            f"at most {num_blocks}, or all"
        )
    depth = depths(backbone)
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(depth[name] > num_blocks - wanted)
