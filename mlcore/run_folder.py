"""The run folder: what a run writes, where, and how it is read back.

=====================  ===========================================================
``config.toml``        every option, resolved; alone it repeats the run
``environment.json``   versions, plugins, device, data fingerprint, command
``metrics.jsonl``      one row a logged step
``tensorboard/``       the same for TensorBoard
``checkpoints/``       the last two training states
``evaluation.json``    results, with the distance of every query
``skipped.txt``        names of the training images that could not be read, if any
``failed-batch.pt``    the batch whose loss was not finite, if there was one
``plots/``             pictures
=====================  ===========================================================
"""

from __future__ import annotations

import json
import platform
import shlex
import sys
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcore.errors import ConfigError, DataError
from mlcore.files import atomic_write

if TYPE_CHECKING:
    from mlcore.registry.discovery import Plugin

_VERSIONS_OF = (
    "torch",
    "torchvision",
    "lightning",
    "numpy",
    "pytorch-metric-learning",
    "faiss-cpu",
)
_KEPT_CHECKPOINTS = 2


class RunFolder:
    """One run on disk.

    Args:
        path: The folder; use :meth:`create` or :meth:`open`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.environment = path / "environment.json"
        self.metrics = path / "metrics.jsonl"
        self.checkpoints = path / "checkpoints"
        self.evaluation = path / "evaluation.json"
        self.skipped = path / "skipped.txt"
        self.failed_batch = path / "failed-batch.pt"
        self.plots = path / "plots"

    @classmethod
    def create(cls, path: Path, config_toml: str) -> RunFolder:
        """Make a new run folder that holds its configuration.

        Raises:
            ConfigError: The folder exists and is not empty, or cannot be made.
        """
        cls.require_free(path)
        run = cls(path)
        try:
            run.checkpoints.mkdir(parents=True, exist_ok=True)
            run.plots.mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--out {path} cannot be made: {error.strerror}") from error
        with atomic_write(run.config) as file:
            file.write(config_toml.encode())
        return run

    @staticmethod
    def require_free(path: Path) -> None:
        """Raise ConfigError if something is at ``path`` that a new run would write over."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError(
                f"--out {path} exists already; choose another folder, or continue that run "
                f"with 'mlcore train --resume {path}'"
            )

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of an existing run.

        Raises:
            DataError: There is no such folder, or it is not a run's.
        """
        run = cls(path)
        if not path.is_dir():
            raise DataError(f"no run folder at {path}")
        if not run.config.is_file():
            raise DataError(f"{path} is not a run folder: it has no config.toml")
        return run

    def checkpoint_path(self, step: int) -> Path:
        """Return where the training state after ``step`` optimizer steps belongs."""
        return self.checkpoints / f"step-{step:09d}.ckpt"

    def newest_checkpoint(self) -> Path | None:
        """Return the newest checkpoint that is whole, or None if there is no checkpoint.

        One that a crash has torn is named to the user, and the one before is used.

        Raises:
            DataError: There are checkpoints, but none is whole.
        """
        paths = sorted(self.checkpoints.glob("step-*.ckpt"), reverse=True)
        for path in paths:
            if _is_whole(path):
                return path
            sys.stderr.write(f"note: {path} is torn or truncated; using the one before\n")
        if paths:
            raise DataError(f"no checkpoint in {self.checkpoints} is whole")
        return None

    def prune_checkpoints(self) -> None:
        """Remove all but the newest two checkpoints."""
        for path in sorted(self.checkpoints.glob("step-*.ckpt"))[:-_KEPT_CHECKPOINTS]:
            path.unlink()

    def remove_leftovers(self) -> None:
        """Remove the temporary files of a process that was killed while it wrote.

        Only while nobody else writes into this folder.
        """
        for folder in (self.path, self.checkpoints, self.plots):
            for path in folder.glob(".*.tmp"):
                path.unlink(missing_ok=True)

    def cut_metrics(self, last_step: int) -> None:
        """Drop the rows of ``metrics.jsonl`` after ``last_step``, which will be made again."""
        if not self.metrics.exists():
            return
        kept = [
            line
            for line in self.metrics.read_text().splitlines()
            if _step_of(line) is not None and (_step_of(line) or 0) <= last_step
        ]
        with atomic_write(self.metrics) as file:
            file.write("".join(line + "\n" for line in kept).encode())

    def write_json(self, path: Path, content: Any) -> None:
        """Write ``content`` as JSON to ``path`` in this folder, all or nothing."""
        with atomic_write(path) as file:
            file.write((json.dumps(content, indent=1, allow_nan=False) + "\n").encode())

    def read_json(self, path: Path) -> Any:
        """Read JSON that a run wrote.

        Raises:
            DataError: The file is missing or not JSON.
        """
        try:
            return json.loads(path.read_text())
        except FileNotFoundError:
            raise DataError(
                f"{self.path} has no {path.name}; the run did not get that far"
            ) from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error


def describe_environment(
    plugins: Sequence[Plugin], *, device: str, fingerprint: str, notes: Sequence[str]
) -> Mapping[str, Any]:
    """Return what is needed to explain a difference between two runs."""
    return {
        "command": shlex.join(["mlcore", *sys.argv[1:]]),
        "mlcore": _version("mlcore-localization"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: _version(name) for name in _VERSIONS_OF},
        "plugins": {
            plugin.name: f"{plugin.distribution} {plugin.version}"
            for plugin in plugins
            if plugin.status == "ok"
        },
        "device": device,
        "data_fingerprint": fingerprint,
        "notes": list(notes),
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _is_whole(path: Path) -> bool:
    """Return whether a checkpoint is what was written: a zip archive with checksums.

    zipfile compares every part with its checksum; torch reads headers that zipfile does not
    look at. Tensors stay on disk.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception:  # noqa: BLE001 - a damaged header makes either raise nearly anything
        return False
    return True


def _step_of(line: str) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None  # a row that a kill cut short
