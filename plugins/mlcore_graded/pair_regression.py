"""Losses of single pairs: regress embedding distance or similarity on geometry."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mlcore.protocols import InfluenceFunction
from mlcore_graded.rows import RowBlock, RowwiseLoss, embedding_distance


class PairRegressionLoss(RowwiseLoss):
    """A mean over all ordered pairs of different images; a subclass has the term of a pair.

    Time O(B^2).
    """

    def pair_terms(self, similarity: Tensor, rows: RowBlock) -> Tensor:
        """Return the term of each pair, ``(b, n)``."""
        raise NotImplementedError

    def num_terms(self, rows: RowBlock) -> Tensor:
        """Return the number of images that each anchor is paired with."""
        return torch.full_like(rows.anchors, len(rows.batch) - 1)

    def sum_terms(self, similarity: Tensor, rows: RowBlock) -> Tensor:
        """Return the sum over each anchor's pairs."""
        return self.pair_terms(similarity, rows).sum(dim=1)


class SimilarityRegressionLoss(PairRegressionLoss):
    """Cosine similarity s equal to influence w: mean over pairs of (s - w)^2.

    The simplest graded loss.

    Args:
        influence: Weight w by distance.
    """

    def __init__(self, *, influence: InfluenceFunction) -> None:
        super().__init__(influence)

    def pair_terms(self, similarity: Tensor, rows: RowBlock) -> Tensor:
        """Return (s - w)^2."""
        return (similarity - rows.weight).square()


class AdaptiveMarginLoss(PairRegressionLoss):
    """The contrastive loss with a margin that grows as the influence falls.

    Mean over pairs of w D^2 / 2 + (1 - w) max(0, margin (1 - w) - D)^2 / 2, D the embedding
    distance: after the generalized contrastive loss, Leyva-Vallina et al., Data-efficient
    Large Scale Place Recognition with Graded Similarity Supervision, CVPR 2023, whose margin
    is the same for all pairs.

    Args:
        influence: Weight w by distance.
        margin: Embedding distance beyond which a pair of weight 0 costs nothing.
    """

    def __init__(self, *, influence: InfluenceFunction, margin: float = math.sqrt(2.0)) -> None:
        super().__init__(influence)
        self.margin = margin

    def pair_terms(self, similarity: Tensor, rows: RowBlock) -> Tensor:
        """Return the cost of each pair."""
        attraction, repulsion = rows.weight, 1.0 - rows.weight
        shortfall = torch.relu(self.margin * repulsion - embedding_distance(similarity))
        # D^2 / 2 = 1 - s for unit embeddings.
        return attraction * (1.0 - similarity) + repulsion / 2.0 * shortfall.square()


class StressLoss(PairRegressionLoss):
    """Embedding distance proportional to geometric distance, up to a range.

    Mean over pairs of (D - sqrt(2) min(d / range_m, 1))^2: the raw stress of metric
    multidimensional scaling (Kruskal, Psychometrika 1964). sqrt(2) is the distance of
    orthogonal embeddings.

    Args:
        range_m: Geometric distance (metres) from which on embeddings should be orthogonal.
    """

    def __init__(self, *, range_m: float = 25.0) -> None:
        super().__init__()
        self.range_m = range_m

    def pair_terms(self, similarity: Tensor, rows: RowBlock) -> Tensor:
        """Return the squared error of each pair's distance."""
        target = math.sqrt(2.0) * (rows.distance_m / self.range_m).clamp(max=1.0)
        return (embedding_distance(similarity) - target).square()
