"""The quadruplet loss of PointNetVLAD."""

from __future__ import annotations

from torch import Tensor, nn

from mlcore.protocols import Batch, LossOutput, Pairs, Triplets
from mlcore_baselines import tuples as terms


class QuadrupletLoss(nn.Module):
    """The triplet loss, and far images a second margin away from one another.

    Mean over tuples of sum_n max(0, margin + B - D(a, n)) + sum_n max(0, second_margin + B
    - D(n, n*)) with B = min_p D(a, p) and n* the tuple's other-far image: Uy and Lee,
    PointNetVLAD, CVPR 2018.

    Args:
        margin: Squared embedding distance of far images from the anchor.
        second_margin: Squared embedding distance of far images from the other-far image.
    """

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
        loss = terms.mean_of_sums(first, rows) + terms.mean_of_sums(second, rows)
        stats = {
            "active_share": terms.share_above_zero(first),
            "active_share_other_far": terms.share_above_zero(second),
        }
        return LossOutput(loss, stats)


class LazyQuadrupletLoss(nn.Module):
    """The quadruplet loss with the far image that costs most in each of its terms.

    Mean over tuples of max_n max(0, margin + B - D(a, n)) + max_n max(0, second_margin + B
    - D(n, n*)) with B = min_p D(a, p) and n* the tuple's other-far image: Uy and Lee,
    PointNetVLAD, CVPR 2018.

    Args:
        margin: Squared embedding distance of far images from the anchor.
        second_margin: Squared embedding distance of far images from the other-far image.
    """

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
        loss = terms.mean_of_maxima(first, rows) + terms.mean_of_maxima(second, rows)
        stats = {
            "active_share": terms.share_above_zero(first),
            "active_share_other_far": terms.share_above_zero(second),
        }
        return LossOutput(loss, stats)
