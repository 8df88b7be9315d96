"""Results in Python: records for programs, tables and curves in a notebook."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlcore.api.model import TrainedModel, load_run
from mlcore.reporting.notebook import Result

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mlcore.cli.commands.compare import Compared
    from mlcore.evaluation.comparison import Entry
    from mlcore.evaluation.results import Evaluation


@dataclass(frozen=True, repr=False)
class RunResult(Result):
    """The results of a run: what :func:`train` and :func:`evaluate` return.

    Attributes:
        path: The run folder.
        file: The file of these results.
        evaluations: One for each model: untrained, pixels, trained; none if training was not
            to evaluate.
        warnings: What went wrong in training without ending it.
    """

    path: Path
    file: Path
    evaluations: tuple[Evaluation, ...]
    warnings: tuple[str, ...] = ()

    def table(self) -> list[dict[str, Any]]:
        """Return a record for each model and condition, and one for "all queries".

        Names, the number of queries, and the measures of the tables; shares in [0, 1].
        """
        from mlcore.evaluation.results import OVERALL

        return [
            {"model": one.model, "condition": condition or OVERALL, **_measures(one, condition)}
            for one in self.evaluations
            for condition in (*one.present_conditions, None)
        ]

    def view(self) -> RenderableType:
        """Return the tables of ``mlcore evaluate``."""
        if not self.evaluations:
            return f"{self.path} is trained and not evaluated (training.evaluate = false)"
        from mlcore.reporting.tables import result_tables

        return result_tables(self.evaluations)

    def picture(self) -> bytes:
        """Return the curves of accuracy by distance as a PNG."""
        if not self.evaluations:
            return b""
        from tempfile import TemporaryDirectory

        from mlcore.reporting.figures.curves import save_curves

        with TemporaryDirectory() as folder:
            save_curves(self.evaluations, Path(folder) / "metres.png")
            return (Path(folder) / "metres.png").read_bytes()

    def load(self) -> TrainedModel:
        """Open the trained model."""
        return load_run(self.path)

    def __repr__(self) -> str:
        models = ", ".join(one.model for one in self.evaluations) or "trained, not evaluated"
        return f"<RunResult of {self.path}: {models}; print it, or see .table()>"


class Comparison(Result):
    """The rows of a comparison: what :func:`compare` returns.

    Args:
        path: Its folder.
        found: What the runs gave.

    Attributes:
        path: Its folder.
    """

    def __init__(self, path: Path, found: Compared) -> None:
        self.path = path
        self._found = found

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The rows: losses, then baselines, each with its evaluations by seed."""
        return tuple(self._found.entries)

    def table(self) -> list[dict[str, Any]]:
        """Return a record for each loss and seed: names, measures of all queries."""
        return [
            {
                "loss": entry.name,
                "seed": seed,
                "learning_rate": entry.learning_rate,
                **_measures(one, None),
            }
            for entry in self.entries
            for seed, one in sorted(entry.evaluations.items())
        ]

    def view(self) -> RenderableType:
        """Return the tables of ``mlcore compare``: means over seeds, with intervals."""
        from mlcore.cli.commands.compare import tables_of

        return tables_of(self._found)

    def picture(self) -> bytes:
        """Return the curves of accuracy by distance as a PNG; empty if all runs diverged."""
        figure = self.path / "metres.png"
        return figure.read_bytes() if figure.exists() else b""

    def __repr__(self) -> str:
        names = ", ".join(entry.name for entry in self.entries)
        return f"<Comparison in {self.path}: {names}; print it, or see .table()>"


def _measures(evaluation: Evaluation, condition: str | None) -> dict[str, Any]:
    """Return the columns of both tables, shares in [0, 1]."""
    from mlcore.evaluation.measures import columns

    protocol = evaluation.protocol
    shown = [*columns(protocol, "accuracy"), *columns(protocol, "graded")]
    return {"queries": evaluation.num_queries(condition)} | {
        column.heading: column.value(evaluation, condition) for column in shown
    }
