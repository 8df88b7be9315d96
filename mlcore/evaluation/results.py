"""Results of an evaluation: what was found for every query, and the measures that follow.

Measures are always computed from the per-query columns, so that a summary cannot get out of
step with them. All distances are in metres unless called embedding distances.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError

CURVE_LIMIT_M = 25.0
CURVE_POINTS = 50
OVERALL = "all queries"
_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """What must agree for two results to be comparable.

    Attributes:
        data_fingerprint: The data set's.
        split: "test" or "validation".
        num_references: References searched, after spacing.
        num_queries: Queries looked for.
        spacing_m: Least distance between consecutive references; 0 for all.
        thresholds_m: Thresholds of top-1 accuracy.
        auc_limits_m: Limits of the area under the accuracy curve.
        recall_at: Numbers N of Recall@N.
        recall_radius_m: A reference within this distance, inclusive, counts for Recall@N.
    """

    data_fingerprint: str
    split: str
    num_references: int
    num_queries: int
    spacing_m: float
    thresholds_m: tuple[float, ...]
    auc_limits_m: tuple[float, ...]
    recall_at: tuple[int, ...]
    recall_radius_m: float

    @property
    def digest(self) -> str:
        """Short hash over all fields; equal protocols have equal digests."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class Curve(NamedTuple):
    """Top-1 accuracy against the threshold, each ``(50,)`` float64.

    Attributes:
        threshold_m: From 0 to 25 m.
        accuracy: Share of queries whose first retrieved reference is nearer than that.
        upper_bound: Share of queries that have any reference nearer than that.
    """

    threshold_m: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    upper_bound: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one model found for ``Q`` queries.

    Attributes:
        model: Name of the model, such as "trained", "untrained" or "pixels".
        protocol: How it was judged.
        whitening: What whitening was fitted on: "train", "references" or "none".
        whitening_images: Images it was fitted on.
        dimensions: Embedding dimensions that were searched.
        conditions: Names of the conditions.
        condition: ``(Q,)`` int64 codes into ``conditions``.
        query_index: ``(Q,)`` int64, the query's image index in the data set.
        reference_index: ``(Q,)`` int64, image index of the first retrieved reference.
        distance_m: ``(Q,)`` float64, geometric distance to it.
        embedding_distance: ``(Q,)`` float64, distance to it between embeddings.
        nearest_m: ``(Q,)`` float64, geometric distance to the nearest reference.
        first_hit_rank: ``(Q,)`` int64, rank from 0 of the first retrieved reference within
            the recall radius; -1 if none is among the retrieved.
        skipped: Names of images that could not be read and were left out.
    """

    model: str
    protocol: EvaluationProtocol
    whitening: str
    whitening_images: int
    dimensions: int
    conditions: tuple[str, ...]
    condition: NDArray[np.int64]
    query_index: NDArray[np.int64]
    reference_index: NDArray[np.int64]
    distance_m: NDArray[np.float64]
    embedding_distance: NDArray[np.float64]
    nearest_m: NDArray[np.float64]
    first_hit_rank: NDArray[np.int64]
    skipped: tuple[str, ...] = ()

    @property
    def present_conditions(self) -> tuple[str, ...]:
        """Names of the conditions that have queries."""
        present = np.unique(self.condition)
        return tuple(self.conditions[code] for code in present)

    @property
    def sections(self) -> tuple[str | None, ...]:
        """The conditions to report, and None, for all of them, if there are several."""
        present = self.present_conditions
        return (*present, None) if len(present) > 1 else present

    def num_queries(self, condition: str | None = None) -> int:
        """Return how many queries there are, of one condition or in all."""
        return len(self._rows(self.condition, condition))

    def accuracy(self, threshold_m: float, condition: str | None = None) -> float:
        """Return top-1 localization accuracy: distance strictly below the threshold.

        Args:
            threshold_m: The threshold.
            condition: Judge the queries of this condition only; None takes all.
        """
        return float(np.mean(self._rows(self.distance_m, condition) < threshold_m))

    def upper_bound(self, threshold_m: float, condition: str | None = None) -> float:
        """Return the accuracy of a perfect retrieval, strict like :meth:`accuracy`."""
        return float(np.mean(self._rows(self.nearest_m, condition) < threshold_m))

    def area(self, limit_m: float, condition: str | None = None) -> float:
        """Return the area under the accuracy curve from 0 to ``limit_m``, over ``limit_m``.

        Exact: the mean over queries of ``max(0, 1 - d / limit)``.
        """
        return _area(self._rows(self.distance_m, condition), limit_m)

    def area_bound(self, limit_m: float, condition: str | None = None) -> float:
        """Return the area of a perfect retrieval."""
        return _area(self._rows(self.nearest_m, condition), limit_m)

    def recall(self, num_retrieved: int, condition: str | None = None) -> float:
        """Return Recall@N; a query without any reference in the radius is a miss.

        Raises:
            ValueError: Fewer references than ``num_retrieved`` were retrieved.
        """
        if num_retrieved > max(self.protocol.recall_at):
            raise ValueError(
                f"Recall@{num_retrieved}: only {max(self.protocol.recall_at)} were retrieved"
            )
        rank = self._rows(self.first_hit_rank, condition)
        return float(np.mean((rank >= 0) & (rank < num_retrieved)))

    def curve(
        self, condition: str | None = None, limits_m: tuple[float, float] = (0.0, CURVE_LIMIT_M)
    ) -> Curve:
        """Return accuracy and upper bound at 50 thresholds, in [0, 25] m by default."""
        thresholds = np.linspace(*limits_m, CURVE_POINTS)
        return Curve(
            thresholds,
            _share_below(self._rows(self.distance_m, condition), thresholds),
            _share_below(self._rows(self.nearest_m, condition), thresholds),
        )

    def summary(self, condition: str | None = None) -> dict[str, Any]:
        """Return every measure of the protocol, for JSON."""
        protocol = self.protocol
        return {
            "num_queries": self.num_queries(condition),
            "accuracy": {f"{d:g}": self.accuracy(d, condition) for d in protocol.thresholds_m},
            "upper_bound": {
                f"{d:g}": self.upper_bound(d, condition) for d in protocol.thresholds_m
            },
            "area": {f"{d:g}": self.area(d, condition) for d in protocol.auc_limits_m},
            "recall": {str(n): self.recall(n, condition) for n in protocol.recall_at},
        }

    def to_json(self) -> dict[str, Any]:
        """Return all fields and the summaries as what ``json`` can write."""
        content: dict[str, Any] = {"protocol_digest": self.protocol.digest}
        for field in fields(self):
            value = getattr(self, field.name)
            content[field.name] = value.tolist() if isinstance(value, np.ndarray) else value
        content["protocol"] = asdict(self.protocol)
        content["summary"] = {
            "overall": self.summary(),
            "conditions": {name: self.summary(name) for name in self.present_conditions},
        }
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Evaluation:
        """Read what :meth:`to_json` returned.

        Raises:
            DataError: A field is missing or of another kind.
        """
        try:
            values = {field.name: content[field.name] for field in fields(cls)}
            protocol = {name: _tuple(value) for name, value in values.pop("protocol").items()}
            columns: dict[str, Any] = {
                name: np.array(values.pop(name), dtype=np.float64 if real else np.int64)
                for name, real in _COLUMNS.items()
            }
            plain = {name: _tuple(value) for name, value in values.items()}
            return cls(protocol=EvaluationProtocol(**protocol), **columns, **plain)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"this is not an evaluation of format {_FORMAT}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def _rows(self, column: NDArray[Any], condition: str | None) -> NDArray[Any]:
        if condition is None:
            return column
        rows: NDArray[Any] = column[self.condition == self.conditions.index(condition)]
        return rows


_COLUMNS = {
    "condition": False,
    "query_index": False,
    "reference_index": False,
    "distance_m": True,
    "embedding_distance": True,
    "nearest_m": True,
    "first_hit_rank": False,
}


def skipped_notes(results: Sequence[Evaluation]) -> tuple[str, ...]:
    """Return which images the evaluation left out, each once, for the user."""
    skipped = dict.fromkeys(name for result in results for name in result.skipped)
    return tuple(f"left out of the evaluation, unreadable: {name}" for name in skipped)


def to_document(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """Return the content of ``evaluation.json``."""
    return {"format": _FORMAT, "evaluations": [one.to_json() for one in evaluations]}


def from_document(content: Any) -> list[Evaluation]:
    """Read the content of ``evaluation.json``.

    Raises:
        DataError: It is of another format, or no such document at all.
    """
    if not isinstance(content, Mapping) or content.get("format") != _FORMAT:
        found = content.get("format") if isinstance(content, Mapping) else None
        raise DataError(f"an evaluation of format {_FORMAT} is expected, found {found!r}")
    evaluations = content.get("evaluations")
    if not isinstance(evaluations, list) or not evaluations:
        raise DataError(f"an evaluation of format {_FORMAT} is expected, found none in it")
    return [Evaluation.from_json(one) for one in evaluations]


def require_same_protocol(evaluations: Sequence[Evaluation]) -> None:
    """Refuse to put results side by side that were not judged alike.

    Raises:
        DataError: Protocols differ; the message names the first difference.
    """
    first = evaluations[0]
    for other in evaluations[1:]:
        for name, value in asdict(first.protocol).items():
            if getattr(other.protocol, name) != value:
                raise DataError(
                    f"results of {first.model!r} and {other.model!r} cannot be compared: "
                    f"{name} is {value} and {getattr(other.protocol, name)}"
                )


def _area(distance_m: NDArray[np.float64], limit_m: float) -> float:
    return float(np.mean(np.maximum(0.0, 1.0 - distance_m / limit_m)))


def _share_below(
    distance_m: NDArray[np.float64], thresholds_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    num_below = np.searchsorted(np.sort(distance_m), thresholds_m, side="left")
    share: NDArray[np.float64] = num_below / len(distance_m)
    return share


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
