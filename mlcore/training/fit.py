"""Runs Lightning's loop over an experiment."""

from __future__ import annotations

import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import lightning.pytorch as pl
from lightning.pytorch.plugins.precision import DoublePrecision

from mlcore.distributed import RUN_FOLDER, is_first
from mlcore.errors import ConfigError
from mlcore.protocols import Progress, no_progress
from mlcore.training.callbacks import (
    STOP_SIGNALS,
    Checkpoints,
    Metrics,
    SkippedImages,
    TrainingProgress,
)
from mlcore.training.checkpoint_io import DurableCheckpointIO
from mlcore.training.gradient_cache import live_batch_norms
from mlcore.training.health import Health, Warn
from mlcore.training.loggers import finish_loggers, loggers_of
from mlcore.training.plan_ahead import PlanAhead
from mlcore.training.selection import Selection
from mlcore.training.strategy import Processes, stop_others
from mlcore.training.task import EmbeddingTask

if TYPE_CHECKING:
    from mlcore.experiment import Experiment
    from mlcore.run_folder import RunFolder

Ending = Literal["finished", "interrupted", "terminated"]


def fit(
    experiment: Experiment,
    run: RunFolder,
    *,
    progress: Progress = no_progress,
    warn: Warn = warnings.warn,
) -> Ending:
    """Train to ``max_steps``, from the run's newest checkpoint if it has one.

    Under several processes each calls this; the first one writes the files.

    Args:
        experiment: What to train.
        run: Where to save.
        progress: Progress callback.
        warn: Receives warnings about training that learns nothing.

    Returns: "finished", or the signal that stopped the run, which can then be resumed.

    Raises:
        NonFiniteLossError: Before the optimizer step that would make the weights invalid.
        DataError: An image cannot be read, or no checkpoint of the run is intact.
        ConfigError: The model cannot be trained this way, or the run already has more steps
            than requested.
        OSError: A checkpoint cannot be written.
        FailedElsewhereError: In all processes but the first, which raises why.
    """
    options = experiment.config.training
    processes = Processes.of(options)
    checkpoint = run.newest_checkpoint()
    start = 0 if checkpoint is None else int(checkpoint.stem.removeprefix("step-"))
    if start > options.max_steps:
        raise ConfigError(
            f"the run has already taken {start} steps, more than --training.max_steps "
            f"{options.max_steps}"
        )
    if is_first():
        run.remove_leftovers()
        run.cut_metrics(start)
    files = DurableCheckpointIO()
    checkpoints = Checkpoints(run, files, options.checkpoint_every)
    # The rows of a step are written before its checkpoint, after which it is not repeated.
    selection = None
    if Selection.is_needed(options):
        selection = Selection(experiment, run, progress, warn)
    callbacks = _callbacks(experiment, run, selection, checkpoints, progress, warn)
    task = EmbeddingTask(experiment, start, run.failed_batch).train()
    if options.compile:
        getattr(experiment.model, "backbone", experiment.model).compile()
    plugins: list[Any] = [files, processes.environment()]
    if options.precision == "64-true":
        plugins.append(_DoublePrecision())
        task.double()  # Lightning does it once a checkpoint is in, in float32
    with _quiet_lightning(), _signals_put_back():
        trainer = _trainer(experiment, run, processes, callbacks, plugins, start)
        _require_possible(experiment, processes, trainer)
        if processes.launcher == "lightning" and processes.count > 1:
            os.environ.setdefault(RUN_FOLDER, str(run.path.absolute()))
        try:
            trainer.fit(
                task,
                ckpt_path=None if checkpoint is None else str(checkpoint),
                weights_only=True,
            )
        except BaseException:
            stop_others()
            raise
        finally:
            if is_first():
                finish_loggers(trainer.loggers)
    if checkpoints.stopped_by is None:
        _finish(selection)
        return "finished"
    return "interrupted" if checkpoints.stopped_by is signal.SIGINT else "terminated"


def _finish(selection: Selection | None) -> None:
    """Give the network the weights that the run ends with."""
    if selection:
        selection.finish()


def _callbacks(
    experiment: Experiment,
    run: RunFolder,
    selection: Selection | None,
    checkpoints: Checkpoints,
    progress: Progress,
    warn: Warn,
) -> list[pl.Callback]:
    """Return what happens between steps; all that a step writes comes before its checkpoint."""
    callbacks: list[pl.Callback] = [
        *([selection] if selection else []),
        Metrics(run, experiment.config.training.log_every),
        SkippedImages(run),
        checkpoints,
        TrainingProgress(progress),
    ]
    if is_first():
        callbacks.append(Health(warn))
    if experiment.planner.ahead is not None:
        callbacks.append(PlanAhead(experiment, experiment.planner.ahead, progress))
    return callbacks


def _trainer(
    experiment: Experiment,
    run: RunFolder,
    processes: Processes,
    callbacks: list[pl.Callback],
    plugins: list[Any],
    start: int,
) -> pl.Trainer:
    options = experiment.config.training
    return pl.Trainer(
        max_steps=options.max_steps,
        accelerator=options.accelerator,
        accumulate_grad_batches=options.accumulate,
        gradient_clip_val=options.gradient_clip or None,
        log_every_n_steps=options.log_every,
        logger=loggers_of(run, options, start),
        callbacks=callbacks,
        plugins=plugins,
        default_root_dir=run.path,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
        sync_batchnorm=processes.count > 1 and options.batch_norm == "live",
        deterministic="warn",
        precision=None if options.precision == "64-true" else options.precision,
        **processes.for_trainer(),
    )


def _require_possible(experiment: Experiment, processes: Processes, trainer: Any) -> None:
    """Refuse batch norms that would see only part of the batch.

    Raises:
        ConfigError: The model has some, and no setting makes their statistics exact.
    """
    options = experiment.config.training
    live = [] if options.batch_norm == "frozen" else live_batch_norms(experiment.model.train())
    if not live:
        return
    which = (
        f"model {experiment.config.model.name!r} has {len(live)} batch-norm layers that use "
        f"the statistics of the current batch, such as {live[0]}"
    )
    others = (
        "use --training.batch_norm frozen (keeps the statistics that come with the "
        "weights), or a model without batch norm, such as small-cnn or vgg16"
    )
    if options.chunk_size:
        raise ConfigError(
            f"--training.chunk_size {options.chunk_size}: {which}; the "
            f"statistics of a chunk differ from those of the whole batch: {others}"
        )
    if processes.count > 1 and trainer.strategy.root_device.type == "cpu":
        raise ConfigError(
            f"{processes.count} processes on the CPU: {which}, and torch combines "
            f"these statistics over processes on GPUs only: {others}"
        )


class _DoublePrecision(DoublePrecision):
    """Lightning's, which cannot convert a batch that is frozen; ours need not be converted."""

    def convert_input(self, data: Any) -> Any:
        """Return pixels and geometry unchanged; the model converts the pixels."""
        return data


@contextmanager
def _signals_put_back() -> Iterator[None]:
    """Restore the signal handlers, so that a finished run can be stopped."""
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence advice that is meant for developers, not for users."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # Frozen batch norms are in evaluation mode on purpose.
        warnings.filterwarnings("ignore", message=".*module.s. in eval mode at the start.*")
        # A run may be shorter than its logging interval; its table is of the end.
        warnings.filterwarnings("ignore", message=".*smaller than the logging interval.*")
        warnings.filterwarnings("ignore", message=".*`isinstance.treespec, LeafSpec.*")
        yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)
