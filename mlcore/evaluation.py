"""Evaluates models by retrieval: embed, whiten, search, measure.

The protocol is the paper's: PCA whitening, exact Euclidean search, and the geometric
distance of the first retrieved reference.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mlcore.embedding import Embedded, embed, evenly_spaced
from mlcore.errors import ConfigError, DataError
from mlcore.protocols import PlaceDataset, PlaceTable, Progress, Split, no_progress
from mlcore.results import Evaluation, EvaluationProtocol
from mlcore.retrieval import search
from mlcore.settings import EvaluationOptions
from mlcore.whitening import Whitening, fit_whitening

if TYPE_CHECKING:
    import torch

    from mlcore.models.embedding import EmbeddingModel


def evaluate_model(
    model: EmbeddingModel,
    dataset: PlaceDataset,
    split: Split,
    options: EvaluationOptions,
    *,
    name: str,
    input_size: tuple[int, int],
    split_name: str = "test",
    device: torch.device | str = "cpu",
    num_workers: int = 0,
    skip_unreadable: bool = False,
    progress: Progress = no_progress,
) -> Evaluation:
    """Embed the images of a split, whiten, search, and measure.

    Args:
        model: What embeds the images; whitened only if it allows that.
        dataset: Where images are read from, and whose training images whitening may use.
        split: References and queries.
        options: How to search and judge.
        name: What results call the model.
        input_size: Height and width in pixels of the model's input.
        split_name: What results call the split.
        device: Where the model runs.
        num_workers: Processes that read images; changes no number.
        skip_unreadable: Leave out images that cannot be read, by name, instead of stopping.
        progress: Told how far embedding has come.

    Raises:
        DataError: The split has no reference or no query, an image cannot be read, or
            whitening cannot be fitted.
        ConfigError: A threshold, limit, spacing or number of neighbours makes no sense.
    """
    _require_images(split, split_name)
    _require_usable(options)
    references = split.references.take(keep_spaced(split.references, options.spacing_m))

    def embed_all(index: NDArray[np.int64], what: str) -> Embedded:
        return embed(
            model,
            dataset,
            index,
            input_size=input_size,
            batch_size=options.batch_size,
            device=device,
            num_workers=num_workers,
            skip_unreadable=skip_unreadable,
            progress=progress,
            description=f"{name}: {what}",
        )

    searched = embed_all(references.index, "references")
    asked = embed_all(split.queries.index, "queries")
    whitening, skipped = None, searched.skipped + asked.skipped
    if model.allows_whitening and options.whitening == "references":
        rows = evenly_spaced(len(searched.embeddings), options.whitening_images)
        whitening = _fit(searched.embeddings[rows], options)
    elif model.allows_whitening and options.whitening == "train":
        index = training_images(dataset, options.whitening_images)
        fitted_on = embed_all(index, "training images for whitening")
        whitening, skipped = _fit(fitted_on.embeddings, options), skipped + fitted_on.skipped
    return evaluate_split(
        searched.embeddings,
        asked.embeddings,
        Split(
            references=references.take(searched.rows), queries=split.queries.take(asked.rows)
        ),
        options,
        name=name,
        split_name=split_name,
        data_fingerprint=dataset.fingerprint,
        whitening=whitening,
        skipped=skipped,
    )


def evaluate_split(
    reference_embeddings: NDArray[np.float32],
    query_embeddings: NDArray[np.float32],
    split: Split,
    options: EvaluationOptions,
    *,
    name: str,
    split_name: str = "test",
    data_fingerprint: str = "",
    whitening: Whitening | None = None,
    skipped: tuple[str, ...] = (),
) -> Evaluation:
    """Search and measure, given the embeddings of every row of a split.

    Args:
        reference_embeddings: ``(N, D)``, one a row of ``split.references``; these are
            searched as they are, ``options.spacing_m`` is only recorded.
        query_embeddings: ``(Q, D)``, one a row of ``split.queries``.
        split: Positions and conditions.
        options: How to judge.
        name: What results call the model.
        split_name: What results call the split.
        data_fingerprint: The data set's.
        whitening: Applied to both; None searches the embeddings as they are.
        skipped: Names of images that were left out.

    Raises:
        DataError: The split has no reference or no query.
        ConfigError: A threshold, limit or number of neighbours makes no sense.
    """
    _require_images(split, split_name)
    _require_usable(options)
    if whitening is not None:
        reference_embeddings = whitening(reference_embeddings)
        query_embeddings = whitening(query_embeddings)
    references, queries = split.references, split.queries
    found = search(reference_embeddings, query_embeddings, max(options.recall_at))
    distance_m = _distance_m(references.positions_m[found.row], queries.positions_m[:, None])
    return Evaluation(
        model=name,
        protocol=EvaluationProtocol(
            data_fingerprint=data_fingerprint,
            split=split_name,
            num_references=len(references),
            num_queries=len(queries),
            spacing_m=options.spacing_m,
            thresholds_m=tuple(options.thresholds_m),
            auc_limits_m=tuple(options.auc_limits_m),
            recall_at=tuple(options.recall_at),
            recall_radius_m=options.recall_radius_m,
        ),
        whitening="none" if whitening is None else whitening.source,
        whitening_images=0 if whitening is None else whitening.num_images,
        dimensions=reference_embeddings.shape[1],
        conditions=tuple(queries.conditions),
        condition=queries.condition.astype(np.int64),
        query_index=queries.index,
        reference_index=references.index[found.row[:, 0]],
        distance_m=distance_m[:, 0],
        embedding_distance=found.distance[:, 0],
        nearest_m=_nearest_m(references, queries),
        first_hit_rank=_first_true(distance_m <= options.recall_radius_m),
        skipped=skipped,
    )


def keep_spaced(table: PlaceTable, spacing_m: float) -> NDArray[np.int64]:
    """Return the rows that remain if images closer than ``spacing_m`` are left out.

    Each traversal is walked in its order; an image is kept if it lies at least
    ``spacing_m`` from the last kept one. A spacing of 0 keeps all.

    Raises:
        ConfigError: The spacing is negative.
    """
    if spacing_m < 0:
        raise ConfigError(f"--evaluation.spacing_m must not be negative, got {spacing_m:g}")
    if spacing_m == 0:
        return np.arange(len(table))
    kept: list[int] = []
    for traversal in np.unique(table.traversal):
        rows = np.flatnonzero(table.traversal == traversal)
        last: list[float] | None = None
        for row, position in zip(rows.tolist(), table.positions_m[rows].tolist(), strict=True):
            if last is None or math.dist(last, position) >= spacing_m:
                kept.append(row)
                last = position
    return np.sort(np.array(kept, dtype=np.int64))


def training_images(dataset: PlaceDataset, num_wanted: int) -> NDArray[np.int64]:
    """Return image indices of evenly spaced training images, references before queries."""
    train = dataset.train
    index = np.concatenate([train.references.index, train.queries.index])
    return index[evenly_spaced(len(index), num_wanted)]


def _fit(embeddings: NDArray[np.float32], options: EvaluationOptions) -> Whitening:
    return fit_whitening(embeddings, options.dimensions, source=options.whitening)


def _require_images(split: Split, name: str) -> None:
    for what, table in (("reference", split.references), ("query", split.queries)):
        if not len(table):
            raise DataError(f"the {name} split has no {what} image; nothing can be evaluated")


def _require_usable(options: EvaluationOptions) -> None:
    if not options.recall_at or min(options.recall_at) < 1:
        raise ConfigError(
            f"--evaluation.recall_at must name numbers from 1, got {options.recall_at}"
        )
    for name in ("thresholds_m", "auc_limits_m"):
        if any(value <= 0 for value in getattr(options, name)):
            raise ConfigError(
                f"--evaluation.{name} must be positive, got {getattr(options, name)}"
            )


def _distance_m(
    positions_m: NDArray[np.float64], others_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    distance_m: NDArray[np.float64] = np.linalg.norm(positions_m - others_m, axis=-1)
    return distance_m


def _nearest_m(references: PlaceTable, queries: PlaceTable) -> NDArray[np.float64]:
    from scipy.spatial import KDTree

    centre = references.positions_m.mean(axis=0)
    tree = KDTree(references.positions_m - centre)
    _, row = tree.query(queries.positions_m - centre)
    # Measured as the retrieved ones are, so that no result exceeds its bound by rounding.
    return _distance_m(references.positions_m[row], queries.positions_m)


def _first_true(hits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the first true column of each row, -1 where there is none."""
    return np.where(hits.any(axis=1), hits.argmax(axis=1), -1)
