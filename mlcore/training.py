"""Trains a model with a loss: Lightning's loop, and what it does not know of by itself.

One optimizer step reads, from top to bottom, in :meth:`EmbeddingTask.training_step`.
"""

from __future__ import annotations

import json
import logging
import math
import signal
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.loggers import Logger, TensorBoardLogger
from torch import Tensor
from torch.optim import Optimizer

from mlcore.batches import TrainingBatch, TrainingLoader
from mlcore.blame import blamed_on, known_limits
from mlcore.errors import NonFiniteLossError
from mlcore.files import atomic_write
from mlcore.protocols import LossOutput, Pairs, Progress, Triplets, no_progress

if TYPE_CHECKING:
    from mlcore.experiment import Experiment
    from mlcore.records import RunFolder
    from mlcore.settings import TrainingOptions


class EmbeddingTask(pl.LightningModule):
    """Model, miner and loss as one thing to optimize.

    Args:
        experiment: The assembled run.
    """

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self.model = experiment.model
        self.loss = experiment.loss
        self.miner = experiment.miner
        self._experiment = experiment
        self._options = experiment.config.training
        self._rng_to_restore: dict[str, Any] | None = None

    def training_step(self, item: TrainingBatch, step: int) -> Tensor:
        """Return the loss of one batch: embed, mine, compare."""
        embeddings = self.model(item.images)
        self._stop_if_not_finite(embeddings.detach().sum(), "an embedding", item)
        with torch.autocast(self.device.type, enabled=False):
            # The loss is in float32 or better, whatever the model runs in.
            embeddings = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
            tuples = self._mine(embeddings.detach(), item)
            output = self._compare(embeddings, item, tuples)
        self._stop_if_not_finite(output.loss, "the loss", item)
        self._last_item = item
        self._record(output, item)
        return output.loss

    def _mine(self, embeddings: Tensor, item: TrainingBatch) -> Pairs | Triplets | None:
        if self.miner is None:
            return None
        assert self._experiment.config.miner is not None
        with blamed_on(self._experiment.config.miner, f"failed at step {self.global_step}"):
            tuples = self.miner(embeddings, item.batch)
        if (
            isinstance(tuples, Triplets)
            and self._experiment.config.loss.factory.accepts is Pairs
        ):
            anchors, positives, negatives = tuples
            return Pairs(anchors, positives, anchors, negatives)
        return tuples

    def _compare(
        self, embeddings: Tensor, item: TrainingBatch, tuples: Pairs | Triplets | None
    ) -> LossOutput:
        with blamed_on(self._experiment.config.loss, f"failed at step {self.global_step}"):
            return self.loss(embeddings, item.batch, tuples)

    def _record(self, output: LossOutput, item: TrainingBatch) -> None:
        stats = {
            name: value for name, value in output.stats.items() if not isinstance(value, str)
        }
        rate = self.optimizers().param_groups[0]["lr"]  # type: ignore[union-attr]
        self.log("loss", output.loss.detach(), prog_bar=True)
        self.log("learning_rate", rate)
        self.log("letterboxed", float(item.num_letterboxed))
        self.log_dict({f"loss/{name}": float(value) for name, value in stats.items()})

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Stop before a step that would write NaN into the weights."""
        if self._options.precision == "16-mixed":
            return  # the gradient scaler expects overflow and skips such a step itself
        gradients = [
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        norm = torch.nn.utils.get_total_norm(gradients)
        self._stop_if_not_finite(norm, "the gradient", self._last_item)

    def _stop_if_not_finite(self, value: Tensor, what: str, item: TrainingBatch) -> None:
        if torch.isfinite(value):
            return
        loss, dataset = self._experiment.config.loss, self._experiment.dataset
        images = [dataset.image_name(int(index)) for index in item.batch.index]
        shown = ", ".join(images[:5]) + (
            f" and {len(images) - 5} more" if len(images) > 5 else ""
        )
        raise NonFiniteLossError(
            f"{what} of {loss.name!r} is {float(value.detach())} at step {self.global_step}, "
            f"before the optimizer step; images: {shown}.{known_limits(loss)} Try a smaller "
            "--training.learning_rate."
        )

    def configure_optimizers(self) -> Any:
        """Adam over the model's parameters and the loss's own."""
        options = self._options
        parameters = [p for p in self.parameters() if p.requires_grad]
        optimizer: Optimizer
        if options.weight_decay:
            optimizer = torch.optim.AdamW(
                parameters, lr=options.learning_rate, weight_decay=options.weight_decay
            )
        else:
            optimizer = torch.optim.Adam(parameters, lr=options.learning_rate)
        factor = learning_rate_factor(options, self._experiment.planner.steps_per_epoch)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the main generators: dropout and the like draw from them."""
        checkpoint["rng"] = {
            "cpu": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all(),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the generators' state out of the checkpoint."""
        self._rng_to_restore = checkpoint["rng"]

    def on_train_start(self) -> None:
        """Put the generators where they were, after all set-up that may draw from them."""
        if self._rng_to_restore is not None:
            torch.set_rng_state(self._rng_to_restore["cpu"])
            if torch.cuda.is_available():
                torch.cuda.set_rng_state_all(self._rng_to_restore["cuda"])


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


class Checkpoints(pl.Callback):
    """Saves the training state every so many steps, at the end, and when asked to stop.

    SIGINT and SIGTERM are answered at the end of the step in hand, so that what is saved
    is the state between two steps; a second SIGINT interrupts at once.

    Args:
        run: Where to save.
        every: Steps between two checkpoints.
    """

    def __init__(self, run: RunFolder, every: int) -> None:
        self._run = run
        self._every = every
        self._previous: dict[signal.Signals, Any] = {}
        self.stopped_by: signal.Signals | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the signals, after Lightning has set its own handlers."""
        for number in (signal.SIGINT, signal.SIGTERM):
            self._previous[number] = signal.signal(number, self._ask_to_stop)

    def _ask_to_stop(self, number: int, frame: object) -> None:
        if self.stopped_by is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stopped_by = signal.Signals(number)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        """Save if it is time, and stop if that was asked for."""
        step = trainer.global_step
        stop = self.stopped_by is not None
        if stop or step % self._every == 0 or step == trainer.max_steps:
            trainer.save_checkpoint(self._run.checkpoint_path(step))
            self._run.prune_checkpoints()
        if stop:
            trainer.should_stop = True

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()


class TrainingProgress(pl.Callback):
    """Tells the program's own progress bar of steps and loss."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show where training starts: not at 0 for a resumed run."""
        self._progress("training", trainer.global_step, trainer.max_steps)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Show the step and its loss."""
        loss = f"loss {float(outputs['loss']):.4f}"
        self._progress("training", trainer.global_step, trainer.max_steps, loss)


class SkippedImages(pl.Callback):
    """Lists the images that could not be read and were left out, each once."""

    def __init__(self, run: RunFolder) -> None:
        self._path = run.skipped
        self._seen = (
            set(run.skipped.read_text().splitlines()) if run.skipped.exists() else set()
        )

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        *_: Any,
    ) -> None:
        """Add the names that are new."""
        new = [name for name in batch.skipped if name not in self._seen]
        if new:
            self._seen.update(new)
            with self._path.open("a") as file:
                file.writelines(f"{name}\n" for name in new)


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint all or nothing, and loads tensors and plain values only."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write under a temporary name, flush, rename."""
        with atomic_write(Path(path)) as file:
            try:
                torch.save(checkpoint, file)
            except RuntimeError as error:
                # torch hides that the disk is full behind its archive's broken offsets.
                if isinstance(error.__context__, OSError):
                    raise error.__context__ from None
                raise

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Load without running any pickled code."""
        loaded: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return loaded


class MetricsFile(Logger):
    """Appends to ``metrics.jsonl``; steps count finished optimizer steps, from 1."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    @property
    def name(self) -> str:
        """Lightning's name of the log."""
        return "metrics"

    @property
    def version(self) -> int:
        """Lightning's version of the log."""
        return 0

    def log_hyperparams(self, *_: object, **__: object) -> None:
        """Do nothing: ``config.toml`` holds them."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row and flush it."""
        row: dict[str, float] = {"step": (step or 0) + 1}
        row |= {name: value for name, value in metrics.items() if name != "epoch"}
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def fit(
    experiment: Experiment, run: RunFolder, *, progress: Progress = no_progress
) -> Literal["finished", "interrupted", "terminated"]:
    """Train to ``max_steps``, from the run's newest checkpoint if it has one.

    Returns:
        "finished", or how the run was asked to stop; it can then be resumed.

    Raises:
        NonFiniteLossError: Before the optimizer step that it would spoil.
        DataError: An image cannot be read, or no checkpoint of the run is whole.
    """
    options = experiment.config.training
    checkpoint = run.newest_checkpoint()
    start = 0 if checkpoint is None else int(checkpoint.stem.removeprefix("step-"))
    run.cut_metrics(start)
    checkpoints = Checkpoints(run, options.checkpoint_every)
    with _quiet_lightning():
        trainer = pl.Trainer(
            max_steps=options.max_steps,
            accelerator=options.accelerator,
            devices=1,
            precision=options.precision,
            gradient_clip_val=options.gradient_clip or None,
            log_every_n_steps=options.log_every,
            logger=[
                MetricsFile(run.metrics),
                TensorBoardLogger(run.path, name="tensorboard", version=""),
            ],
            callbacks=[checkpoints, SkippedImages(run), TrainingProgress(progress)],
            plugins=[DurableCheckpointIO()],
            default_root_dir=run.path,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            deterministic="warn",
        )
        trainer.fit(
            EmbeddingTask(experiment),
            TrainingLoader(
                experiment.batches,
                start_step=start,
                num_steps=options.max_steps,
                num_workers=options.num_workers,
            ),
            ckpt_path=None if checkpoint is None else str(checkpoint),
            weights_only=True,
        )
    if checkpoints.stopped_by is None:
        return "finished"
    return "interrupted" if checkpoints.stopped_by is signal.SIGINT else "terminated"


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence advice that is not for the user of a finished program."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        warnings.filterwarnings("ignore", message=".*`isinstance.treespec, LeafSpec.*")
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
