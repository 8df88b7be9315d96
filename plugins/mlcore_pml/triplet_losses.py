"""Losses of triplets: an anchor with one positive and one negative image."""

from __future__ import annotations

from dataclasses import dataclass

from mlcore import Triplets
from mlcore_pml.factories import tuple_loss


@dataclass(frozen=True, kw_only=True)
class TripletMarginOptions:
    """Options of ``pml-triplet-margin``.

    Attributes:
        margin: How much farther (in embedding distance) the negative should be than the
            positive.
        swap: Measure the negative from the positive where that is nearer.
        smooth_loss: Softplus in place of the hinge.
    """

    margin: float = 0.05
    swap: bool = False
    smooth_loss: bool = False


LOSSES = (
    tuple_loss(
        "pml-triplet-margin",
        "TripletMarginLoss",
        TripletMarginOptions,
        summary="far images a margin farther than near ones; mean over triplets that cost",
        source="Schroff et al., FaceNet, CVPR 2015",
        accepts=Triplets,
        memory="cubic",
    ),
)
