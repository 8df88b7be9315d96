"""The references of a split, embedded and whitened, to search queries in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import ConfigError, DataError
from mlcore.options.engine import EvaluationOptions
from mlcore.protocols import PlaceDataset, PlaceTable
from mlcore.retrieval.embedder import Embedder, evenly_spaced
from mlcore.retrieval.whitening import IMAGES_PER_DIMENSION, Whitening, fit_whitening

if TYPE_CHECKING:
    from mlcore.models.embedding import EmbeddingModel


@dataclass(frozen=True, kw_only=True)
class References:
    """The references that are searched: those kept by the spacing and readable.

    Attributes:
        table: The ``N`` references.
        embeddings: ``(N, K)`` float32, whitened.
        whitening: To be applied to queries too; None for no whitening.
        skipped: Names of the references and whitening images that could not be read.
    """

    table: PlaceTable
    embeddings: NDArray[np.float32]
    whitening: Whitening | None
    skipped: tuple[str, ...] = ()

    def whiten(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map embeddings ``(Q, D)`` of the same model to the references' ``(Q, K)``."""
        return embeddings if self.whitening is None else self.whitening(embeddings)


def embed_references(
    embedder: Embedder,
    dataset: PlaceDataset,
    table: PlaceTable,
    options: EvaluationOptions,
    *,
    name: str = "model",
) -> References:
    """Embed references at the given spacing and whiten them.

    Args:
        embedder: The model with its input; whitening applies only if the model allows it.
        dataset: Where images are read from, also the training images for whitening.
        table: All references.
        options: Spacing and whitening.
        name: Name of the model in progress.

    Raises:
        DataError: There is no reference, an image cannot be read, or whitening cannot be
            fitted.
        ConfigError: The spacing is negative.
    """
    table = table.take(keep_spaced(table, options.spacing_m))
    found = embedder(dataset, table.index, f"{name}: references")
    if not len(found.rows):
        raise DataError("there are no reference images to search")
    embeddings, skipped, whitening = found.embeddings, found.skipped, None
    source = whitening_source(options, embedder.model, dataset)
    if source == "references":
        rows = evenly_spaced(len(embeddings), options.whitening_images)
        whitening = fit_whitening(embeddings[rows], options.dimensions, source=source)
    elif source == "train":
        whitening, unreadable = _fit_to_training(embedder, dataset, options, name)
        skipped += unreadable
    return References(
        table=table.take(found.rows),
        embeddings=embeddings if whitening is None else whitening(embeddings),
        whitening=whitening,
        skipped=skipped,
    )


def whitening_of(
    embedder: Embedder,
    dataset: PlaceDataset,
    table: PlaceTable,
    options: EvaluationOptions,
    *,
    name: str = "model",
) -> tuple[Whitening | None, tuple[str, ...]]:
    """Return the whitening that an evaluation applies, and names of images it skipped.

    The one of :func:`embed_references`, whose arguments it takes; the references are embedded
    only if it is fitted on them.

    Raises:
        DataError: An image cannot be read, or whitening cannot be fitted.
    """
    source = whitening_source(options, embedder.model, dataset)
    if source == "train":
        return _fit_to_training(embedder, dataset, options, name)
    if source == "references":
        found = embed_references(embedder, dataset, table, options, name=name)
        return found.whitening, found.skipped
    return None, ()


def _fit_to_training(
    embedder: Embedder, dataset: PlaceDataset, options: EvaluationOptions, name: str
) -> tuple[Whitening, tuple[str, ...]]:
    index = training_images(dataset, options.whitening_images)
    sample = embedder(dataset, index, f"{name}: whitening")
    fitted = fit_whitening(sample.embeddings, options.dimensions, source="train")
    return fitted, sample.skipped


def whitening_source(
    options: EvaluationOptions, model: EmbeddingModel, dataset: PlaceDataset
) -> Literal["none", "train", "references"]:
    """Return the images that whitening is fitted on, with "auto" decided.

    "auto" is "train" if there are four training images for each dimension that whitening
    would keep at most, else "none".
    """
    if not model.allows_whitening:
        return "none"
    if options.whitening != "auto":
        return options.whitening
    num_images = len(training_images(dataset, options.whitening_images))
    needed = IMAGES_PER_DIMENSION * min(options.dimensions, model.embedding_dim)
    return "train" if num_images >= needed else "none"


def keep_spaced(table: PlaceTable, spacing_m: float) -> NDArray[np.int64]:
    """Return the rows of references at least ``spacing_m`` apart along their traversal.

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
