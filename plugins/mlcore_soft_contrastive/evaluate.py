"""One loss evaluation: choose the implementation, average, report."""

from __future__ import annotations

import torch
from torch import Tensor

from mlcore.protocols import LossOutput
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.dense import RowTerms, dense_row_terms
from mlcore_soft_contrastive.geometry import Geometry
from mlcore_soft_contrastive.inputs import require_finite_embeddings

SMALLEST_TILED = 256 * 256
"""With fewer pairs, one dense matrix costs less than the walk over tiles."""


def evaluate(
    embeddings: Tensor,
    references: Tensor | None,
    geometry: Geometry,
    config: SoftContrastiveConfig,
) -> LossOutput:
    """Return the mean loss of the rows.

    Args:
        embeddings: ``(B, D)``.
        references: ``(R, D)``; None compares the embeddings with each other.
        geometry: Where the images of both are, checked against them.
        config: The formula's options and the implementation asked for.

    Raises:
        DataError: An embedding is not finite; the message names the rows.
    """
    require_finite_embeddings("embeddings", embeddings)
    others = embeddings if references is None else references
    if references is not None:
        require_finite_embeddings("references", references)
    if embeddings.numel() == 0 or others.numel() == 0:
        nothing = embeddings[:0].sum() + others[:0].sum()
        return LossOutput(nothing, {"implementation": "none"})
    # Half precision is for the model: a similarity is multiplied by beta = 50 here.
    with torch.autocast(embeddings.device.type, enabled=False):
        name, terms = _row_terms(embeddings, references, geometry, config)
        attraction, repulsion = terms.attraction.mean(), terms.repulsion.mean()
    return LossOutput(
        attraction + repulsion,
        {
            "attraction": attraction.detach(),
            "repulsion": repulsion.detach(),
            "implementation": name,
        },
    )


def _row_terms(
    embeddings: Tensor,
    references: Tensor | None,
    geometry: Geometry,
    config: SoftContrastiveConfig,
) -> tuple[str, RowTerms]:
    pairs = len(geometry.rows) * len(geometry.columns)
    small = config.implementation == "auto" and pairs < SMALLEST_TILED
    if config.implementation == "dense" or small:
        return "dense", dense_row_terms(embeddings, references, geometry, config)
    from mlcore_soft_contrastive.planning import plan_tiles
    from mlcore_soft_contrastive.tiled import tiled_row_terms

    name, plan = plan_tiles(geometry, config, embeddings, square=references is None)
    return name, tiled_row_terms(embeddings, references, plan)
