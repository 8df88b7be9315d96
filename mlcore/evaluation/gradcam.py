"""Grad-CAM of a match: which parts of two images make their embeddings similar.

The supplement, figures 7 to 11: the gradient of the *negative squared embedding distance*
between a query and its first retrieved reference, flowing into the last convolutional layer,
on both images at once (both carry gradient). The embedding is the network's own, before
any whitening.

Shapes: ``P`` pairs, ``H`` x ``W`` pixels, ``C`` channels of ``h`` x ``w`` local features.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mlcore.data.images import letterbox
from mlcore.errors import DataError
from mlcore.evaluation.results import Evaluation
from mlcore.protocols import PlaceDataset
from mlcore.retrieval.embedder import Embedder

_PAIRS_AT_ONCE = 8


class Explanation(NamedTuple):
    """Grad-CAM maps of pairs of images.

    Attributes:
        query: ``(P, h, w)`` float32, not negative: how much each location of the query
            contributes to the similarity.
        reference: ``(P, h, w)`` float32, likewise.
        embedding_distance: ``(P,)`` float32, Euclidean, between the embeddings.
    """

    query: NDArray[np.float32]
    reference: NDArray[np.float32]
    embedding_distance: NDArray[np.float32]


def explain_matches(model: nn.Module, queries: Tensor, references: Tensor) -> Explanation:
    """Explain pairs of images by Grad-CAM (Selvaraju et al., ICCV 2017; captum).

    With features ``A`` of the last convolutional layer and ``y = -|f_q - f_r|^2``, the map
    of an image is ``relu(sum_c mean_hw(dy/dA_c) A_c)``.

    Args:
        model: Maps images in [0, 1] to embeddings; in evaluation mode, so that pairs do
            not depend on each other.
        queries: ``(P, 3, H, W)`` uint8, or floating point in [0, 1].
        references: ``(P, 3, H, W)`` likewise.

    Raises:
        DataError: The model has no convolutional layer.
    """
    from captum.attr import LayerGradCam

    images = torch.cat([_unit(queries, model), _unit(references, model)]).requires_grad_()
    num_pairs = len(queries)
    distances: list[Tensor] = []

    def similarity(images: Tensor) -> Tensor:
        embeddings: Tensor = model(images)
        squared: Tensor = (embeddings[:num_pairs] - embeddings[num_pairs:]).square().sum(1)
        distances.append(squared.detach().sqrt())
        return -squared

    layer = last_convolution(model)
    with torch.enable_grad():
        maps = LayerGradCam(similarity, layer).attribute(images, relu_attributions=True)
    assert isinstance(maps, Tensor)
    both = maps.detach()[:, 0].float().cpu().numpy()
    return Explanation(both[:num_pairs], both[num_pairs:], distances[0].float().cpu().numpy())


def last_convolution(model: nn.Module) -> nn.Module:
    """Return the layer that Grad-CAM explains: the model's choice, or the last convolution.

    Raises:
        DataError: The model has no convolutional layer.
    """
    named = getattr(model, "explained", None)
    if isinstance(named, nn.Module):
        return named
    found = [layer for layer in model.modules() if isinstance(layer, nn.Conv2d)]
    if not found:
        raise DataError(
            f"Grad-CAM needs a convolutional layer, and {type(model).__name__} has none"
        )
    return found[-1]


@dataclass(frozen=True, kw_only=True)
class GradCamMatch:
    """A query, its first retrieved reference, and their Grad-CAM maps.

    Attributes:
        query: Image index of the query in the data set.
        reference: Image index of the reference.
        query_map: ``(h, w)`` float32, not negative.
        reference_map: ``(h, w)`` float32, not negative.
        distance_m: Geometric distance.
        embedding_distance: Euclidean, between the embeddings, not whitened.
    """

    query: int
    reference: int
    query_map: NDArray[np.float32]
    reference_map: NDArray[np.float32]
    distance_m: float
    embedding_distance: float


def explain_results(
    embedder: Embedder,
    dataset: PlaceDataset,
    results: Evaluation,
    rows: Sequence[int],
    *,
    name: str = "model",
) -> list[GradCamMatch]:
    """Explain the first match of some queries.

    Memory beyond the result: a few pairs of images and their activations.

    Args:
        embedder: The model with its input.
        dataset: Where images are read from.
        results: Of the model.
        rows: Rows of queries in ``results``, in the order of the output.
        name: Name of the model in progress.

    Raises:
        DataError: The model has no convolutional layer, or an image cannot be read.
    """
    found: list[GradCamMatch] = []
    model = embedder.model.to(embedder.device).eval()
    last_convolution(model)  # check before images are read
    for start in range(0, len(rows), _PAIRS_AT_ONCE):
        part = np.asarray(rows[start : start + _PAIRS_AT_ONCE])
        queries = results.query_index[part].tolist()
        references = results.reference_index[part].tolist()
        explained = explain_matches(
            model,
            *(
                torch.stack(
                    [letterbox(dataset.load_image(i), *embedder.input_size) for i in index]
                )
                for index in (queries, references)
            ),
        )
        found += [
            GradCamMatch(
                query=queries[place],
                reference=references[place],
                query_map=explained.query[place],
                reference_map=explained.reference[place],
                distance_m=float(results.distance_m[row]),
                embedding_distance=float(explained.embedding_distance[place]),
            )
            for place, row in enumerate(part.tolist())
        ]
        embedder.progress(f"{name}: Grad-CAM", len(found), len(rows))
    return found


def worst_and_best(results: Evaluation, num_worst: int, num_best: int) -> list[int]:
    """Return rows of queries: the farthest matches first, then the nearest.

    Ties are ordered by embedding distance. No row appears twice.
    """
    order = np.lexsort((results.embedding_distance, results.distance_m))
    num_worst = min(num_worst, len(order))
    num_best = min(num_best, len(order) - num_worst)
    return [*order[::-1][:num_worst].tolist(), *order[:num_best].tolist()]


def _unit(images: Tensor, model: nn.Module) -> Tensor:
    """Return images in [0, 1] where the model is, in the precision of its weights."""
    weight = next(model.parameters(), None)
    if weight is not None:
        images = images.to(weight.device)
    if images.is_floating_point():
        return images
    return images.to(torch.float32 if weight is None else weight.dtype) / 255
