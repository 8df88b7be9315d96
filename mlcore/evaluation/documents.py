"""``evaluation.json``: results as JSON, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

import numpy as np

from mlcore.errors import DataError
from mlcore.evaluation.graded import GradedColumns, GradedProtocol
from mlcore.evaluation.measures import summaries
from mlcore.evaluation.results import Evaluation, EvaluationProtocol

_FORMAT = 1

_GRADED_COLUMNS = {"order_right": np.float64, "order_pairs": np.int64, "ndcg": np.float64}
_COLUMNS = {
    "condition": np.int64,
    "query_index": np.int64,
    "reference_index": np.int64,
    "distance_m": np.float64,
    "embedding_distance": np.float64,
    "nearest_m": np.float64,
    "first_hit_rank": np.int64,
}
_DISTANCES = ("distance_m", "nearest_m")
"""JSON has no infinity: the distance of images of different regions is null."""


def to_document(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Return the content of ``evaluation.json``."""
    return {"format": _FORMAT, "evaluations": [_to_json(one) for one in evaluations]}


def from_document(content: Any) -> list[Evaluation]:
    """Read the content of ``evaluation.json``.

    Raises:
        DataError: It is of another format, a field is missing or of another kind.
    """
    if not isinstance(content, Mapping) or content.get("format") != _FORMAT:
        found = content.get("format") if isinstance(content, Mapping) else None
        raise DataError(f"expected an evaluation of format {_FORMAT}, found {found!r}")
    evaluations = content.get("evaluations")
    if not isinstance(evaluations, list) or not evaluations:
        raise DataError(f"expected an evaluation of format {_FORMAT}, found an empty one")
    return [_from_json(one) for one in evaluations]


def protocol_from_json(content: Mapping[str, Any]) -> EvaluationProtocol:
    """Read a protocol.

    Raises:
        DataError: A field is missing or unknown.
    """
    values = {name: _tuple(value) for name, value in content.items()}
    if values.get("graded") is not None:
        graded = {name: _tuple(value) for name, value in values["graded"].items()}
        values["graded"] = GradedProtocol(**graded)
    try:
        return EvaluationProtocol(**values)
    except TypeError as error:
        raise DataError(f"the protocol of an evaluation is damaged: {error}") from error


def _to_json(evaluation: Evaluation) -> dict[str, Any]:
    content: dict[str, Any] = {"protocol_digest": evaluation.protocol.digest}
    for field in fields(evaluation):
        value = getattr(evaluation, field.name)
        content[field.name] = value.tolist() if isinstance(value, np.ndarray) else value
    for name in _DISTANCES:
        content[name] = [None if value == np.inf else value for value in content[name]]
    if evaluation.graded is not None:
        content["graded"] = {
            "order_right": evaluation.graded.order_right.tolist(),
            "order_pairs": evaluation.graded.order_pairs.tolist(),
            "ndcg": [
                [None if np.isnan(value) else value for value in row]
                for row in evaluation.graded.ndcg.tolist()
            ],
        }
    content["protocol"] = asdict(evaluation.protocol)
    content["summary"] = summaries(evaluation)
    return content


def _from_json(content: Mapping[str, Any]) -> Evaluation:
    try:
        values = {
            field.name: content[field.name]
            for field in fields(Evaluation)
            if field.name != "graded"  # which older files do not have
        }
        protocol = protocol_from_json(values.pop("protocol"))
        for name in _DISTANCES:
            values[name] = [np.inf if value is None else value for value in values[name]]
        columns: dict[str, Any] = {
            name: np.array(values.pop(name), dtype=kind) for name, kind in _COLUMNS.items()
        }
        plain = {name: _tuple(value) for name, value in values.items()}
        graded = _graded_from_json(content.get("graded"), len(columns["distance_m"]))
        found = Evaluation(protocol=protocol, graded=graded, **columns, **plain)
        _require_one_shape(found)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise DataError(
            f"this is not an evaluation of format {_FORMAT}: {type(error).__name__}: {error}"
        ) from error
    return found


def _require_one_shape(found: Evaluation) -> None:
    """Raise ValueError unless every column has a value per query that its protocol expects."""
    queries = len(found.query_index)
    expected: dict[str, tuple[int, ...]] = dict.fromkeys(_COLUMNS, (queries,))
    columns = {name: getattr(found, name) for name in _COLUMNS}
    graded = found.protocol.graded
    if found.graded is not None and graded is not None:
        columns |= {name: getattr(found.graded, name) for name in _GRADED_COLUMNS}
        limits, numbers = len(graded.order_limits_m), len(graded.ndcg_at)
        expected |= {"order_right": (queries, limits), "order_pairs": (queries, limits)}
        expected |= {"ndcg": (queries, numbers)}
    for name, column in columns.items():
        if column.shape != expected[name]:
            raise ValueError(f"{name} has the shape {column.shape}, not {expected[name]}")
    codes = found.condition
    if len(codes) and not 0 <= codes.min() <= codes.max() < len(found.conditions):
        raise ValueError(f"a code of condition is not one of {len(found.conditions)}")


def _graded_from_json(
    content: Mapping[str, Any] | None, num_queries: int
) -> GradedColumns | None:
    if content is None:
        return None
    columns: dict[str, Any] = {
        name: np.array(content[name], dtype=kind).reshape(num_queries, -1)
        for name, kind in _GRADED_COLUMNS.items()
    }
    return GradedColumns(**columns)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
