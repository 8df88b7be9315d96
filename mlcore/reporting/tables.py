"""Results as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from mlcore.evaluation.results import OVERALL, Evaluation, require_same_protocol

if TYPE_CHECKING:
    from rich.table import Table

    from mlcore.models.weights import LoadedWeights

TABLE_AREA_M = 25.0
UPPER_BOUND = "upper bound"


class AccuracyRow(NamedTuple):
    """One line of the table.

    Attributes:
        condition: Name of the condition, or "all queries".
        num_queries: Queries of that condition.
        model: Name of the model, or "upper bound".
        accuracy: Top-1 accuracy at each threshold, in [0, 1].
        area: Area under the accuracy curve to 25 m, in [0, 1].
        recall_at_1: Recall@1, in [0, 1]; None for the upper bound.
    """

    condition: str
    num_queries: int
    model: str
    accuracy: tuple[float, ...]
    area: float
    recall_at_1: float | None


def accuracy_rows(evaluations: Sequence[Evaluation]) -> list[AccuracyRow]:
    """Return a row for each condition and model, with the upper bound after the models.

    Args:
        evaluations: Models judged by one protocol, in the order of the rows.

    Raises:
        DataError: The protocols differ.
    """
    require_same_protocol(evaluations)
    rows: list[AccuracyRow] = []
    for condition in evaluations[0].sections:
        rows += [_model_row(evaluation, condition) for evaluation in evaluations]
        rows.append(_bound_row(evaluations[0], condition))
    return rows


def accuracy_table(evaluations: Sequence[Evaluation]) -> Table:
    """Return :func:`accuracy_rows` as a table in percent, a section for each condition."""
    from rich import box
    from rich.table import Table

    protocol = evaluations[0].protocol
    table = Table(
        title=f"Top-1 localization accuracy (%) on {protocol.split}, "
        f"{protocol.num_references} references",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("condition")
    table.add_column("queries", justify="right")
    table.add_column("model")
    for threshold in protocol.thresholds_m:
        table.add_column(f"< {threshold:g} m", justify="right")
    table.add_column(f"area to {TABLE_AREA_M:g} m", justify="right")
    table.add_column(f"R@1, {protocol.recall_radius_m:g} m", justify="right")
    condition = ""
    for row in accuracy_rows(evaluations):
        is_first = row.condition != condition
        condition = row.condition
        table.add_row(
            condition if is_first else "",
            str(row.num_queries) if is_first else "",
            row.model,
            *[_percent(value) for value in (*row.accuracy, row.area, row.recall_at_1)],
            end_section=row.model == UPPER_BOUND,
            style="dim" if row.model == UPPER_BOUND else None,
        )
    return table


def _model_row(evaluation: Evaluation, condition: str | None) -> AccuracyRow:
    return AccuracyRow(
        condition=condition or OVERALL,
        num_queries=evaluation.num_queries(condition),
        model=evaluation.model,
        accuracy=tuple(
            evaluation.accuracy(threshold, condition)
            for threshold in evaluation.protocol.thresholds_m
        ),
        area=evaluation.area(TABLE_AREA_M, condition),
        recall_at_1=evaluation.recall(1, condition),
    )


def _bound_row(evaluation: Evaluation, condition: str | None) -> AccuracyRow:
    return AccuracyRow(
        condition=condition or OVERALL,
        num_queries=evaluation.num_queries(condition),
        model=UPPER_BOUND,
        accuracy=tuple(
            evaluation.upper_bound(threshold, condition)
            for threshold in evaluation.protocol.thresholds_m
        ),
        area=evaluation.area_bound(TABLE_AREA_M, condition),
        recall_at_1=None,
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def weights_table(weights: LoadedWeights) -> Table:
    """Return how many tensors of a file of weights fit the model, by part."""
    from rich import box
    from rich.table import Table

    table = Table(
        title=f"Weights from {weights.path} (SHA-256 {weights.sha256[:12]}...)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("part")
    for what in ("fit", "missing in the file", "left over"):
        table.add_column(what, justify="right")
    for part, *counts in weights.by_part:
        table.add_row(part, *map(str, counts))
    return table
