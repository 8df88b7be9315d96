"""The run's loss on fixed batches of the validation split."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from mlcore.errors import DataError
from mlcore.experiment import has_weights
from mlcore.options.config import attribute_errors
from mlcore.options.engine import SamplingOptions
from mlcore.protocols import Batch
from mlcore.retrieval.embedder import Embedder
from mlcore.sampling.schemes import batches_of, planner_of
from mlcore.seeding import derive_seed
from mlcore.training.gradient_cache import kept_generators
from mlcore.training.health import Warn
from mlcore.training.mining import mined

if TYPE_CHECKING:
    from mlcore.experiment import Experiment

_NUM_BATCHES = 16
"""Each image of the split is embedded once, so that this costs at most another validation."""


class ValidationLoss:
    """The mean loss of batches that are the same at every step, so that values compare.

    They are drawn by the run's scheme, at random where the run chooses by embeddings, and
    neither augmented nor compared with past batches.

    Args:
        experiment: The run; its loss has no trained weights.

    Raises:
        DataError: The split is too small for a batch.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        config = experiment.config
        config = replace(config, sampling=_at_random(config.sampling))
        dataset, seed = experiment.dataset, derive_seed(config.seed, "validation loss")
        planner = planner_of(config, dataset, dataset.validation, seed)
        batches = batches_of(config, dataset, planner)
        self._plans = [planner.plan(number) for number in range(_NUM_BATCHES)]
        self._describe = batches.describe
        self._images = planner.images

    @classmethod
    def of(cls, experiment: Experiment, warn: Warn) -> ValidationLoss | None:
        """Return the loss of a run, None if the run has none.

        Args:
            experiment: The run.
            warn: Receives that the validation split is too small for a batch.
        """
        if has_weights(experiment.loss):
            return None  # they belong to the places of the training split
        try:
            return cls(experiment)
        except DataError as error:
            warn(f"validation.jsonl has no loss: no batch from the validation split: {error}")
            return None

    def __call__(self, embedder: Embedder) -> float | None:
        """Return the mean loss, None where every batch has lost its images.

        Draws nothing from the generators that training uses.

        Args:
            embedder: Embeds with the weights that are validated.

        Raises:
            DataError: An image cannot be read.
        """
        rows = np.unique(np.concatenate([plan.rows for plan in self._plans]))
        dataset = self._experiment.dataset
        found = embedder(dataset, self._images.index[rows], "validation loss")
        embeddings = torch.from_numpy(found.embeddings).to(embedder.device)
        place = np.full(len(self._images.index), -1)
        place[rows[found.rows]] = np.arange(len(found.rows))
        losses = []
        with kept_generators(torch.device(embedder.device)), torch.no_grad():
            for number, plan in enumerate(self._plans):
                unreadable = np.flatnonzero(place[plan.rows] < 0).tolist()
                batch, kept = self._describe(plan, unreadable)
                if not len(batch):
                    continue
                chosen = embeddings[torch.from_numpy(place[plan.rows[kept]])]
                losses.append(self._loss(chosen, batch.to(embedder.device), number))
        return float(np.mean(losses)) if losses else None

    def _loss(self, embeddings: torch.Tensor, batch: Batch, number: int) -> float:
        experiment = self._experiment
        torch.manual_seed(derive_seed(experiment.config.seed, "validation loss", number))
        tuples = mined(experiment, embeddings, batch, number)
        with attribute_errors(experiment.config.loss, "failed on a validation batch"):
            return float(experiment.loss(embeddings, batch, tuples).loss)


def _at_random(sampling: SamplingOptions) -> SamplingOptions:
    """Return the options without a choice by embeddings, which change in training."""
    if sampling.scheme == "cliques":
        return replace(sampling, scheme="places")
    return replace(sampling, hard_per_tuple=0)
