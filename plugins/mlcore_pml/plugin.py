"""What the plugin ``pml`` provides."""

from __future__ import annotations

from mlcore import LossFactory, MinerFactory, hookimpl
from mlcore_pml import (
    anchor_losses,
    label_losses,
    miners,
    pair_losses,
    place_losses,
    triplet_losses,
)

mlcore_hook_api = 1


@hookimpl
def mlcore_losses() -> list[LossFactory]:
    """Return PML's losses."""
    return [
        *pair_losses.LOSSES,
        *triplet_losses.LOSSES,
        *anchor_losses.LOSSES,
        *label_losses.LOSSES,
        *place_losses.LOSSES,
    ]


@hookimpl
def mlcore_miners() -> list[MinerFactory]:
    """Return PML's miners."""
    return list(miners.MINERS)
