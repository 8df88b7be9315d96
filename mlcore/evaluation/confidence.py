"""The confidence of a trained model, from the queries of the validation split."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlcore.data.positions import apart_m, distances_m
from mlcore.errors import DataError
from mlcore.options.engine import EvaluationOptions
from mlcore.protocols import PlaceDataset, PlaceTable, Split
from mlcore.retrieval.confidence import (
    SEARCHED,
    Confidence,
    distance_elsewhere,
    fit_confidence,
)
from mlcore.retrieval.embedder import Embedder, evenly_spaced
from mlcore.retrieval.references import keep_spaced
from mlcore.retrieval.search import search

if TYPE_CHECKING:
    from mlcore.retrieval.whitening import Whitening

MOST_QUERIES = 2000
"""Evenly spaced queries that thresholds are fitted to, at most."""


class FirstAnswers(NamedTuple):
    """The first reference of each query.

    Attributes:
        distance: ``(Q,)``, embedding distance to it.
        elsewhere: ``(Q,)``, embedding distance to the first reference elsewhere.
        distance_m: ``(Q,)``, geometric distance to it; infinite in another region.
    """

    distance: NDArray[np.float64]
    elsewhere: NDArray[np.float64]
    distance_m: NDArray[np.float64]


class _Reference(NamedTuple):
    embedding_distance: float
    position_m: tuple[float, ...]
    region: str | None


def confidence_of(
    embedder: Embedder,
    dataset: PlaceDataset,
    whitening: Whitening | None,
    options: EvaluationOptions,
) -> Confidence | None:
    """Return when the model's answers can be trusted; None without validation queries.

    Args:
        embedder: The trained model with its input.
        dataset: Its validation split is searched.
        whitening: What deployed embeddings are whitened with; None for none.
        options: Spacing of the references, and the radius within which an answer is right.

    Images that cannot be read are left out.
    """
    split = validation_of(dataset)
    if split is None:
        return None
    # A missing image must not cost a finished training its model.
    embedder = replace(embedder, skip_unreadable=True)
    rows = evenly_spaced(len(split.queries), MOST_QUERIES)
    references = split.references.take(keep_spaced(split.references, options.spacing_m))
    searched = embedder(dataset, references.index, "confidence: references")
    asked = embedder(dataset, split.queries.index[rows], "confidence: queries")
    if not len(searched.rows) or not len(asked.rows):
        return None
    there, here = (
        found.embeddings if whitening is None else whitening(found.embeddings)
        for found in (searched, asked)
    )
    kept = Split(
        references=references.take(searched.rows), queries=split.queries.take(rows[asked.rows])
    )
    answers = first_answers(there, here, kept, options.recall_radius_m)
    is_right = answers.distance_m <= options.recall_radius_m
    return fit_confidence(
        answers.distance, answers.elsewhere, is_right, options.recall_radius_m
    )


def validation_of(dataset: PlaceDataset) -> Split | None:
    """Return the validation split, if the data set has one with references and queries."""
    try:
        split = dataset.validation
    except DataError:
        return None
    return split if len(split.references) and len(split.queries) else None


def first_answers(
    references: NDArray[np.float32],
    queries: NDArray[np.float32],
    split: Split,
    radius_m: float,
) -> FirstAnswers:
    """Search, and return what the confidence of each answer depends on.

    Args:
        references: ``(N, K)``, one per row of ``split.references``.
        queries: ``(Q, K)``, one per row of ``split.queries``.
        split: Positions and regions.
        radius_m: Farther from the first reference than this is elsewhere.
    """
    found = search(references, queries, SEARCHED)
    table = split.references
    regions = _regions(table)
    elsewhere = [
        distance_elsewhere(
            [
                _Reference(distance, tuple(table.positions_m[row].tolist()), regions[row])
                for distance, row in zip(distances, rows, strict=True)
            ],
            radius_m,
        )
        for distances, rows in zip(found.distance.tolist(), found.row.tolist(), strict=True)
    ]
    there_m = apart_m(table.positions_m, table.region)[found.row[:, 0]]
    here_m = apart_m(split.queries.positions_m, split.queries.region)
    return FirstAnswers(
        distance=found.distance[:, 0],
        elsewhere=np.array(elsewhere, dtype=np.float64),
        distance_m=distances_m(there_m, here_m),
    )


def _regions(table: PlaceTable) -> list[str | None]:
    if table.region is None:
        return [None] * len(table)
    return [table.regions[code] for code in table.region.tolist()]
