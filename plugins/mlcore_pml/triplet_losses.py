"""Losses of triplets: an anchor with one positive and one negative image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mlcore import Triplets
from mlcore.option_types import NOT_NEGATIVE
from mlcore_pml.factories import PmlOptions, tuple_loss


@dataclass(frozen=True, kw_only=True)
class TripletMarginOptions(PmlOptions):
    """Options of ``pml-triplet-margin``.

    Attributes:
        margin: How much farther (in embedding distance) the negative should be than the
            positive.
        swap: Measure the negative from the positive where that is nearer.
        smooth_loss: Softplus in place of the hinge.
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.05
    swap: bool = False
    smooth_loss: bool = False


@dataclass(frozen=True, kw_only=True)
class MarginOptions(PmlOptions):
    """Options of ``pml-margin``.

    Attributes:
        margin: Half the gap between the embedding distances of positives and negatives.
        beta: Middle of the gap, an embedding distance. (PML can also learn it.)
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.2
    beta: Annotated[float, NOT_NEGATIVE] = 1.2


LOSSES = (
    tuple_loss(
        "pml-triplet-margin",
        "TripletMarginLoss",
        TripletMarginOptions,
        summary="far images a margin farther than near ones; mean over triplets that cost",
        source="Schroff et al., FaceNet, CVPR 2015",
        accepts=Triplets,
    ),
    tuple_loss(
        "pml-margin",
        "MarginLoss",
        MarginOptions,
        summary="near images within one embedding distance, far ones beyond another",
        source="Wu et al., Sampling Matters in Deep Embedding Learning, ICCV 2017",
        accepts=Triplets,
        limits={"registered": "PML holds beta as a tensor and moves it at each call"},
    ),
)
