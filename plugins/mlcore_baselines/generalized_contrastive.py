"""The generalized contrastive loss, with the influence of a pair as its similarity."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlcore.geometry import attraction, between_m
from mlcore.protocols import Batch, InfluenceFunction, LossOutput, Pairs, Triplets
from mlcore_baselines import tuples as terms


class GeneralizedContrastiveLoss(nn.Module):
    """Contrastive loss with a similarity that is graded instead of 0 or 1.

    Mean over the pairs of an anchor with a near or far image of its tuple of
    y D / 2 + (1 - y) max(0, margin - sqrt(D))^2 / 2: Leyva-Vallina et al., Data-efficient
    Large Scale Place Recognition with Graded Similarity Supervision, CVPR 2023.
    There y is an overlap of fields of view; here it is the influence of the pair, which may be
    one too (field-of-view), 0 from the influence function's support on. A tuple's pairs are
    half similar and half dissimilar, as the paper's batches are.

    Args:
        influence: Weight y of a pair, by distance or by distance and headings.
        margin: Embedding distance beyond which dissimilar pairs cost nothing.
    """

    def __init__(self, *, influence: InfluenceFunction, margin: float = 0.5) -> None:
        super().__init__()
        self.influence = influence
        self.margin = margin

    def forward(
        self,
        embeddings: Tensor,
        batch: Batch,
        tuples: Pairs | Triplets | None = None,
    ) -> LossOutput:
        """Return the loss of ``embeddings`` ``(B, D)``; 0 if there are no pairs."""
        rows = terms.TupleRows.of(batch)
        images = torch.cat([rows.near, rows.far])
        anchors = rows.anchor[torch.cat([rows.near_tuple, rows.far_tuple])]
        y = self._similarity(batch, anchors, images).to(embeddings.dtype)
        # The norm's gradient at 0 is 0, that of a square root would be infinite.
        distance = torch.linalg.vector_norm(embeddings[anchors] - embeddings[images], dim=-1)
        attracting = y * distance.square() / 2
        repelling = (1 - y) * torch.relu(self.margin - distance).square() / 2
        loss = (attracting + repelling).sum() / max(len(images), 1)
        return LossOutput(loss, {"mean_similarity": y.sum() / max(len(images), 1)})

    def _similarity(self, batch: Batch, anchors: Tensor, images: Tensor) -> Tensor:
        distance = between_m(batch, anchors, images)
        return attraction(self.influence, batch, distance, anchors, images)
