"""Plans batches by embeddings while the network trains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning.pytorch as pl
import numpy as np
from numpy.typing import NDArray

from mlcore.protocols import Progress
from mlcore.retrieval.embedder import Embedder
from mlcore.sampling.ahead import PlannedAhead
from mlcore.sampling.training_images import Rows

if TYPE_CHECKING:
    from mlcore.experiment import Experiment


class PlanAhead(pl.Callback):
    """Plans a window of steps when the previous window begins.

    The network of one window ago decides what is hard, or alike; the first two windows use the
    untrained network. What is planned is saved in the checkpoint.

    Args:
        experiment: The run.
        ahead: What its planner plans by embeddings.
        progress: Progress callback of embedding the images.
    """

    def __init__(self, experiment: Experiment, ahead: PlannedAhead, progress: Progress) -> None:
        self._experiment = experiment
        self._ahead = ahead
        self._progress = progress

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Plan the first two windows, or those missing in a run that was extended."""
        now = trainer.global_step // self._ahead.steps_per_window
        for window in (now, now + 1):
            if not self._ahead.has_planned(window):
                self._plan(window, pl_module)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Plan the next window when one begins."""
        window, step = divmod(trainer.global_step, self._ahead.steps_per_window)
        if step == 0 and window > 0:
            self._plan(window + 1, pl_module)

    def _plan(self, window: int, pl_module: pl.LightningModule) -> None:
        first = window * self._ahead.steps_per_window
        if first < self._experiment.config.training.max_steps:
            self._ahead.plan(window, self._embedder(pl_module))

    def _embedder(self, pl_module: pl.LightningModule) -> Any:
        config, dataset = self._experiment.config, self._experiment.dataset
        index = self._experiment.planner.images.index
        live = config.sampling.hard_features == "live"
        embedder = Embedder(
            model=self._experiment.model if live else self._experiment.untrained,
            input_size=self._experiment.batches.input_size,
            batch_size=config.evaluation.batch_size,
            device=pl_module.device,
            num_workers=config.training.num_workers,
            skip_unreadable=config.training.skip_unreadable,
            progress=self._progress,
        )

        def embed(rows: Rows) -> tuple[Rows, NDArray[np.float32]]:
            found = embedder(dataset, index[rows], "embedding images to plan by")
            return rows[found.rows], found.embeddings

        return embed

    def state_dict(self) -> dict[str, Any]:
        """Return what is planned."""
        return self._ahead.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what was planned."""
        self._ahead.load_state_dict(state_dict)
