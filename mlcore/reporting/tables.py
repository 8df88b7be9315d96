"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mlcore.evaluation.measures import Column, columns
from mlcore.evaluation.results import OVERALL, Evaluation, require_same_protocol

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

    from mlcore.models.weights import LoadedWeights

UPPER_BOUND = "upper bound"
GRADED_TITLE = "Graded measures (%): does the order of embeddings follow the distances?"


class ResultRow(NamedTuple):
    """One line of the table.

    Attributes:
        condition: Name of the condition, or "all queries".
        num_queries: Queries of that condition.
        model: Name of the model, or "upper bound".
        values: One per column; None where there is none to show.
    """

    condition: str
    num_queries: int
    model: str
    values: tuple[float | None, ...]


def result_rows(evaluations: Sequence[Evaluation], shown: Sequence[Column]) -> list[ResultRow]:
    """Return a row for each condition and model, with the upper bound after the models.

    Args:
        evaluations: Models evaluated by one protocol, in the order of the rows.
        shown: The columns.

    Raises:
        DataError: The protocols differ.
    """
    require_same_protocol(evaluations)
    first = evaluations[0]
    rows: list[ResultRow] = []
    for condition in first.sections:
        values = [
            (one.model, tuple(column.value(one, condition) for column in shown))
            for one in evaluations
        ]
        values.append((UPPER_BOUND, tuple(column.bound(first, condition) for column in shown)))
        rows += [
            ResultRow(condition or OVERALL, first.num_queries(condition), model, of_model)
            for model, of_model in values
        ]
    return rows


def result_tables(evaluations: Sequence[Evaluation]) -> Group:
    """Return the table of accuracy and that of the graded measures, one below the other."""
    from rich.console import Group

    return Group(accuracy_table(evaluations), graded_table(evaluations))


def accuracy_table(evaluations: Sequence[Evaluation]) -> Table:
    """Return accuracy in percent, a section per condition."""
    protocol = evaluations[0].protocol
    title = (
        f"Top-1 localization accuracy (%) on {protocol.split}, "
        f"{protocol.num_references} references, {whitening_text(evaluations)}"
    )
    return _table(evaluations, columns(protocol, "accuracy"), title)


def graded_table(evaluations: Sequence[Evaluation]) -> Table:
    """Return the graded measures, shares in percent, a section per condition."""
    return _table(evaluations, columns(evaluations[0].protocol, "graded"), GRADED_TITLE)


def skipped_notes(evaluations: Sequence[Evaluation]) -> list[str]:
    """Return one note per image that could not be read, and is in no result."""
    names = dict.fromkeys(name for one in evaluations for name in one.skipped)
    return [f"skipped, cannot be read: {name}" for name in names]


def whitening_text(evaluations: Sequence[Evaluation]) -> str:
    """Return how the embeddings were whitened, and the option for it."""
    whitened = [one for one in evaluations if one.whitening != "none"]
    if not whitened:
        return "not whitened (--evaluation.whitening)"
    sizes = sorted({one.dimensions for one in whitened})
    images = {"train": "training images", "references": "references"}[whitened[-1].whitening]
    return (
        f"whitened to {' or '.join(map(str, sizes))} dimensions on "
        f"{whitened[-1].whitening_images} {images}"
    )


def _table(evaluations: Sequence[Evaluation], shown: Sequence[Column], title: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("condition")
    table.add_column("queries", justify="right")
    table.add_column("model")
    for column in shown:
        table.add_column(column.heading, justify="right")
    condition = ""
    for row in result_rows(evaluations, shown):
        is_first = row.condition != condition
        condition = row.condition
        table.add_row(
            condition if is_first else "",
            str(row.num_queries) if is_first else "",
            row.model,
            *[column.text(value) for column, value in zip(shown, row.values, strict=True)],
            end_section=row.model == UPPER_BOUND,
            style="dim" if row.model == UPPER_BOUND else None,
        )
    return table


def weights_table(weights: LoadedWeights) -> Table:
    """Return how many tensors of a file of weights fit the model, by part."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("part")
    for what in ("fit", "missing in the file", "left over"):
        table.add_column(what, justify="right")
    for part, *counts in weights.by_part:
        table.add_row(part, *map(str, counts))
    return table
