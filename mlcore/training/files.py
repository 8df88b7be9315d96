"""How Lightning writes a run's files: checkpoints all or nothing, metrics as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from mlcore.files import atomic_write


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint all or nothing, and loads tensors and plain values only.

    Attributes:
        failure: Why the last checkpoint could not be written; for whoever asked for it to
            raise once all processes know.
    """

    failure: OSError | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """Write under a temporary name, flush, rename."""
        try:
            with atomic_write(Path(path)) as file:
                _save(checkpoint, file)
        except OSError as error:
            self.failure = error

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """Load without running any pickled code."""
        loaded: dict[str, Any] = torch.load(path, map_location=map_location, weights_only=True)
        return loaded


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        # torch hides that the disk is full behind its archive's broken offsets.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


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

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append one row and flush it."""
        row: dict[str, float] = {"step": (step or 0) + 1}
        row |= {name: value for name, value in metrics.items() if name != "epoch"}
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
