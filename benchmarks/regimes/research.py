"""Forms of the proposed loss that are tried before any of them becomes an option.

Dense, for the batches of the comparison: 25 images. Without a change, it is the proposed loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlcore.protocols import Batch, LossOutput, Pairs, Triplets
from mlcore_soft_contrastive.dense import log_one_plus_sum_exp, mine, normalized
from mlcore_soft_contrastive.geometry import PairWeights, pair_weights
from mlcore_soft_contrastive.inputs import checked_geometry
from mlcore_soft_contrastive.loss import BatchLoss


class Spread(NamedTuple):
    """Lambda and beta that follow the similarities of the pairs of a batch.

    Attributes:
        above: Lambda is the mean similarity plus this many standard deviations.
        sharpness: Beta is this over the standard deviation.
    """

    above: float
    sharpness: float


@dataclass(frozen=True)
class Change:
    """What differs from the proposed loss.

    Attributes:
        spread: Lambda and beta by the batch; None: those of the options.
        divides: Whether the sum over attracting pairs of a row is divided by the sum of their
            weights.
    """

    spread: Spread | None = None
    divides: bool = False

    def __call__(self, loss: nn.Module) -> nn.Module:
        """Return the changed form of a loss."""
        assert isinstance(loss, BatchLoss)
        return ChangedLoss(loss, self)


def weights_of(loss: BatchLoss, embeddings: Tensor, batch: Batch) -> PairWeights:
    """Return the weights that a loss gives to the pairs of a batch; each ``(B, B)``."""
    geometry = checked_geometry(
        embeddings,
        batch.positions_m,
        batch.headings_rad,
        region=batch.region,
        influence=loss.influence,
        heading_limit_rad=loss.heading_limit_rad,
    )
    return pair_weights(geometry)


class ChangedLoss(nn.Module):
    """The proposed loss with a change.

    Args:
        loss: Decides the influence, mining, alpha, and what else does not change.
        change: What does.
    """

    def __init__(self, loss: BatchLoss, change: Change) -> None:
        super().__init__()
        self.original = loss
        self.change = change

    def forward(
        self, embeddings: Tensor, batch: Batch, tuples: Pairs | Triplets | None = None
    ) -> LossOutput:
        """Return the mean loss of the batch's images; ``embeddings`` is ``(B, D)``."""
        config = self.original.config
        weights = weights_of(self.original, embeddings, batch)
        x = normalized(embeddings)
        similarity = torch.relu(x @ x.T)
        similarity = torch.where(weights.same, similarity.detach(), similarity)
        attraction, repulsion = (weights.attraction.to(x.dtype), weights.repulsion.to(x.dtype))
        p, n = attraction * similarity, repulsion * similarity
        attracts, repels = weights.attracts, weights.repels
        if config.mining:
            kept = mine(weights, similarity.detach(), p.detach(), n.detach(), config.epsilon)
            attracts, repels = attracts & kept[0], repels & kept[1]
        base, beta = self._constants(similarity.detach()[~weights.same])
        exponent = config.alpha * (base - p)
        if self.change.divides:
            total = (attraction * attracts).sum(dim=1, keepdim=True)
            exponent = exponent - torch.log(torch.where(total > 0, total, 1.0))
        row = log_one_plus_sum_exp(exponent, attracts) / config.alpha
        row = row + log_one_plus_sum_exp(beta * (n - base), repels) / beta
        return LossOutput(row.mean(), {})

    def _constants(self, similarities: Tensor) -> tuple[float, float]:
        """Return lambda and beta, given the similarities of the batch's pairs."""
        spread = self.change.spread
        if spread is None:
            return self.original.config.base, self.original.config.beta
        deviation = max(float(similarities.std()), 1e-6)
        base = float(similarities.mean()) + spread.above * deviation
        return base, spread.sharpness / deviation
