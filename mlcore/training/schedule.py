"""The learning rate over a run."""

from __future__ import annotations

import math
from collections.abc import Callable

from mlcore.options.engine import TrainingOptions


def learning_rate_factor(
    options: TrainingOptions, steps_per_epoch: int
) -> Callable[[int], float]:
    """Return the factor on the peak learning rate as a function of the step."""

    def factor(step: int) -> float:
        warmup = min(1.0, (step + 1) / options.warmup_steps) if options.warmup_steps else 1.0
        if options.schedule == "cosine":
            return warmup * 0.5 * (1 + math.cos(math.pi * min(1.0, step / options.max_steps)))
        if options.schedule == "halve-each-epoch":
            return float(warmup * 0.5 ** (step // steps_per_epoch))
        return warmup

    return factor
