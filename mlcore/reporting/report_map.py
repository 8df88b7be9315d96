"""The map of a report: every query where it was taken, and some with pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.embedding import evenly_spaced
from mlcore.explaining import worst_and_best
from mlcore.protocols import PlaceDataset, Progress
from mlcore.reporting.maps import RIGHT, WRONG, Frame, condition_numbers, draw_map
from mlcore.reporting.report_content import ReportContent
from mlcore.reporting.thumbnails import thumbnails
from mlcore.results import Evaluation

_MOST_IMAGE_BYTES = 9_000_000


def map_part(content: ReportContent, progress: Progress) -> dict[str, Any]:
    """Return the drawn map and what its script needs; reads the images.

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
    """Return the rows of queries to show: a third the worst, a third the best, a third even."""
    num_queries = len(shown.distance_m)
    if num_queries <= most:
        return worst_and_best(shown, num_queries, 0)
    rows = worst_and_best(shown, most // 3, most // 3)
    rest = np.setdiff1d(np.arange(num_queries), rows)
    even = rest[evenly_spaced(len(rest), most - len(rows))]
    return [*rows, *even.tolist()]


def _counts(numbers: NDArray[np.int64], outcomes: Sequence[str]) -> list[list[int]]:
    """Return how many queries of each condition are right, and how many wrong."""
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
    """Return where queries and what they retrieved were taken, and all references."""
    shown, split = content.results[-1], content.split
    queries = dict(
        zip(split.queries.index.tolist(), split.queries.positions_m[:, :2], strict=True)
    )
    references = dict(
        zip(split.references.index.tolist(), split.references.positions_m[:, :2], strict=True)
    )
    return (
        np.array([queries[index] for index in shown.query_index.tolist()]),
        np.array([references[index] for index in shown.reference_index.tolist()]),
        split.references.positions_m[:, :2],
    )


def _caption(shown: Evaluation, dataset: PlaceDataset, row: int, outcome: str) -> str:
    return (
        f"{dataset.image_name(int(shown.query_index[row]))} "
        f"({shown.conditions[shown.condition[row]]}): {outcome}, "
        f"{shown.distance_m[row]:.1f} m from "
        f"{dataset.image_name(int(shown.reference_index[row]))}; nearest reference at "
        f"{shown.nearest_m[row]:.1f} m; embedding distance {shown.embedding_distance[row]:.2f}"
    )
