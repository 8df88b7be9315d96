"""The run folder: what a run writes, where, and how it is read back.

=====================  ===========================================================
``config.toml``        every option, resolved; alone it repeats the run
``environment.json``   versions, plugins, device, data, code and options that the run
                       began with, and a history of every time it went on
``metrics.jsonl``      one row per logged step
``tensorboard/``       the same for TensorBoard
``checkpoints/``       the last two training states
``evaluation.json``    results, with the distance of every query
``evaluations/``       results on other splits, data or options
``skipped.txt``        names of the training images that could not be read, if any
``failed-batch.pt``    the batch whose loss was not finite, if there was one
``model/``             the trained model as it was evaluated: all that its use takes
``plots/``             pictures
``.lock``              locked by the process that trains
=====================  ===========================================================
"""

from __future__ import annotations

import json
import os
import platform
import shlex
import socket
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mlcore.errors import ConfigError, DataError
from mlcore.files import atomic_write

if TYPE_CHECKING:
    from torch import Tensor

    from mlcore.registry.discovery import Plugin

_VERSIONS_OF = (
    "torch",
    "torchvision",
    "timm",
    "lightning",
    "numpy",
    "pytorch-metric-learning",
    "faiss-cpu",
)
_LISTINGS = 100
"""A run in training may remove what was listed, at most so often while it is read."""

_KEPT_CHECKPOINTS = 2

Kind = Literal["data", "code", "config"]
KINDS: tuple[Kind, ...] = ("data", "code", "config")
"""What the results of a run depend on, by the names of ``--accept-changes``."""


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
        self.validation = path / "validation.jsonl"
        self.checkpoints = path / "checkpoints"
        self.evaluation = path / "evaluation.json"
        self.evaluations = path / "evaluations"
        self.skipped = path / "skipped.txt"
        self.failed_batch = path / "failed-batch.pt"
        self.model = path / "model"
        self.plots = path / "plots"
        self._lock = path / ".lock"

    @classmethod
    def create(cls, path: Path, config_toml: str) -> RunFolder:
        """Create a new run folder with its configuration.

        Raises:
            ConfigError: The folder exists and is not empty, or cannot be created.
        """
        cls.require_free(path)
        run = cls(path)
        try:
            run.checkpoints.mkdir(parents=True, exist_ok=True)
            run.plots.mkdir(exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--out {path} cannot be created: {error.strerror}") from error
        run.write_config(config_toml)
        return run

    @staticmethod
    def require_free(path: Path) -> None:
        """Raise ConfigError if a new run would overwrite something at ``path``."""
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            is_run = (path / "config.toml").is_file()
            remedy = f", or continue that run with 'mlcore train --resume {path}'"
            raise ConfigError(
                f"--out {path} exists already; choose another folder{remedy if is_run else ''}"
            )

    @classmethod
    def open(cls, path: Path) -> RunFolder:
        """Open the folder of an existing run.

        Raises:
            DataError: There is no such folder, or it is not a run's, or its checkpoints are
                elsewhere.
        """
        run = cls(path)
        if not path.is_dir():
            raise DataError(f"no run folder at {path}")
        if not run.config.is_file():
            raise DataError(f"{path} is not a run folder: it has no config.toml")
        if run.checkpoints.is_symlink():
            raise DataError(
                f"{run.checkpoints} is a symbolic link to {run.checkpoints.resolve()}: mlcore "
                "removes old checkpoints and does not do so in a folder that may belong to "
                "another run; move the folder here, or link the whole run folder instead"
            )
        if run.checkpoints.exists() and not run.checkpoints.is_dir():
            raise DataError(f"{run.checkpoints} is not a folder; restore it, or remove it")
        return run

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from training in this folder while the block runs.

        The lock belongs to the process: it is released when the process ends for any reason,
        and forked data-loading processes, which may outlive it for seconds, do not inherit it
        (POSIX ``fcntl`` locks; they would inherit those of ``flock``).

        Raises:
            ConfigError: Another process trains here.
        """
        import fcntl

        with self._lock.open("a+", encoding="utf-8") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                file.seek(0)
                owner = file.read().strip() or "process unknown"
                raise ConfigError(
                    f"another process trains in {self.path} ({owner}); wait until it ends, "
                    "or stop it first"
                ) from None
            except OSError as error:
                sys.stderr.write(
                    f"note: {self.path} cannot be locked ({error.strerror}); make sure that no "
                    "other process trains there\n"
                )
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            yield

    def write_config(self, config_toml: str) -> None:
        """Write ``config.toml``, all or nothing."""
        with atomic_write(self.config) as file:
            file.write(config_toml.encode())

    def checkpoint_path(self, step: int) -> Path:
        """Return the path of the training state after ``step`` optimizer steps."""
        return self.checkpoints / f"step-{step:09d}.ckpt"

    def newest_checkpoint(self) -> Path | None:
        """Return the newest intact checkpoint, or None if there is no checkpoint.

        Damaged checkpoints are reported to the user and skipped.

        Raises:
            DataError: There are checkpoints, but none is intact.
        """
        paths: list[Path] = []
        for _ in range(_LISTINGS):
            paths = sorted(self.checkpoints.glob("step-*.ckpt"), reverse=True)
            for path in paths:
                if _is_whole(path):
                    return path
                if not (path.exists() or path.is_symlink()):
                    break  # the process that trains has removed it: there is a newer one
                sys.stderr.write(
                    f"note: {path} is damaged or truncated; using the previous checkpoint\n"
                )
            else:
                break
        if paths:
            raise DataError(
                f"all checkpoints in {self.checkpoints} are damaged; remove them to train this "
                "run from the start"
            )
        return None

    def newest_step(self) -> int:
        """Return the step of the newest checkpoint, intact or not; 0 without one."""
        return max(map(_step_in_name, self.checkpoints.glob("step-*.ckpt")), default=0)

    def best_step(self) -> int | None:
        """Return the step of the best validation so far; None without any."""
        if not self.validation.exists():
            return None
        rows = self.validation.read_text(encoding="utf-8").splitlines()
        return int(json.loads(rows[-1])["best_step"]) if rows else None

    @staticmethod
    def load_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
        """Load a training state without running any pickled code.

        Raises:
            DataError: It cannot be loaded, is not a checkpoint of mlcore, or its name has
                another step than its content.
        """
        import torch

        try:
            state = torch.load(path, map_location=map_location, weights_only=True)
        except UnicodeEncodeError:  # the path, not the file: the locale is not UTF-8
            raise
        except Exception as error:
            first = str(error).partition("\n")[0]
            raise DataError(f"{path} cannot be loaded: {first}") from error
        if not isinstance(state, dict) or not {"state_dict", "global_step"} <= state.keys():
            raise DataError(
                f"{path} is not a checkpoint of mlcore: it has no state_dict and global_step"
            )
        weights = state["state_dict"]
        if not isinstance(weights, dict) or not all(map(torch.is_tensor, weights.values())):
            raise DataError(f"{path} is not a checkpoint of mlcore: it holds no weights")
        if state["global_step"] != _step_in_name(path):
            raise DataError(
                f"{path} holds the state after step {state['global_step']}; give it the name "
                f"step-{state['global_step']:09d}.ckpt, or remove it"
            )
        return state

    def prune_checkpoints(self) -> None:
        """Remove all but the newest two checkpoints."""
        for path in sorted(self.checkpoints.glob("step-*.ckpt"))[:-_KEPT_CHECKPOINTS]:
            path.unlink()

    def remove_leftovers(self) -> None:
        """Remove the temporary files of a process that was killed while it wrote.

        Call only while no other process writes to this folder.
        """
        for folder in (self.path, self.checkpoints, self.model, self.plots):
            for path in folder.glob(".*.tmp"):
                path.unlink(missing_ok=True)

    def cut_metrics(self, last_step: int) -> None:
        """Drop the rows of metrics and validations after ``last_step``: they are made again."""
        for path in (self.metrics, self.validation):
            if not path.exists():
                continue
            kept = [
                line
                for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
                if _step_of(line) is not None and (_step_of(line) or 0) <= last_step
            ]
            with atomic_write(path) as file:
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
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(
                f"{self.path} has no {path.name}: the run stopped before it was written"
            ) from None
        except RecursionError:
            raise DataError(f"{path} cannot be read: it is nested too deeply") from None
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}") from error


def require_same_shapes(
    expected: Mapping[str, Tensor], found: Mapping[str, Tensor], what: str
) -> None:
    """Raise DataError unless the weights ``found`` in ``what`` are those of this network."""
    shapes, others = (
        {n: tuple(w.shape) for n, w in kept.items()} for kept in (expected, found)
    )
    wrong = [name for name in {**shapes, **others} if shapes.get(name) != others.get(name)]
    if wrong:
        first = wrong[0]
        raise DataError(
            f"{what} holds the weights of another network or loss than config.toml describes: "
            f"{len(wrong)} of {len(shapes)} differ, the first is {first!r} of shape "
            f"{others.get(first, 'none')} where {shapes.get(first, 'none')} is expected"
        )


def describe_environment(
    plugins: Sequence[Plugin],
    *,
    device: str,
    fingerprint: str,
    notes: Sequence[str],
    weights: Mapping[str, str] | None = None,
) -> Mapping[str, Any]:
    """Return the versions and hardware that can explain a difference between two runs.

    ``weights`` has the path and SHA-256 of the file that training starts from.
    """
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
        "weights": dict(weights or {}),
        "notes": list(notes),
    }


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


def _is_whole(path: Path) -> bool:
    """Return whether a checkpoint (a zip archive with checksums) is intact.

    zipfile compares every part with its checksum; torch reads headers that zipfile does not
    look at. Tensors stay on disk.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return False
        torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except UnicodeEncodeError:  # the path, not the file: the locale is not UTF-8
        raise
    except Exception:  # noqa: BLE001 - a damaged header makes either raise nearly anything
        return False
    return True


def _step_in_name(path: Path) -> int:
    number = path.stem.removeprefix("step-")
    return int(number) if number.isdecimal() else -1


def _step_of(line: str) -> int | None:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None  # a row truncated by a kill
