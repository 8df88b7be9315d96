"""Sweeps: accuracy over embedding dimensions and over the spacing of references.

Figures 1 and 2 of the supplement. Every image is embedded once and whitening is fitted once,
for the largest dimension: its first ``d`` outputs are those of a whitening to ``d``
dimensions, because each output is a projection of its own.

Shapes: ``N`` references, ``Q`` queries, ``K`` dimensions after whitening.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import ConfigError
from mlcore.evaluation.evaluate import evaluate_split
from mlcore.evaluation.results import Evaluation
from mlcore.options.engine import EvaluationOptions
from mlcore.protocols import PlaceDataset, Progress, Split, no_progress
from mlcore.retrieval.embedder import Embedder
from mlcore.retrieval.references import embed_references, keep_spaced


@dataclass(frozen=True, kw_only=True)
class EmbeddedSplit:
    """All references and queries of a split, embedded and whitened.

    Attributes:
        split: The rows that could be read.
        references: ``(N, K)`` float32.
        queries: ``(Q, K)`` float32.
        whitening: The images it was fitted on: "train", "references" or "none".
        whitening_images: How many these are.
        skipped: Names of images that could not be read.
    """

    split: Split
    references: NDArray[np.float32]
    queries: NDArray[np.float32]
    whitening: str = "none"
    whitening_images: int = 0
    skipped: tuple[str, ...] = ()

    @property
    def dimensions(self) -> int:
        """``K``."""
        return int(self.references.shape[1])


def embed_split(
    embedder: Embedder,
    dataset: PlaceDataset,
    split: Split,
    options: EvaluationOptions,
    *,
    name: str = "model",
) -> EmbeddedSplit:
    """Embed a split and whiten it to ``options.dimensions``, all references kept.

    Args:
        embedder: The model with its input; whitening applies only if the model allows it.
        dataset: Where images are read from, also the training images for whitening.
        split: References and queries.
        options: Of whitening; :func:`sweep` applies the spacing.
        name: Name of the model in progress.

    Raises:
        DataError: There is no reference, an image cannot be read, or whitening cannot be
            fitted.
    """
    options = replace(options, spacing_m=0.0)
    searched = embed_references(embedder, dataset, split.references, options, name=name)
    asked = embedder(dataset, split.queries.index, f"{name}: queries")
    whitening = searched.whitening
    return EmbeddedSplit(
        split=Split(references=searched.table, queries=split.queries.take(asked.rows)),
        references=searched.embeddings,
        queries=searched.whiten(asked.embeddings),
        whitening="none" if whitening is None else whitening.source,
        whitening_images=0 if whitening is None else whitening.num_images,
        skipped=searched.skipped + asked.skipped,
    )


def sweep(
    embedded: EmbeddedSplit,
    options: EvaluationOptions,
    *,
    dimensions: Sequence[int],
    spacings_m: Sequence[float],
    name: str,
    split_name: str = "test",
    data_fingerprint: str = "",
    progress: Progress = no_progress,
) -> list[Evaluation]:
    """Evaluate one model at every dimension and every spacing, spacings outermost.

    A dimension larger than what whitening kept becomes that; each is evaluated once.
    Embeddings that were not whitened have no order of dimensions and stay whole.

    Memory: a copy of the references at one dimension, beyond what
    :func:`mlcore.retrieval.search` takes.

    Args:
        embedded: From :func:`embed_split`, at the largest dimension.
        options: How to measure.
        dimensions: Dimensions after whitening, each 1 or more.
        spacings_m: Least distances between consecutive references; 0 keeps all.
        name: Name of the model in results.
        split_name: Name of the split in results.
        data_fingerprint: The data set's.
        progress: Called with the number of settings evaluated so far.

    Raises:
        ConfigError: A dimension is less than 1 or a spacing negative.
        DataError: The split has no query.
    """
    if min(dimensions) < 1:
        raise ConfigError(f"--dimensions must be at least 1, got {min(dimensions)}")
    kept = sorted({min(wanted, embedded.dimensions) for wanted in dimensions})
    if embedded.whitening == "none":
        kept = [embedded.dimensions]
    results: list[Evaluation] = []
    total = len(kept) * len(spacings_m)
    for spacing_m in spacings_m:
        rows = keep_spaced(embedded.split.references, spacing_m)
        split = replace(embedded.split, references=embedded.split.references.take(rows))
        for size in kept:
            results.append(
                evaluate_split(
                    embedded.references[rows, :size],
                    embedded.queries[:, :size],
                    split,
                    replace(options, spacing_m=spacing_m, dimensions=size),
                    name=name,
                    split_name=split_name,
                    data_fingerprint=data_fingerprint,
                    whitening=embedded.whitening,
                    whitening_images=embedded.whitening_images,
                    skipped=embedded.skipped,
                )
            )
            progress(f"{name}: sweep", len(results), total)
    return results


def mean_accuracy(evaluation: Evaluation, threshold_m: float) -> float:
    """Return top-1 accuracy as the mean over conditions, equally weighted."""
    conditions = evaluation.present_conditions
    return float(np.mean([evaluation.accuracy(threshold_m, name) for name in conditions]))


def mean_upper_bound(evaluation: Evaluation, threshold_m: float) -> float:
    """Return the upper bound as the mean over conditions, equally weighted."""
    conditions = evaluation.present_conditions
    return float(np.mean([evaluation.upper_bound(threshold_m, name) for name in conditions]))
