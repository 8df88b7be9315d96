"""The quadruplet loss of PointNetVLAD and its lazy variant."""

from __future__ import annotations

from torch import Tensor, nn

from mlcore.protocols import Batch, LossOutput, Pairs, Triplets
from mlcore_baselines import tuples as terms


class QuadrupletLoss(nn.Module):
    """The triplet loss, with far images a second margin away from each other.

    Mean over tuples of sum_n max(0, margin + B - D(a, n)) + sum_n max(0, second_margin + B
    - D(n, n*)) with B = min_p D(a, p) and n* the tuple's other-far image: Uy and Lee,
    PointNetVLAD, CVPR 2018.

    Args:
        margin: Squared embedding distance of far images from the anchor.
        second_margin: Squared embedding distance of far images from the other-far image.
    """

    reduction = staticmethod(terms.mean_of_sums)
    """Hinges of far images to the loss."""

    def __init__(self, *, margin: float = 0.1, second_margin: float = 0.2) -> None:
        super().__init__()
        self.margin = margin
        self.second_margin = second_margin

    def forward(
        self,
        embeddings: Tensor,
        batch: Batch,
        tuples: Pairs | Triplets | None = None,
    ) -> LossOutput:
        """Return the loss of ``embeddings`` ``(B, D)``; 0 for tuples without near or far."""
        rows = terms.TupleRows.of(batch)
        bound = terms.nearest(embeddings, rows)
        first = terms.anchor_hinges(embeddings, rows, bound, self.margin)
        second = terms.other_far_hinges(embeddings, rows, bound, self.second_margin)
        stats = {
            "active_share": terms.share_above_zero(first),
            "active_share_other_far": terms.share_above_zero(second),
        }
        return LossOutput(self.reduction(first, rows) + self.reduction(second, rows), stats)


class LazyQuadrupletLoss(QuadrupletLoss):
    """The quadruplet loss with max_n in place of sum_n in each of its terms."""

    reduction = staticmethod(terms.mean_of_maxima)
