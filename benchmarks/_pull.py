"""Where the gradient of the proposed loss goes, pair by pair, while it trains.

Shapes: ``B`` images of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.regimes.research import weights_of
from mlcore.protocols import Batch, LossOutput, Pairs, Triplets
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.dense import log_one_plus_sum_exp, mine, normalized
from mlcore_soft_contrastive.geometry import PairWeights
from mlcore_soft_contrastive.loss import BatchLoss

NEAR_M, FAR_M = 10.0, 20.0
"""Near pairs are closer than the first, far ones at least the second apart, in metres; the band
is between them. The paper's influence at these distances is .98 and .02."""
ZONES = ("near", "band", "far")


class Pull(NamedTuple):
    """What the pairs of a batch do to its embeddings; each ``(B, B)``.

    Attributes:
        similarity: Cosine, at least 0.
        pair: Whether it is a pair of different images.
        gradient: Of the loss with respect to the cosine; negative for what attracts.
        attraction: Share of each pair in its row's sum over attracting pairs and 1.
        repulsion: Likewise for repelling pairs.
        attracts: Pairs that can attract.
        repels: Pairs that can repel.
        kept: Of either, those that mining keeps.
    """

    similarity: Tensor
    pair: Tensor
    gradient: Tensor
    attraction: Tensor
    repulsion: Tensor
    attracts: Tensor
    repels: Tensor
    kept: Tensor

    @property
    def norm(self) -> Tensor:
        """Norm of each pair's gradient with respect to the unit embedding of its row.

        The cosine of unit vectors x and y has the gradient y - s x, of norm sqrt(1 - s^2).
        """
        across = (1.0 - self.similarity.square()).clamp(min=0.0).sqrt()
        return self.gradient.abs() * across * self.pair


def pull(embeddings: Tensor, weights: PairWeights, config: SoftContrastiveConfig) -> Pull:
    """Return what each pair does, of embeddings ``(B, D)``, as the dense loss computes it."""
    x = normalized(embeddings.detach())
    cosine = (x @ x.T).requires_grad_()
    similarity = torch.relu(cosine)
    attraction, repulsion = weights.attraction.to(x.dtype), weights.repulsion.to(x.dtype)
    p, n = attraction * similarity, repulsion * similarity
    attracts, repels = weights.attracts, weights.repels
    if config.mining:
        keep = mine(weights, similarity.detach(), p.detach(), n.detach(), config.epsilon)
        attracts, repels = attracts & keep[0], repels & keep[1]
    up, down = config.alpha * (config.base - p), config.beta * (n - config.base)
    rows = log_one_plus_sum_exp(up, attracts) / config.alpha
    rows = rows + log_one_plus_sum_exp(down, repels) / config.beta
    rows.mean().backward()  # type: ignore[no-untyped-call]
    assert cosine.grad is not None
    pair = ~weights.same
    return Pull(
        similarity=similarity.detach(),
        pair=pair,
        gradient=cosine.grad * pair,
        attraction=_shares(up.detach(), attracts),
        repulsion=_shares(down.detach(), repels),
        attracts=weights.attracts & pair,
        repels=weights.repels & pair,
        kept=(attracts | repels) & pair,
    )


def _shares(exponent: Tensor, included: Tensor) -> Tensor:
    """Return ``exp(e_ij) / (1 + sum_k exp(e_ik))`` over included k."""
    masked = exponent.masked_fill(~included, -torch.inf)
    one = torch.zeros(len(masked), 1, dtype=masked.dtype)
    return torch.softmax(torch.cat([one, masked], dim=1), dim=1)[:, 1:]


def zone_of(distance_m: Tensor) -> Tensor:
    """Return the number of each pair's zone in :data:`ZONES`."""
    return (distance_m >= NEAR_M).long() + (distance_m >= FAR_M).long()


def summary(found: Pull, zone: Tensor) -> dict[str, float]:
    """Return the figures of one batch.

    ``attract near`` and the like are shares of the summed norm of all pairs; ``sum far`` is the
    share of far pairs in the sums over attracting pairs, which they join as constants;
    ``repulsion`` is how far the repelling term is switched on, from 0 to 1; ``kept`` is the
    share of pairs that mining keeps. A mean over a zone without pairs is NaN.
    """
    norm, total = found.norm, found.norm.sum()
    values: dict[str, Tensor] = {}
    for number, name in enumerate(ZONES):
        inside = found.pair & (zone == number)
        for what, sign in (("attract", -1), ("repel", 1)):
            chosen = inside & (found.gradient.sign() == sign)
            values[f"{what} {name}"] = (norm * chosen).sum() / total
        values[f"sum {name}"] = (found.attraction * inside).sum(dim=1).mean()
        values[f"similarity {name}"] = mean = found.similarity[inside].mean()
        values[f"deviation {name}"] = (found.similarity[inside] - mean).square().mean().sqrt()
    values["repulsion"] = (found.repulsion * found.pair).sum(dim=1).mean()
    values["kept"] = found.kept.sum() / (found.attracts | found.repels).sum()
    return {name: float(value) for name, value in values.items()}


class Probe(nn.Module):
    """The proposed loss, whose pull on every batch is recorded.

    Args:
        loss: The loss.
        records: One summary per step is appended.
    """

    def __init__(self, loss: BatchLoss, records: list[Mapping[str, float]]) -> None:
        super().__init__()
        self.original = loss
        self.records = records

    def forward(
        self, embeddings: Tensor, batch: Batch, tuples: Pairs | Triplets | None = None
    ) -> LossOutput:
        """Return the loss; ``embeddings`` is ``(B, D)``."""
        found = pull(
            embeddings, weights_of(self.original, embeddings, batch), self.original.config
        )
        positions_m = batch.positions_m
        distance_m = (positions_m[:, None] - positions_m[None]).norm(dim=-1)
        self.records.append(summary(found, zone_of(distance_m)))
        output: LossOutput = self.original(embeddings, batch, tuples)
        return output
