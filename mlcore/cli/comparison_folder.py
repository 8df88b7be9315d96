"""The folder of a comparison: its rows, their options and their runs."""

from __future__ import annotations

import fcntl
import shutil
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlcore.cli.launchers import Task
from mlcore.cli.variants import run_name
from mlcore.errors import ConfigError, DataError, MlcoreError
from mlcore.options import RunConfig, run_to_toml
from mlcore.run_folder import RunFolder

_LOCK = ".lock"
_SHARED_SECTIONS = ("dataset", "evaluation")


class ComparisonFolder:
    """A comparison on disk.

    ``plan.json`` has the options of every row; ``runs/ROW-seed-N`` are its runs, and
    ``search/ROW-rate-R`` those that chose learning rates.

    Args:
        path: The folder; created by :meth:`lock`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan = path / "plan.json"
        self.runs = path / "runs"
        self.search = path / "search"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other commands out of the folder; the lock ends with this process.

        A new comparison that fails before any of its runs starts leaves no folder.

        Raises:
            ConfigError: Another command uses the folder, it holds something else, or it cannot
                be created.
        """
        self._require_comparison()
        existed = self.path.exists()
        is_new = not existed or (self.path.is_dir() and not any(self.path.iterdir()))
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            file = (self.path / _LOCK).open("w", encoding="utf-8")
        except OSError as error:
            message = f"--out {self.path} cannot be created: {error.strerror}"
            raise ConfigError(message) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(
                    f"--out {self.path} is in use by another 'mlcore compare'; wait until it "
                    "ends, or choose another folder"
                ) from None
            except OSError:
                pass  # a file system without locks
            try:
                yield
            except MlcoreError:
                if is_new and not self.runs.exists() and not self.search.exists():
                    self._clear(keep=existed)
                raise

    def _require_comparison(self) -> None:
        """Raise ConfigError if the folder holds something else."""
        if self.plan.exists() or not self.path.is_dir():
            return
        if any(path.name != _LOCK for path in self.path.iterdir()):
            raise ConfigError(f"--out {self.path} is not empty and does not hold a comparison")

    def _clear(self, *, keep: bool) -> None:
        """Remove what this command wrote into a folder that was empty, or was not there."""
        shutil.rmtree(self.path / "logs", ignore_errors=True)
        self.plan.unlink(missing_ok=True)
        (self.path / _LOCK).unlink(missing_ok=True)
        if not keep:
            with suppress(OSError):
                self.path.rmdir()

    def add_rows(
        self, configs: Mapping[str, RunConfig], rates: Sequence[float], split: str
    ) -> list[str]:
        """Record the options of rows, and return the names of all rows in the folder.

        Raises:
            ConfigError: The folder holds something else, or rows that cannot be compared with
                these.
        """
        self._require_comparison()
        folder = RunFolder(self.path)
        new = {
            name: {
                "options": run_to_toml(config),
                "learning_rates": list(rates),
                "split": split,
            }
            for name, config in configs.items()
        }
        old = self._read_plan(folder)
        for name, row in new.items():
            if old.get(name, row) != row:
                raise ConfigError(
                    f"--out {self.path} holds runs of {name!r} with other options "
                    f"(see {self.plan}); choose another folder"
                )
        self._require_comparable(old, new)
        folder.write_json(self.plan, {**old, **new})
        return [*new, *(name for name in old if name not in new)]

    def _read_plan(self, folder: RunFolder) -> dict[str, Any]:
        """Return the options of the rows in the folder.

        Raises:
            DataError: The file is not what mlcore wrote.
        """
        plan = folder.read_json(self.plan) if self.plan.exists() else {}
        try:
            for row in plan.values():
                tomllib.loads(row["options"])
                list(row["learning_rates"]), str(row["split"])
        except (AttributeError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise DataError(
                f"{self.plan} is not the plan of a comparison: {type(error).__name__}: "
                f"{error}; restore it, or choose another --out"
            ) from error
        return dict(plan)

    def tasks(self, row: str) -> dict[int, Task]:
        """Return the finished runs of a row, by seed."""
        found: dict[int, Task] = {}
        prefix = f"{run_name(row)}-seed-"
        for path in self.runs.glob("*"):
            if path.name.startswith(prefix):
                with suppress(ValueError):
                    found[int(path.name.removeprefix(prefix))] = Task(config="", out=path)
        return {seed: found[seed] for seed in sorted(found) if found[seed].has_ended}

    def _require_comparable(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """Refuse to put rows into one table that were evaluated in different ways."""
        first = next(iter(new.values()))
        wanted = tomllib.loads(first["options"])
        for name, row in old.items():
            if row["split"] != first["split"]:
                raise ConfigError(
                    f"--out {self.path} holds results on the {row['split']} split, not on "
                    f"{first['split']}; choose another folder"
                )
            found = tomllib.loads(row["options"])
            for section in _SHARED_SECTIONS:
                if found.get(section) != wanted.get(section):
                    raise ConfigError(
                        f"--out {self.path} holds {name!r} with other options in [{section}] "
                        f"(see {self.plan}); choose another folder"
                    )
