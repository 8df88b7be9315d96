"""Where training numbers go beside ``metrics.jsonl``: Lightning's loggers, by name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger

from mlcore.errors import MissingLibraryError, is_installed
from mlcore.options.engine import TrainingOptions
from mlcore.options.loggers import LIBRARIES

if TYPE_CHECKING:
    from mlcore.run_folder import RunFolder

_PROJECT = "mlcore"


def loggers_of(run: RunFolder, options: TrainingOptions, start: int) -> list[Logger]:
    """Return the loggers of a run: those chosen, and TensorBoard's where it is installed.

    Args:
        run: Its folder; everything that is written locally goes there.
        options: Which are chosen.
        start: The step that training starts from: a resumed run gets a new CSV file.
    """
    names = list(dict.fromkeys(options.loggers))
    if "tensorboard" not in names and is_installed("tensorboard"):
        names.append("tensorboard")
    return [_logger(name, run, start) for name in names]


def finish_loggers(loggers: Sequence[Logger]) -> None:
    """Close what Lightning leaves open, so that the next run of this process starts anew."""
    for logger in loggers:
        if type(logger).__name__ == "WandbLogger":
            wandb: Any = logger  # of a class that may not be installed
            wandb.experiment.finish()


def logger_notes(options: TrainingOptions) -> list[str]:
    """Return a note if a run has no files for TensorBoard."""
    module, extra = LIBRARIES["tensorboard"]
    if "tensorboard" in options.loggers or is_installed(module):
        return []
    missing = MissingLibraryError("a log for TensorBoard", module, extra)
    return [f"{missing}; metrics.jsonl has the same numbers"]


def _logger(name: str, run: RunFolder, start: int) -> Logger:
    """Return a logger; wandb and mlflow read their own environment variables too."""
    if name == "csv":
        return CSVLogger(run.path, name="csv", version=f"from-{start:09d}")
    if name == "tensorboard":
        return TensorBoardLogger(run.path, name="tensorboard", version="")
    title = run.path.resolve().name
    if name == "wandb":
        from lightning.pytorch.loggers import WandbLogger

        return WandbLogger(
            name=title,
            save_dir=run.path,
            project=os.environ.get("WANDB_PROJECT", _PROJECT),
            offline=os.environ.get("WANDB_MODE") == "offline",
        )
    from lightning.pytorch.loggers import MLFlowLogger

    return MLFlowLogger(
        experiment_name=os.environ.get("MLFLOW_EXPERIMENT_NAME", _PROJECT),
        run_name=title,
        tracking_uri=os.environ.get(
            "MLFLOW_TRACKING_URI", f"sqlite:///{run.path.resolve() / 'mlflow.db'}"
        ),
    )
