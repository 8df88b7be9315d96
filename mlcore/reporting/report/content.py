"""What a report shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlcore.evaluation.gradcam import GradCamMatch
from mlcore.evaluation.projection import Projection
from mlcore.evaluation.results import Evaluation
from mlcore.protocols import PlaceDataset, Split

MOST_PICTURED = 300


@dataclass(frozen=True, kw_only=True)
class ReportContent:
    """What a report shows.

    Attributes:
        title: Name of the run.
        config: Its ``config.toml``, as text.
        environment: Its ``environment.json``.
        metrics: Rows of its ``metrics.jsonl``.
        validation: Rows of its ``validation.jsonl``.
        results: Results of all models; the map shows the last.
        others: Results of other protocols: on other splits, data or options.
        split: The split of ``results``.
        dataset: Where images are read from.
        within_m: Matches nearer than this are right.
        pictured: Largest number of queries with images.
        gradcam: Grad-CAM of some queries.
        projections: Name of each model and the projection of its query embeddings.
        projected: Rows of the queries that ``projections`` show; None: all.
        comparison: Content of ``comparison.json``, if there is one.
        comparison_picture: Content of its PNG, if there is one.
    """

    title: str
    config: str
    environment: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    results: Sequence[Evaluation]
    split: Split
    dataset: PlaceDataset
    within_m: float
    pictured: int = MOST_PICTURED
    gradcam: Sequence[GradCamMatch] = ()
    projections: Sequence[tuple[str, Projection]] = ()
    projected: NDArray[np.int64] | None = None
    others: Sequence[Sequence[Evaluation]] = ()
    validation: Sequence[Mapping[str, Any]] = ()
    comparison: Mapping[str, Any] = field(default_factory=dict)
    comparison_picture: bytes | None = None
