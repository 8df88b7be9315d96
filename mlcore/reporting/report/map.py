"""The map of a report: every query at its position, some with images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlcore.evaluation.gradcam import worst_and_best
from mlcore.evaluation.measures import metres
from mlcore.evaluation.results import Evaluation
from mlcore.protocols import PlaceDataset, Progress
from mlcore.reporting.figures.positions import axis_names, side_by_side
from mlcore.reporting.report.charts import round_values
from mlcore.reporting.report.content import ReportContent
from mlcore.reporting.report.thumbnails import thumbnails
from mlcore.retrieval.embedder import evenly_spaced

_MOST_IMAGE_BYTES = 9_000_000


def map_part(content: ReportContent, progress: Progress) -> dict[str, Any]:
    """Return the map and the data of its script; reads the images.

    Raises:
        DataError: An image cannot be read.
    """
    shown, dataset = content.results[-1], content.dataset
    queries_m, retrieved_m, references_m = _positions(content)
    frame = Frame(np.concatenate([queries_m, references_m]))
    queries, retrieved = frame(queries_m), frame(retrieved_m)
    outcomes = [RIGHT if value < content.within_m else WRONG for value in shown.distance_m]
    numbers = condition_numbers(shown)
    rows = pictured_rows(shown, content.pictured)
    texts = [_caption(shown, dataset, row, outcomes[row]) for row in rows]
    query_index, reference_index = shown.query_index, shown.reference_index
    images = thumbnails(
        (int(column[row]) for row in rows for column in (query_index, reference_index)),
        dataset.load_image,
        most_bytes=_MOST_IMAGE_BYTES,
        progress=lambda done, total: progress("report: images", done, total),
    )
    data = {
        "num_queries": len(queries),
        "counts": _counts(numbers, outcomes),
        "images": {str(index): uri for index, uri in images.items()},
        "queries": [
            {
                "x": queries[row, 0],
                "y": queries[row, 1],
                "rx": retrieved[row, 0],
                "ry": retrieved[row, 1],
                "image": str(query_index[row]),
                "reference_image": str(reference_index[row]),
                "name": dataset.image_name(int(query_index[row])),
                "reference": dataset.image_name(int(reference_index[row])),
                "text": text,
            }
            for row, text in zip(rows, texts, strict=True)
        ],
    }
    drawn = draw_map(shown, outcomes, queries, frame(references_m), rows, texts, frame)
    return {"map": drawn, "data": data, "num_pictured": len(rows)}


def pictured_rows(shown: Evaluation, most: int) -> list[int]:
    """Return rows of queries: a third the worst, a third the best, and others evenly spaced."""
    num_queries = len(shown.distance_m)
    if num_queries <= most:
        return worst_and_best(shown, num_queries, 0)
    rows = worst_and_best(shown, most // 3, most // 3)
    rest = np.setdiff1d(np.arange(num_queries), rows)
    even = rest[evenly_spaced(len(rest), most - len(rows))]
    return [*rows, *even.tolist()]


def _counts(numbers: NDArray[np.int64], outcomes: Sequence[str]) -> list[list[int]]:
    """Return the numbers of right and wrong queries of each condition."""
    is_right = np.asarray(outcomes) == RIGHT
    return [
        [
            int((is_right & (numbers == number)).sum()),
            int((~is_right & (numbers == number)).sum()),
        ]
        for number in range(int(numbers.max()) + 1)
    ]


def _positions(
    content: ReportContent,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return positions of queries, of the references they retrieved, and of all references."""
    shown, split = content.results[-1], content.split
    references_m, queries_m = side_by_side(split.references, split.queries)
    queries = dict(zip(split.queries.index.tolist(), queries_m, strict=True))
    references = dict(zip(split.references.index.tolist(), references_m, strict=True))
    return (
        np.array([queries[index] for index in shown.query_index.tolist()]),
        np.array([references[index] for index in shown.reference_index.tolist()]),
        references_m,
    )


def _caption(shown: Evaluation, dataset: PlaceDataset, row: int, outcome: str) -> str:
    return (
        f"{dataset.image_name(int(shown.query_index[row]))} "
        f"({shown.conditions[shown.condition[row]]}): {outcome}, "
        f"{metres(shown.distance_m[row])} from "
        f"{dataset.image_name(int(shown.reference_index[row]))}; nearest reference at "
        f"{metres(shown.nearest_m[row])}; embedding distance "
        f"{shown.embedding_distance[row]:.2f}"
    )


_WIDTH, _LEAST_HEIGHT, _MOST_HEIGHT, _MARGIN = 1000.0, 260.0, 1000.0, 40.0
RIGHT, WRONG = "right", "wrong"


class Layer(NamedTuple):
    """Queries of one condition and outcome without images, as one path."""

    condition: int
    outcome: str
    path: str


class Point(NamedTuple):
    """A query with images."""

    x: float
    y: float
    condition: int
    outcome: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Map:
    """The map for the template; lengths in units of the viewBox."""

    width: float
    height: float
    references: str
    layers: Sequence[Layer]
    points: Sequence[Point]
    scale_m: str
    scale_px: float
    north_up: bool


class Frame:
    """Transforms metres to the viewBox.

    Args:
        positions_m: ``(N, 2)``, all of which the map shows.
    """

    def __init__(self, positions_m: NDArray[np.float64]) -> None:
        low, high = positions_m.min(axis=0), positions_m.max(axis=0)
        extent = np.maximum(high - low, 1.0)
        inside = _WIDTH - 2 * _MARGIN
        self.scale = float(min(inside / extent[0], (_MOST_HEIGHT - 2 * _MARGIN) / extent[1]))
        self.height = max(_LEAST_HEIGHT, float(extent[1]) * self.scale + 2 * _MARGIN)
        self._centre_m = (low + high) / 2
        self.is_north_up = axis_names(positions_m) == ("easting", "northing")

    def __call__(self, positions_m: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return ``(N, 2)`` of positions ``(N, 2)``; y grows southwards."""
        offset = (positions_m - self._centre_m) * self.scale
        at = np.stack([_WIDTH / 2 + offset[:, 0], self.height / 2 - offset[:, 1]], axis=1)
        return at.round(1)

    def bar(self) -> tuple[str, float]:
        """Return a round length in metres and its length in the viewBox."""
        length_m = round_values(0.0, 0.2 * _WIDTH / self.scale, 5)[-1]
        return f"{length_m:g}", round(length_m * self.scale, 1)


def draw_map(
    shown: Evaluation,
    outcomes: Sequence[str],
    queries: NDArray[np.float64],
    references: NDArray[np.float64],
    pictured: Sequence[int],
    labels: Sequence[str],
    frame: Frame,
) -> Map:
    """Return the map.

    Args:
        shown: The results whose queries are drawn.
        outcomes: "right" or "wrong" of each query.
        queries: ``(Q, 2)`` in units of the viewBox.
        references: ``(N, 2)`` likewise.
        pictured: Rows of the queries with images.
        labels: Their texts for screen readers.
        frame: The scale.
    """
    numbers = condition_numbers(shown)
    is_pictured = np.isin(np.arange(len(queries)), pictured)
    layers: list[Layer] = []
    for number in range(len(shown.present_conditions)):
        for outcome in (RIGHT, WRONG):
            mine = (numbers == number) & (np.asarray(outcomes) == outcome) & ~is_pictured
            if mine.any():
                layers.append(Layer(number, outcome, _path(queries[mine], outcome)))
    points = [
        Point(
            float(queries[row, 0]),
            float(queries[row, 1]),
            int(numbers[row]),
            outcomes[row],
            label,
        )
        for row, label in zip(pictured, labels, strict=True)
    ]
    scale_m, scale_px = frame.bar()
    return Map(
        width=_WIDTH,
        height=round(frame.height, 1),
        references=_path(references, RIGHT),
        layers=layers,
        points=points,
        scale_m=scale_m,
        scale_px=scale_px,
        north_up=frame.is_north_up,
    )


def condition_numbers(shown: Evaluation) -> NDArray[np.int64]:
    """Return the index of each query's condition among those present."""
    present = np.unique(shown.condition)
    return np.searchsorted(present, shown.condition)


def _path(points: NDArray[np.float64], outcome: str) -> str:
    """Return dots, or crosses for wrong matches, so that they differ without colour too."""
    if outcome == RIGHT:
        return "".join(f"M{x:g} {y:g}h0" for x, y in points)
    return "".join(f"M{x - 4:g} {y - 4:g}l8 8m-8 0l8-8" for x, y in points)
