"""Forms of the proposed loss that are tried before any of them becomes an option.

Dense, for the batches of the comparison: 25 images. Without a change, it is the proposed loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlcore.protocols import Batch, LossOutput, Pairs, Triplets
from mlcore_soft_contrastive.dense import log_one_plus_sum_exp, mine, normalized
from mlcore_soft_contrastive.geometry import PairWeights, pair_weights
from mlcore_soft_contrastive.influence import Sigmoid
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


class Cutoffs(NamedTuple):
    """A cutoff that changes from step to step.

    Attributes:
        first_m: In the first step.
        last_m: In the last one and after it.
        steps: How many there are.
    """

    first_m: float
    last_m: float
    steps: int

    def at(self, step: int) -> float:
        """Return the cutoff of a step, the first of which is 0."""
        done = min(1.0, step / max(1, self.steps - 1))
        return self.first_m + (self.last_m - self.first_m) * done


@dataclass(frozen=True)
class Change:
    """What differs from the proposed loss.

    Attributes:
        spread: Lambda and beta by the batch; None: those of the options.
        divides: Whether the sum over attracting pairs of a row is divided by the sum of their
            weights.
        cutoffs: Cutoff of the influence function that goes evenly from one to another; None:
            that of the options.
    """

    spread: Spread | None = None
    divides: bool = False
    cutoffs: Cutoffs | None = None

    def __call__(self, loss: nn.Module) -> nn.Module:
        """Return the changed form of a loss."""
        assert isinstance(loss, BatchLoss)
        return ChangedLoss(loss, self)


def weights_of(
    loss: BatchLoss, embeddings: Tensor, batch: Batch, cutoff_m: float | None = None
) -> PairWeights:
    """Return the weights that a loss gives to the pairs of a batch; each ``(B, B)``.

    Args:
        loss: The loss.
        embeddings: Of the batch.
        batch: Where its images are.
        cutoff_m: Instead of that of the loss's influence function.
    """
    influence = loss.influence
    if cutoff_m is not None:
        assert isinstance(influence, Sigmoid)
        influence = replace(influence, cutoff_m=cutoff_m)
    geometry = checked_geometry(
        embeddings,
        batch.positions_m,
        batch.headings_rad,
        region=batch.region,
        influence=influence,
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
        self.steps = 0

    def forward(
        self, embeddings: Tensor, batch: Batch, tuples: Pairs | Triplets | None = None
    ) -> LossOutput:
        """Return the mean loss of the batch's images; ``embeddings`` is ``(B, D)``."""
        config = self.original.config
        cutoffs = self.change.cutoffs
        cutoff_m = None if cutoffs is None else cutoffs.at(self.steps)
        weights = weights_of(self.original, embeddings, batch, cutoff_m)
        self.steps += 1
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
