"""Results of an evaluation: the outcome of every query, and the measures computed from it.

Measures are always computed from the per-query columns, so that a summary always agrees with
them. All distances are in metres unless called embedding distances.
:mod:`mlcore.evaluation.measures` lists which measures tables show,
:mod:`mlcore.evaluation.documents` writes results to files.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore.evaluation.graded import GradedColumns, GradedProtocol

CURVE_LIMIT_M = 25.0
"""Largest threshold of the metres curve, and the limit of the area that tables show."""
CURVE_POINTS = 50
OVERALL = "all queries"
_SAME_DISTANCE_M = 1e-6


@dataclass(frozen=True, kw_only=True)
class EvaluationProtocol:
    """The conditions of a measurement; results are comparable if these agree.

    Attributes:
        data_fingerprint: The data set's.
        split: "test" or "validation".
        num_references: References searched, after spacing.
        num_queries: Queries evaluated.
        spacing_m: Least distance between consecutive references; 0 for all.
        thresholds_m: Thresholds of top-1 accuracy.
        auc_limits_m: Limits of the area under the accuracy curve.
        recall_at: Numbers N of Recall@N.
        recall_radius_m: A reference within this distance, inclusive, counts for Recall@N and
            for precision.
        graded: Of the graded measures; None for results of versions without them.
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
    graded: GradedProtocol | None = None

    @property
    def area_limit_m(self) -> float:
        """The limit of the area that tables show: 25 m, or the largest if that is not one."""
        limits_m = self.auc_limits_m or (CURVE_LIMIT_M,)
        return CURVE_LIMIT_M if CURVE_LIMIT_M in limits_m else max(limits_m)

    @property
    def digest(self) -> str:
        """Short hash over all fields; equal protocols have equal digests."""
        content = asdict(self)
        if self.graded is None:  # as it was before there were graded measures
            del content["graded"]
        text = json.dumps(content, sort_keys=True)
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


class PrecisionRecall(NamedTuple):
    """Precision and recall at each distinct embedding distance, each ``(T,)`` float64.

    Attributes:
        threshold: Ascending embedding distances.
        precision: Share of the answers that are correct.
        recall: Share of the answerable queries that are answered correctly.
    """

    threshold: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What one model retrieved for ``Q`` queries.

    Attributes:
        model: Name of the model, such as "trained", "untrained" or "pixels".
        protocol: How it was evaluated.
        whitening: The images it was fitted on: "train", "references" or "none".
        whitening_images: How many these are.
        dimensions: Embedding dimensions that were searched.
        conditions: Names of the conditions.
        condition: ``(Q,)`` int64 codes into ``conditions``.
        query_index: ``(Q,)`` int64, the query's image index in the data set.
        reference_index: ``(Q,)`` int64, image index of the first retrieved reference.
        distance_m: ``(Q,)`` float64, geometric distance to it; infinite if it is in another
            region.
        embedding_distance: ``(Q,)`` float64, distance to it between embeddings.
        nearest_m: ``(Q,)`` float64, geometric distance to the nearest reference; infinite if
            there is none in the query's region.
        first_hit_rank: ``(Q,)`` int64, rank from 0 of the first retrieved reference within
            the recall radius; -1 if none is among the retrieved.
        skipped: Names of images that could not be read.
        graded: Of the graded measures; None for results of versions without them.
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
    graded: GradedColumns | None = None

    @property
    def present_conditions(self) -> tuple[str, ...]:
        """Names of the conditions that have queries."""
        present = np.unique(self.condition)
        return tuple(self.conditions[code] for code in present)

    @property
    def sections(self) -> tuple[str | None, ...]:
        """The conditions to report, and None, for all of them, if there are several.

        Conditions such as "a: sun" and "a: night", of one of several data sets, are followed by
        "a", for both.
        """
        found: list[str | None] = []
        present = self.present_conditions
        for group, members in itertools.groupby(present, lambda name: name.partition(": ")[0]):
            names = list(members)
            is_part = 1 < len(names) < len(present) and group not in names
            found += [*names, group] if is_part else names
        return (*found, None) if len(present) > 1 else tuple(found)

    def num_queries(self, condition: str | None = None) -> int:
        """Return how many queries there are, of one condition or in all."""
        return len(self._rows(self.condition, condition))

    def accuracy(self, threshold_m: float, condition: str | None = None) -> float:
        """Return top-1 localization accuracy: distance strictly below the threshold.

        Args:
            threshold_m: The threshold.
            condition: Only the queries of this condition, or of a group of them, such as "a"
                for "a: sun" and "a: night"; None for all.
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

    def nearest_first(self, condition: str | None = None) -> float:
        """Return the share of queries whose first retrieved reference is the nearest one.

        References within 1e-6 m of the nearest count as nearest too.
        """
        excess_m = np.full(len(self.distance_m), np.inf)
        known = np.isfinite(self.distance_m)
        np.subtract(self.distance_m, self.nearest_m, out=excess_m, where=known)
        return float(np.mean(self._rows(excess_m, condition) <= _SAME_DISTANCE_M))

    def median_error(self, condition: str | None = None) -> float | None:
        """Return the median distance (metres) to the first retrieved reference.

        None if it is infinite: half of these references are in another region.
        """
        return _finite(float(np.median(self._rows(self.distance_m, condition))))

    def median_error_bound(self, condition: str | None = None) -> float | None:
        """Return the median distance (metres) to the nearest reference; None as above."""
        return _finite(float(np.median(self._rows(self.nearest_m, condition))))

    def order_accuracy(self, limit_m: float, condition: str | None = None) -> float | None:
        """Return the share of pairs of references that embeddings order correctly.

        Pairs within ``limit_m`` of a query, pooled over all queries; see
        :func:`mlcore.evaluation.graded.order_counts`. None without any pair.
        """
        if self.graded is None or self.protocol.graded is None:
            return None
        place = self.protocol.graded.order_limits_m.index(limit_m)
        num_pairs = int(self._rows(self.graded.order_pairs[:, place], condition).sum())
        right = float(self._rows(self.graded.order_right[:, place], condition).sum())
        return right / num_pairs if num_pairs else None

    def ndcg(self, num_retrieved: int, condition: str | None = None) -> float | None:
        """Return the mean NDCG@k over the queries that have a reference with a gain.

        See :func:`mlcore.evaluation.graded.ndcg`. None without any such query.
        """
        if self.graded is None or self.protocol.graded is None:
            return None
        place = self.protocol.graded.ndcg_at.index(num_retrieved)
        values = self._rows(self.graded.ndcg[:, place], condition)
        known = values[~np.isnan(values)]
        return float(known.mean()) if len(known) else None

    def ndcg_left_out(self, num_retrieved: int, condition: str | None = None) -> int | None:
        """Return the number of queries that :meth:`ndcg` leaves out."""
        if self.graded is None or self.protocol.graded is None:
            return None
        place = self.protocol.graded.ndcg_at.index(num_retrieved)
        return int(np.isnan(self._rows(self.graded.ndcg[:, place], condition)).sum())

    def precision_recall(self, condition: str | None = None) -> PrecisionRecall:
        """Return precision and recall over a threshold on the embedding distance.

        A query is answered if its first retrieved reference is not beyond the threshold, and
        the answer is correct within ``recall_radius_m`` (inclusive). Precision is the share
        of answers that are correct; a query without any reference in the radius counts
        against it. Recall is the share of correctly answered queries among those that have
        such a reference. Queries of equal embedding distance are answered together.
        """
        distance = self._rows(self.embedding_distance, condition)
        radius_m = self.protocol.recall_radius_m
        is_correct = self._rows(self.distance_m, condition) <= radius_m
        num_possible = int((self._rows(self.nearest_m, condition) <= radius_m).sum())
        order = np.argsort(distance, kind="stable")
        distance, num_correct = distance[order], np.cumsum(is_correct[order])
        ends = np.flatnonzero(np.append(np.diff(distance) > 0, True))
        recall = num_correct[ends] / max(num_possible, 1)
        return PrecisionRecall(distance[ends], num_correct[ends] / (ends + 1), recall)

    def average_precision(self, condition: str | None = None) -> float:
        """Return the area under precision over recall, ``sum_n (R_n - R_{n-1}) P_n``."""
        curve = self.precision_recall(condition)
        return float(np.sum(np.diff(curve.recall, prepend=0.0) * curve.precision))

    def recall_at_full_precision(self, condition: str | None = None) -> float:
        """Return the largest recall at a precision of 100 %, 0 if there is none."""
        curve = self.precision_recall(condition)
        return float(curve.recall[curve.precision == 1].max(initial=0.0))

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

    def _rows(self, column: NDArray[Any], condition: str | None) -> NDArray[Any]:
        if condition is None:
            return column
        members = [name == condition for name in self.conditions]
        if condition not in self.conditions:
            members = [name.startswith(f"{condition}: ") for name in self.conditions]
        rows: NDArray[Any] = column[np.array(members)[self.condition]]
        return rows


def require_same_protocol(evaluations: Sequence[Evaluation]) -> None:
    """Refuse to compare results of different protocols.

    Raises:
        DataError: Protocols differ; the message names the first difference.
    """
    first = evaluations[0]
    for other in evaluations[1:]:
        for field in fields(EvaluationProtocol):
            one, another = (getattr(each.protocol, field.name) for each in (first, other))
            # Older results have no graded measures; all others can still be compared.
            if one != another and not (field.name == "graded" and None in (one, another)):
                raise DataError(
                    f"results of {first.model!r} and {other.model!r} cannot be compared: "
                    f"{field.name} is {one} and {another}"
                )


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _area(distance_m: NDArray[np.float64], limit_m: float) -> float:
    return float(np.mean(np.maximum(0.0, 1.0 - distance_m / limit_m)))


def _share_below(
    distance_m: NDArray[np.float64], thresholds_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    num_below = np.searchsorted(np.sort(distance_m), thresholds_m, side="left")
    share: NDArray[np.float64] = num_below / len(distance_m)
    return share
