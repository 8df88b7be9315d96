"""The triplet loss of NetVLAD."""

from __future__ import annotations

from torch import Tensor, nn

from mlcore.protocols import Batch, LossOutput, Pairs, Triplets
from mlcore_baselines import tuples as terms


class TripletLoss(nn.Module):
    """Every far image a margin farther than the nearest near image.

    Mean over tuples of sum_n max(0, margin + min_p D(a, p) - D(a, n)): Arandjelovic et al.,
    NetVLAD, CVPR 2016.

    Args:
        margin: Squared embedding distance.
    """

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
        bound = terms.nearest(embeddings, rows)
        hinges = terms.anchor_hinges(embeddings, rows, bound, self.margin)
        stats = {"active_share": terms.share_above_zero(hinges)}
        return LossOutput(terms.mean_of_sums(hinges, rows), stats)


class LazyTripletLoss(nn.Module):
    """The far image that costs most a margin farther than the nearest near image.

    Mean over tuples of max_n max(0, margin + min_p D(a, p) - D(a, n)): Uy and Lee,
    PointNetVLAD, CVPR 2018.

    Args:
        margin: Squared embedding distance.
    """

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
        bound = terms.nearest(embeddings, rows)
        hinges = terms.anchor_hinges(embeddings, rows, bound, self.margin)
        stats = {"active_share": terms.share_above_zero(hinges)}
        return LossOutput(terms.mean_of_maxima(hinges, rows), stats)


class HardPositiveTripletLoss(nn.Module):
    """Every far image a margin farther than the farthest near image.

    Mean over tuples of sum_n max(0, margin + max_p D(a, p) - D(a, n)): the triplet loss of
    NetVLAD (CVPR 2016) with the maximum in place of the minimum.

    Args:
        margin: Squared embedding distance.
    """

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
        bound = terms.farthest(embeddings, rows)
        hinges = terms.anchor_hinges(embeddings, rows, bound, self.margin)
        stats = {"active_share": terms.share_above_zero(hinges)}
        return LossOutput(terms.mean_of_sums(hinges, rows), stats)
