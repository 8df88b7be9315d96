"""Which weights a run ends with: averaged, validated, the last or the best."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from mlcore.distributed import is_first
from mlcore.evaluation.evaluate import embedder_of, evaluate_model
from mlcore.options.engine import TrainingOptions
from mlcore.protocols import Progress
from mlcore.retrieval.embedder import Embedder
from mlcore.training.health import Warn
from mlcore.training.task import EmbeddingTask
from mlcore.training.validation_loss import ValidationLoss

if TYPE_CHECKING:
    from mlcore.evaluation.results import Evaluation
    from mlcore.experiment import Experiment
    from mlcore.run_folder import RunFolder

KEPT = "kept_weights"
"""Key of a checkpoint: the network's weights that the run would end with, if not the last."""

Weights = dict[str, Tensor]


class Selection(pl.Callback):
    """Averages the weights, validates them, keeps the best and ends a run that stagnates.

    Its state is in the checkpoint, the chosen weights included, so that a resumed run chooses
    as an uninterrupted one. It comes before the callback that saves checkpoints.

    Args:
        experiment: The run.
        run: Where ``validation.jsonl`` is written.
        progress: Progress callback.
        warn: Receives that a resumed run had stopped for lack of patience, or that there is no
            loss to validate.
    """

    def __init__(
        self, experiment: Experiment, run: RunFolder, progress: Progress, warn: Warn
    ) -> None:
        self._experiment, self._run, self._progress = experiment, run, progress
        self._warn = warn
        self._options = experiment.config.training
        self._loss: ValidationLoss | None = None
        if self._options.validate_every:
            self._loss = ValidationLoss.of(experiment, warn if is_first() else _ignore)
        self._averaged: Weights = {}
        self._best: Weights = {}
        self._best_area = -1.0
        self._best_step = 0
        self._without_better = 0

    @staticmethod
    def is_needed(options: TrainingOptions) -> bool:
        """Return whether a run with these options has anything to choose."""
        return bool(options.validate_every or options.ema_decay)

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs."""
        return {
            "averaged": self._averaged,
            "best": self._best,
            "best_area": self._best_area,
            "best_step": self._best_step,
            "without_better": self._without_better,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the state of a checkpoint."""
        self._averaged, self._best = dict(state_dict["averaged"]), dict(state_dict["best"])
        self._best_area = float(state_dict["best_area"])
        self._best_step = int(state_dict["best_step"])
        self._without_better = int(state_dict["without_better"])

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the chosen weights where they are looked for."""
        if kept := self._kept():
            checkpoint[KEPT] = kept

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the average from the first weights; end a run that had stagnated."""
        if self._options.ema_decay and not self._averaged:
            self._averaged = _copied(self._experiment.model.state_dict())
        if self._has_stagnated:
            trainer.should_stop = True
            if is_first():
                self._warn(
                    f"no step is taken: {self._without_better} validations in a row were not "
                    f"better than that of step {self._best_step}, and --training.patience is "
                    f"{self._options.patience}; resume with a larger patience, or "
                    "0, and --accept-changes config to go on"
                )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object
    ) -> None:
        """Average and validate after the step, if it is time."""
        assert isinstance(pl_module, EmbeddingTask)
        if not pl_module.completes_step:
            return
        step = trainer.global_step
        if self._options.ema_decay:
            self._average(step)
        every = self._options.validate_every
        if every and (step % every == 0 or step == trainer.max_steps):
            with self._validated_weights() as embedder:
                result = self._validate(embedder)
                loss = None if self._loss is None else self._loss(embedder)
            row = self._record(result, step, loss)
            for logger in trainer.loggers:
                named = {f"validation/{name}": value for name, value in row.items()}
                logger.log_metrics(named, step=step)
            if self._has_stagnated:
                trainer.should_stop = True

    def finish(self) -> None:
        """Load the weights that the run ends with into its network."""
        if kept := self._kept():
            self._experiment.model.load_state_dict(kept)

    @property
    def _has_stagnated(self) -> bool:
        patience = self._options.patience
        return bool(patience) and self._without_better >= patience

    def _kept(self) -> Weights:
        """Return the weights that the run ends with; empty for the network's own."""
        return self._best if self._options.checkpoint == "best" else self._averaged

    def _average(self, step: int) -> None:
        """Move the average towards the weights after ``step`` steps.

        By ``1 - min(decay, (1 + step) / (10 + step))``, as TensorFlow's
        ``ExponentialMovingAverage`` with ``num_updates``: early steps count less long.
        """
        decay = min(self._options.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, value in self._experiment.model.state_dict().items():
                average = self._averaged[name]
                if average.is_floating_point():
                    average.lerp_(value.detach().to(average.device), 1 - decay)
                else:
                    average.copy_(value)

    @contextmanager
    def _validated_weights(self) -> Iterator[Embedder]:
        """Put the average, if there is one, into the network; yield what embeds with it."""
        model = self._experiment.model
        own = _copied(model.state_dict()) if self._averaged else {}
        if own:
            model.load_state_dict(self._averaged)
        device = next(model.parameters()).device
        embedder = embedder_of(model, self._experiment.config, self._progress)
        yield replace(embedder, device=device)
        if own:
            model.load_state_dict(own)

    def _validate(self, embedder: Embedder) -> Evaluation:
        """Evaluate on the validation split."""
        experiment = self._experiment
        return evaluate_model(
            embedder,
            experiment.dataset,
            experiment.dataset.validation,
            replace(experiment.config.evaluation, whitening="none"),
            name="validation",
            split_name="validation",
        )

    def _record(self, result: Evaluation, step: int, loss: float | None) -> dict[str, float]:
        """Record a validation, and keep its weights if they are the best so far."""
        protocol = result.protocol
        area = result.area(protocol.area_limit_m)
        better = area > self._best_area
        self._without_better = 0 if better else self._without_better + 1
        if better:
            self._best_area, self._best_step = area, step
            if self._options.checkpoint == "best":
                self._best = _copied(self._averaged or self._experiment.model.state_dict())
        row = {
            "area": area,
            **{f"accuracy_{t:g}_m": result.accuracy(t) for t in protocol.thresholds_m},
            **({} if loss is None else {"loss": loss}),
            "best_step": self._best_step,
        }
        if is_first():
            with self._run.validation.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **row}) + "\n")
        return row


def _ignore(_: str) -> None:
    """Warn of nothing: the first process does."""


def _copied(weights: Weights) -> Weights:
    return {name: value.detach().clone() for name, value in weights.items()}
