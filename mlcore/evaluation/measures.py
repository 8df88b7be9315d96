"""The measures that summaries, tables, the report and a comparison show.

A measure added to :data:`MEASURES` appears in all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mlcore.evaluation.results import Evaluation, EvaluationProtocol

Argument = float | None
"""A threshold or limit in metres, a number of references; None for a measure without one."""

Table = Literal["accuracy", "graded"]
"""Which table of results has the column."""

_Of = Callable[[Evaluation, Any, str | None], float | None]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """One measure, at each of its arguments.

    Attributes:
        key: Its name in summaries.
        value: The measure of an evaluation, at an argument, for a condition or, given None,
            for all queries.
        arguments: The arguments in the protocol: thresholds, limits, numbers of references.
            None for a measure without an argument.
        table: The table that it is in.
        heading: Of its column, given protocol and argument; None: not shown in tables.
        shown: The arguments that have a column; None for all.
        bound: The value of a perfect retrieval; None where that says nothing.
        unit: "%" for a share, "m" for metres.
    """

    key: str
    value: _Of
    arguments: Callable[[EvaluationProtocol], Sequence[Argument]] | None = None
    table: Table = "accuracy"
    heading: Callable[[EvaluationProtocol, Any], str] | None = None
    shown: Callable[[EvaluationProtocol], Sequence[Argument]] | None = None
    bound: _Of | None = None
    unit: Literal["%", "m"] = "%"

    def summary(self, evaluation: Evaluation, condition: str | None) -> Any:
        """Return the value, or the value of each argument by its text."""
        if self.arguments is None:
            return self.value(evaluation, None, condition)
        return {
            _text(argument): self.value(evaluation, argument, condition)
            for argument in self.arguments(evaluation.protocol)
        }

    def columns(self, protocol: EvaluationProtocol) -> list[Column]:
        """Return its columns of a table."""
        if self.heading is None:
            return []
        arguments = self.shown or self.arguments
        return [
            Column(measure=self, argument=argument, heading=self.heading(protocol, argument))
            for argument in ((None,) if arguments is None else arguments(protocol))
        ]


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table: a measure at one argument.

    Attributes:
        measure: The measure.
        argument: Its argument.
        heading: Its heading.
    """

    measure: Measure
    argument: Argument
    heading: str

    def value(self, evaluation: Evaluation, condition: str | None = None) -> float | None:
        """Return the measure for a condition or, given None, for all queries."""
        return self.measure.value(evaluation, self.argument, condition)

    def bound(self, evaluation: Evaluation, condition: str | None = None) -> float | None:
        """Return the value of a perfect retrieval; None where that says nothing."""
        bound = self.measure.bound
        return None if bound is None else bound(evaluation, self.argument, condition)

    def of_summary(self, summary: Mapping[str, Any]) -> float | None:
        """Return the value that :func:`summary` wrote; None if an older version did not."""
        found: Any = summary.get(self.measure.key)
        if self.measure.arguments is not None:
            found = (found or {}).get(_text(self.argument))
        value: float | None = found
        return value

    def text(self, value: float | None) -> str:
        """Return a value as a table shows it, shares in percent."""
        if value is None:
            return ""
        return f"{value:.1f}" if self.measure.unit == "m" else f"{100 * value:.1f}"


def _order_limits_m(protocol: EvaluationProtocol) -> Sequence[float]:
    return () if protocol.graded is None else protocol.graded.order_limits_m


def _ndcg_at(protocol: EvaluationProtocol) -> Sequence[int]:
    return () if protocol.graded is None else protocol.graded.ndcg_at


MEASURES: tuple[Measure, ...] = (
    Measure(
        key="accuracy",
        arguments=lambda protocol: protocol.thresholds_m,
        value=Evaluation.accuracy,
        heading=lambda _, threshold_m: f"< {threshold_m:g} m",
        bound=Evaluation.upper_bound,
    ),
    Measure(
        key="upper_bound",
        arguments=lambda protocol: protocol.thresholds_m,
        value=Evaluation.upper_bound,
    ),
    Measure(
        key="area",
        arguments=lambda protocol: protocol.auc_limits_m,
        value=Evaluation.area,
        heading=lambda _, limit_m: f"area to {limit_m:g} m",
        shown=lambda protocol: (protocol.area_limit_m,),
        bound=Evaluation.area_bound,
    ),
    Measure(
        key="recall",
        arguments=lambda protocol: protocol.recall_at,
        value=Evaluation.recall,
        heading=lambda protocol, number: f"R@{number}, {protocol.recall_radius_m:g} m",
        shown=lambda protocol: protocol.recall_at[:1],
    ),
    Measure(
        key="order_accuracy",
        arguments=_order_limits_m,
        value=Evaluation.order_accuracy,
        table="graded",
        heading=lambda _, limit_m: f"order {limit_m:g} m",
    ),
    Measure(
        key="ndcg",
        arguments=_ndcg_at,
        value=Evaluation.ndcg,
        table="graded",
        heading=lambda _, number: f"NDCG@{number}",
    ),
    Measure(
        key="ndcg_left_out",
        arguments=_ndcg_at,
        value=Evaluation.ndcg_left_out,
    ),
    Measure(
        key="nearest_first",
        value=lambda evaluation, _, condition: evaluation.nearest_first(condition),
        table="graded",
        heading=lambda *_: "nearest first",
    ),
    Measure(
        key="average_precision",
        value=lambda evaluation, _, condition: evaluation.average_precision(condition),
        table="graded",
        heading=lambda protocol, _: f"AP, {protocol.recall_radius_m:g} m",
    ),
    Measure(
        key="recall_at_full_precision",
        value=lambda evaluation, _, condition: evaluation.recall_at_full_precision(condition),
        table="graded",
        heading=lambda *_: "R at 100 % P",
    ),
    Measure(
        key="median_error_m",
        value=lambda evaluation, _, condition: evaluation.median_error(condition),
        table="graded",
        heading=lambda *_: "median (m)",
        bound=lambda evaluation, _, condition: evaluation.median_error_bound(condition),
        unit="m",
    ),
    Measure(
        key="median_error_bound_m",
        value=lambda evaluation, _, condition: evaluation.median_error_bound(condition),
    ),
)


def columns(protocol: EvaluationProtocol, table: Table) -> list[Column]:
    """Return the columns of a table of results of a protocol."""
    return [
        column
        for measure in MEASURES
        if measure.table == table
        for column in measure.columns(protocol)
    ]


def summary(evaluation: Evaluation, condition: str | None = None) -> dict[str, Any]:
    """Return every measure of the protocol, for JSON."""
    return {"num_queries": evaluation.num_queries(condition)} | {
        measure.key: measure.summary(evaluation, condition) for measure in MEASURES
    }


def summaries(evaluation: Evaluation) -> dict[str, Any]:
    """Return the summary of all queries and of each condition, for JSON."""
    return {
        "overall": summary(evaluation),
        "conditions": {
            name: summary(evaluation, name) for name in evaluation.sections if name is not None
        },
    }


def metres(distance_m: float) -> str:
    """Return a geometric distance as text; infinite ones are those between regions."""
    return f"{distance_m:.1f} m" if math.isfinite(distance_m) else "another region"


def _text(argument: Argument) -> str:
    return f"{argument:g}"
