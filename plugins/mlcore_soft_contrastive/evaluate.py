"""One loss evaluation: normalise, choose the implementation, average, report."""

from __future__ import annotations

import torch
from torch import Tensor

from mlcore.protocols import LossOutput
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.dense import row_terms
from mlcore_soft_contrastive.geometry import Geometry
from mlcore_soft_contrastive.inputs import normalized


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
    # Half precision is for the model: a similarity is multiplied by beta = 50 here.
    with torch.autocast(embeddings.device.type, enabled=False):
        x = normalized("embeddings", embeddings)
        y = x if references is None else normalized("references", references)
        if len(x) == 0 or len(y) == 0:
            return LossOutput(x[:0].sum() + y[:0].sum(), {"implementation": "none"})
        attraction, repulsion = (term.mean() for term in row_terms(x, y, geometry, config))
    return LossOutput(
        attraction + repulsion,
        {
            "attraction": attraction.detach(),
            "repulsion": repulsion.detach(),
            "implementation": "dense",
        },
    )
