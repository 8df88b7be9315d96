"""What happens between two steps: checkpoints, progress, the list of skipped images."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from mlcore.distributed import exchange, is_first, largest_over_processes, num_processes
from mlcore.errors import FailedElsewhereError
from mlcore.protocols import Progress
from mlcore.run_folder import RunFolder
from mlcore.training.checkpoint_io import DurableCheckpointIO
from mlcore.training.task import EmbeddingTask

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Checkpoints(pl.Callback):
    """Saves the training state every so many steps, at the end, and when asked to stop.

    SIGINT and SIGTERM take effect at the end of the current step, so that the state between two
    steps is saved; a second SIGINT interrupts at once.

    Args:
        run: Where to save.
        files: Writes files for the trainer.
        every: Steps between two checkpoints.
    """

    def __init__(self, run: RunFolder, files: DurableCheckpointIO, every: int) -> None:
        self._run = run
        self._files = files
        self._every = every
        self.stopped_by: signal.Signals | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take over the signals, after Lightning has set its own handlers."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._ask_to_stop)

    def _ask_to_stop(self, number: int, frame: object) -> None:
        if self.stopped_by is signal.SIGINT and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.stopped_by = signal.Signals(number)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object
    ) -> None:
        """Save if it is time, and stop if requested.

        Raises:
            OSError: The checkpoint cannot be written; the previous one is unchanged.
        """
        assert isinstance(pl_module, EmbeddingTask)
        if not pl_module.completes_step:
            return
        step = trainer.global_step
        self._agree(pl_module)
        stop = self.stopped_by is not None
        ends = stop or trainer.should_stop or step == trainer.max_steps
        if ends or step % self._every == 0:
            self._save(trainer, step)
        if stop:
            trainer.should_stop = True

    def _save(self, trainer: pl.Trainer, step: int) -> None:
        """Save; if the first process cannot, all stop."""
        trainer.save_checkpoint(self._run.checkpoint_path(step))
        failure, self._files.failure = self._files.failure, None
        if any(exchange(failure is not None)):
            raise failure or FailedElsewhereError("a checkpoint cannot be written")
        if is_first():
            self._run.prune_checkpoints()

    def _agree(self, pl_module: pl.LightningModule) -> None:
        """Stop all processes at the same step, whichever of them received the signal."""
        if num_processes() == 1:
            return
        number = torch.tensor([self.stopped_by or 0], device=pl_module.device)
        agreed = int(largest_over_processes(number).item())
        if agreed:
            self.stopped_by = signal.Signals(agreed)


class Metrics(pl.Callback):
    """Appends to ``metrics.jsonl``; steps count finished optimizer steps, from 1.

    A Lightning logger would write after the checkpoint of the same step, and a kill between
    the two would lose the row. So this comes before :class:`Checkpoints`.

    Args:
        run: Where to write.
        every: Steps between two rows.
    """

    def __init__(self, run: RunFolder, every: int) -> None:
        self._path = run.metrics
        self._every = every

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: object
    ) -> None:
        """Append the step's row if it is time."""
        assert isinstance(pl_module, EmbeddingTask)
        if trainer.global_step % self._every or not pl_module.completes_step or not is_first():
            return
        row = {name: float(value) for name, value in pl_module.row.items()}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": trainer.global_step, **row}) + "\n")


class TrainingProgress(pl.Callback):
    """Shows steps and loss on mlcore's own progress bar."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show where training starts: not at 0 for a resumed run."""
        self._progress("training", trainer.global_step, trainer.max_steps)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Show the step and its loss."""
        assert isinstance(pl_module, EmbeddingTask)
        loss = f"loss {float(pl_module.row['loss']):.4f}"
        self._progress("training", trainer.global_step, trainer.max_steps, loss)


class SkippedImages(pl.Callback):
    """Lists the images that could not be read and were left out, each once."""

    def __init__(self, run: RunFolder) -> None:
        self._path = run.skipped
        self._seen = set(_lines(run.skipped)) if run.skipped.exists() else set()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        *_: Any,
    ) -> None:
        """Add the names that are new."""
        assert isinstance(pl_module, EmbeddingTask)
        new = [name for name in pl_module.skipped if name not in self._seen]
        if new and is_first():
            self._seen.update(new)
            with self._path.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.writelines(f"{name}\n" for name in new)


def _lines(path: Path) -> list[str]:
    """Return the lines of a list of names, also of names that are not valid UTF-8."""
    return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
