"""Evaluates models by retrieval: embed, whiten, search, measure.

The protocol is the paper's: PCA whitening, exact Euclidean search, and the geometric
distance of the first retrieved reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from mlcore.data.positions import apart_m, distances_m
from mlcore.distributed import require_accelerator
from mlcore.errors import ConfigError, DataError
from mlcore.evaluation.graded import GradedColumns, GradedProtocol, ndcg, order_counts
from mlcore.evaluation.results import Evaluation, EvaluationProtocol
from mlcore.factories import BuildContext
from mlcore.models.catalogue import PIXELS
from mlcore.options.config import model_input_size
from mlcore.options.engine import EvaluationOptions
from mlcore.protocols import PlaceDataset, PlaceTable, Progress, Split, no_progress
from mlcore.retrieval.embedder import Embedder
from mlcore.retrieval.references import embed_references
from mlcore.retrieval.search import search

if TYPE_CHECKING:
    from mlcore.models.embedding import EmbeddingModel
    from mlcore.options import RunConfig
    from mlcore.retrieval.whitening import Whitening


KeepWhitening = Callable[[str, "Whitening | None"], None]
"""Receives a model's name and the whitening of its embeddings, None for none."""


def evaluate_model(
    embedder: Embedder,
    dataset: PlaceDataset,
    split: Split,
    options: EvaluationOptions,
    *,
    name: str,
    split_name: str = "test",
    keep_whitening: KeepWhitening = lambda _name, _whitening: None,
) -> Evaluation:
    """Embed the images of a split, whiten, search, and measure.

    Args:
        embedder: The model with its input; whitening applies only if the model allows it.
        dataset: Where images are read from, also the training images for whitening.
        split: References and queries.
        options: How to search and measure.
        name: Name of the model in results and progress.
        split_name: Name of the split in results.
        keep_whitening: Called with the model's name and the whitening that was applied.

    Raises:
        DataError: The split has no reference or no query, an image cannot be read, or
            whitening cannot be fitted.
        ConfigError: ``recall_at`` is empty.
    """
    _require_images(split, split_name)
    _require_a_number(options)
    searched = embed_references(embedder, dataset, split.references, options, name=name)
    asked = embedder(dataset, split.queries.index, f"{name}: queries")
    found = replace(split, references=searched.table, queries=split.queries.take(asked.rows))
    whitening = searched.whitening
    keep_whitening(name, whitening)
    return evaluate_split(
        searched.embeddings,
        searched.whiten(asked.embeddings),
        found,
        options,
        name=name,
        split_name=split_name,
        data_fingerprint=dataset.fingerprint,
        whitening="none" if whitening is None else whitening.source,
        whitening_images=0 if whitening is None else whitening.num_images,
        skipped=searched.skipped + asked.skipped,
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
    whitening: str = "none",
    whitening_images: int = 0,
    skipped: tuple[str, ...] = (),
) -> Evaluation:
    """Search and measure, given the embeddings of every row of a split.

    Args:
        reference_embeddings: ``(N, D)``, one per row of ``split.references``; all are
            searched, ``options.spacing_m`` is only recorded.
        query_embeddings: ``(Q, D)``, one per row of ``split.queries``.
        split: Positions and conditions.
        options: How to measure.
        name: Name of the model in results.
        split_name: Name of the split in results.
        data_fingerprint: The data set's.
        whitening: The images it was fitted on: "train", "references" or "none".
        whitening_images: How many these are.
        skipped: Names of images that could not be read.

    Raises:
        DataError: The split has no reference or no query.
        ConfigError: ``recall_at`` is empty.
    """
    _require_images(split, split_name)
    _require_a_number(options)
    references, queries = split.references, split.queries
    num_retrieved = max([*options.recall_at, *options.ndcg_at])
    found = search(reference_embeddings, query_embeddings, num_retrieved)
    references_m, queries_m = _apart_m(references), _apart_m(queries)
    distance_m = distances_m(references_m[found.row], queries_m[:, None])
    nearest_m = _nearest_m(references_m, queries_m, distance_m.shape[1])
    graded = _graded_protocol(options)
    protocol = EvaluationProtocol(
        data_fingerprint=data_fingerprint,
        split=split_name,
        num_references=len(references),
        num_queries=len(queries),
        spacing_m=options.spacing_m,
        thresholds_m=tuple(options.thresholds_m),
        auc_limits_m=tuple(options.auc_limits_m),
        recall_at=tuple(options.recall_at),
        recall_radius_m=options.recall_radius_m,
        graded=graded,
    )
    order = order_counts(
        reference_embeddings, query_embeddings, references_m, queries_m, graded.order_limits_m
    )
    in_radius = distance_m[:, : max(options.recall_at)] <= options.recall_radius_m
    return Evaluation(
        model=name,
        protocol=protocol,
        whitening=whitening,
        whitening_images=whitening_images,
        dimensions=reference_embeddings.shape[1],
        conditions=tuple(queries.conditions),
        condition=queries.condition.astype(np.int64),
        query_index=queries.index,
        reference_index=references.index[found.row[:, 0]],
        distance_m=distance_m[:, 0],
        embedding_distance=found.distance[:, 0],
        nearest_m=nearest_m[:, 0],
        first_hit_rank=_first_true(in_radius),
        skipped=skipped,
        graded=GradedColumns(
            order_right=order.right,
            order_pairs=order.pairs,
            ndcg=ndcg(distance_m, nearest_m, graded),
        ),
    )


def _graded_protocol(options: EvaluationOptions) -> GradedProtocol:
    return GradedProtocol(
        order_limits_m=tuple(options.order_limits_m),
        ndcg_at=tuple(options.ndcg_at),
        gain_cutoff_m=options.gain_cutoff_m,
        gain_steepness_per_m=options.gain_steepness_per_m,
    )


def _require_images(split: Split, name: str) -> None:
    for what, table in (("reference", split.references), ("query", split.queries)):
        if not len(table):
            raise DataError(f"the {name} split has no {what} image; nothing can be evaluated")


def _require_a_number(options: EvaluationOptions) -> None:
    # That each number is in its range was checked when the options were made.
    for name in ("thresholds_m", "recall_at"):
        if not getattr(options, name):
            raise ConfigError(f"--evaluation.{name} must have at least one number, got none")


def _apart_m(table: PlaceTable) -> NDArray[np.float64]:
    return apart_m(table.positions_m, table.region)


def _nearest_m(
    references_m: NDArray[np.float64], queries_m: NDArray[np.float64], num_nearest: int
) -> NDArray[np.float64]:
    """Return the distances ``(Q, num_nearest)`` of the nearest references, ascending."""
    from scipy.spatial import KDTree

    centre = references_m.mean(axis=0)
    tree = KDTree(references_m - centre)
    _, row = tree.query(queries_m - centre, k=np.arange(1, num_nearest + 1))
    # Computed like the retrieved distances, so that rounding puts no result above its bound.
    return np.sort(distances_m(references_m[row], queries_m[:, None]), axis=1)


def _first_true(hits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the first true column of each row, -1 where there is none."""
    return np.where(hits.any(axis=1), hits.argmax(axis=1), -1)


def with_baselines(
    trained: EmbeddingModel, untrained: EmbeddingModel
) -> dict[str, EmbeddingModel]:
    """Return the models of a run's table, by name: untrained, pixels, trained."""
    pixels = PIXELS.build(PIXELS.config(), BuildContext())
    return {"untrained": untrained, PIXELS.name: pixels, "trained": trained}


def evaluate_models(
    models: Mapping[str, EmbeddingModel],
    dataset: PlaceDataset,
    config: RunConfig,
    *,
    split: Literal["test", "validation"] = "test",
    progress: Progress = no_progress,
    keep_whitening: KeepWhitening = lambda _name, _whitening: None,
) -> list[Evaluation]:
    """Evaluate each model on a split with the options of a configuration.

    ``keep_whitening`` is called with each model's name and the whitening that was applied.

    Raises:
        DataError: The split has no queries, or an image cannot be read.
    """
    return [
        evaluate_model(
            embedder_of(model, config, progress),
            dataset,
            getattr(dataset, split),
            config.evaluation,
            name=name,
            split_name=split,
            keep_whitening=keep_whitening,
        )
        for name, model in models.items()
    ]


def embedder_of(
    model: EmbeddingModel, config: RunConfig, progress: Progress = no_progress
) -> Embedder:
    """Return an embedder of the model with the options of a configuration."""
    options = config.training
    return Embedder(
        model=model,
        input_size=model_input_size(config),
        batch_size=config.evaluation.batch_size,
        device=device_of(options.accelerator),
        num_workers=options.num_workers,
        skip_unreadable=options.skip_unreadable,
        progress=progress,
    )


def device_of(accelerator: str) -> torch.device:
    """Return the device of a Lightning accelerator name.

    Raises:
        ConfigError: It is a GPU, and there is none.
    """
    require_accelerator(accelerator)
    on_gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
    return torch.device("cuda" if on_gpu else "cpu")
