"""How Lightning writes checkpoints: all or nothing."""

from __future__ import annotations

from pathlib import Path
from typing import IO, Any

import torch
from lightning.fabric.plugins import TorchCheckpointIO

from mlcore.errors import DataError
from mlcore.files import atomic_write
from mlcore.run_folder import RunFolder

_NEEDED = {"optimizer_states": list, "lr_schedulers": list, "loops": dict}
"""What training needs of a checkpoint beside the weights, and its type."""


class DurableCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint all or nothing, and loads tensors and plain values only.

    Attributes:
        failure: Why the last checkpoint could not be written; the caller raises it once all
            processes know.
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
        """Load without running any pickled code.

        Raises:
            DataError: As ``RunFolder`` raises it, or the checkpoint has weights only: Lightning
                would train them from step 0.
        """
        state = RunFolder.load_checkpoint(Path(path), map_location)
        for name, kind in _NEEDED.items():
            if not isinstance(state.get(name), kind) or not state[name]:
                raise DataError(
                    f"{path} is a checkpoint without {name}; training cannot go on from it. "
                    "Remove it to go on from the one before"
                )
        return state


def _save(checkpoint: dict[str, Any], file: IO[bytes]) -> None:
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        # torch hides that the disk is full behind its archive's broken offsets.
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
