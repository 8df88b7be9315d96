"""Options that do nothing with a run's images or its network, which only a built run shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from mlcore.training.gradient_cache import batch_norms, live_batch_norms

if TYPE_CHECKING:
    from mlcore.experiment import Experiment


def unused_options(experiment: Experiment) -> Mapping[str, str]:
    """Return the keys of options that the run does not use, each with the reason."""
    found: dict[str, str] = {}
    images, config = experiment.planner.images, experiment.config
    if images.place is not None:
        found["sampling.place_cell_m"] = "a data set that has places of its own; leave it out"
    if images.headings_rad is None:
        reason = "images without headings; leave it out"
        found["sampling.near_heading_limit_deg"] = reason
    of_one_region = images.region is None or len(np.unique(images.region)) < 2
    if config.sampling.balance == "regions" and of_one_region:
        found["sampling.balance"] = "training images of one region; leave it out"
    learning: list[nn.Module] = [experiment.model.train()]
    learning += [experiment.loss] if isinstance(experiment.loss, nn.Module) else []
    if not any(live_batch_norms(module) for module in learning):
        which = "has no batch norm"
        if any(batch_norms(module) for module in learning):
            which = "keeps the statistics of all its batch norms"
        reason = f"--model {config.model.name}, which {which}; leave it out"
        found["training.batch_norm"] = reason
    return found
