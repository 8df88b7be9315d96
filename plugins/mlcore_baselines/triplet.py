"""The triplet loss of NetVLAD and its two variants."""

from __future__ import annotations

from torch import Tensor, nn

from mlcore.protocols import Batch, LossOutput, Pairs, Triplets
from mlcore_baselines import tuples as terms


class TripletLoss(nn.Module):
    """Every far image a margin farther than the nearest near image.

    Mean over tuples of sum_n max(0, margin + B - D(a, n)) with B = min_p D(a, p):
    Arandjelovic et al., NetVLAD, CVPR 2016.

    Args:
        margin: Squared embedding distance.
    """

    bound = staticmethod(terms.nearest)
    """B of each tuple."""
    reduction = staticmethod(terms.mean_of_sums)
    """Hinges of far images to the loss."""

    def __init__(self, *, margin: float = 0.1) -> None:
        super().__init__()
        self.margin = margin

    def forward(
        self,
        embeddings: Tensor,
        batch: Batch,
        tuples: Pairs | Triplets | None = None,
    ) -> LossOutput:
        """Return the loss of ``embeddings`` ``(B, D)``; 0 for tuples without near or far."""
        rows = terms.TupleRows.of(batch)
        hinges = terms.anchor_hinges(
            embeddings, rows, self.bound(embeddings, rows), self.margin
        )
        stats = {"active_share": terms.share_above_zero(hinges)}
        return LossOutput(self.reduction(hinges, rows), stats)


class LazyTripletLoss(TripletLoss):
    """The triplet loss with only the far image of each tuple that costs most.

    max_n in place of sum_n: Uy and Lee, PointNetVLAD, CVPR 2018.
    """

    reduction = staticmethod(terms.mean_of_maxima)


class HardPositiveTripletLoss(TripletLoss):
    """The triplet loss with the farthest near image: B = max_p D(a, p)."""

    bound = staticmethod(terms.farthest)
