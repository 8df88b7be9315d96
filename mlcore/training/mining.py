"""Run the miner on a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from mlcore.options.config import attribute_errors
from mlcore.protocols import Batch, Pairs, Triplets
from mlcore.training.cross_batch import of_current

if TYPE_CHECKING:
    from mlcore.experiment import Experiment


def mined(
    experiment: Experiment,
    embeddings: Tensor,
    batch: Batch,
    step: int,
    num_current: int | None = None,
) -> Pairs | Triplets | None:
    """Return the tuples of the run's miner, None if it has none.

    Args:
        experiment: The run.
        embeddings: ``(B, D)``, detached.
        batch: Of the same rows.
        step: For the message if the miner fails.
        num_current: Only tuples with one of so many first rows as the anchor; None for all.
    """
    if experiment.miner is None:
        return None
    assert experiment.config.miner is not None
    with attribute_errors(experiment.config.miner, f"failed at step {step}"):
        tuples = experiment.miner(embeddings, batch)
    if isinstance(tuples, Triplets) and experiment.config.loss.factory.accepts is Pairs:
        anchors, positives, negatives = tuples
        tuples = Pairs(anchors, positives, anchors, negatives)
    return tuples if num_current is None else of_current(tuples, num_current)
