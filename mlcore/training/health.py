"""Warns during training if nothing is being learned."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl

from mlcore.training.task import EmbeddingTask

Warn = Callable[[str], None]

CONSTANT_STEPS = 100
"""Steps with the same loss after which the user is warned.

Batches differ from step to step, and so does a loss that learns, far beyond rounding.
"""

COLLAPSED_STEPS = 20
"""Steps with identical embeddings after which the user is warned."""

_SAME_LOSS = 1e-6
_ONE_POINT = 1e-3
"""Relative spread below which embeddings count as one point: float32 resolves 1e-7, images
of one place taken twice by an untrained network are 1e-2 apart."""


class Health(pl.Callback):
    """Warns once of each fault, and again at the end if it still holds.

    A loss of 0 on every batch (a margin that nothing violates, or that is not a number), and a
    network that maps every image to one point, cause no error otherwise.

    Args:
        warn: Receives each warning.
    """

    def __init__(self, warn: Warn) -> None:
        self._warn = warn
        self._losses: deque[float] = deque(maxlen=CONSTANT_STEPS)
        self._num_collapsed = 0
        self._warned: set[str] = set()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        """Look at the step's loss and embeddings."""
        assert isinstance(pl_module, EmbeddingTask)
        if not pl_module.completes_step:
            return
        self._losses.append(float(pl_module.row["loss"]))
        collapsed = pl_module.spread < _ONE_POINT
        self._num_collapsed = self._num_collapsed + 1 if collapsed else 0
        faults = self.faults()
        for name in faults.keys() - self._warned:
            self._warn(f"step {trainer.global_step}: {faults[name]}")
        self._warned = set(faults)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Repeat the warnings that still hold."""
        for fault in self.faults().values():
            self._warn(f"at the end of training, {fault}")

    def faults(self) -> dict[str, str]:
        """Return the current faults by a short name."""
        faults = {}
        low, high = min(self._losses, default=0.0), max(self._losses, default=math.inf)
        constant = high - low <= _SAME_LOSS * max(abs(low), abs(high))
        if len(self._losses) == CONSTANT_STEPS and constant:
            faults["constant loss"] = (
                f"the loss has been {high:.6g} for {CONSTANT_STEPS} steps: nothing is learned. "
                "Check the margins and radii of the loss and --training.learning_rate"
            )
        if self._num_collapsed >= COLLAPSED_STEPS:
            faults["collapse"] = (
                f"all embeddings of a batch have been identical for {self._num_collapsed} "
                "steps: the network has collapsed to a point and cannot distinguish places. "
                "Try a smaller --training.learning_rate or another loss"
            )
        return faults
