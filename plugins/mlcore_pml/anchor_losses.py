"""Losses that PML has for class labels, but that see one anchor at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mlcore.option_types import POSITIVE, Range
from mlcore_pml.factories import PmlOptions, anchor_loss


@dataclass(frozen=True, kw_only=True)
class AngularOptions(PmlOptions):
    """Options of ``pml-angular``.

    Attributes:
        alpha: Largest angle (degrees) at a negative under which a positive pair is seen.
    """

    alpha: Annotated[float, Range(above=0, below=90)] = 40.0


@dataclass(frozen=True, kw_only=True)
class NcaOptions(PmlOptions):
    """Options of ``pml-nca``.

    Attributes:
        softmax_scale: Scale of the squared embedding distances.
    """

    softmax_scale: Annotated[float, POSITIVE] = 1.0


LOSSES = (
    anchor_loss(
        "pml-angular",
        "AngularLoss",
        AngularOptions,
        summary="near pairs seen under a small angle from every far image of their anchor",
        source="Wang et al., Deep Metric Learning with Angular Loss, ICCV 2017",
        mean_over="positives",
        memory="quadratic",
    ),
    anchor_loss(
        "pml-nca",
        "NCALoss",
        NcaOptions,
        summary="the probability that a soft nearest neighbour of an anchor is near",
        source="Goldberger et al., Neighbourhood Components Analysis, NIPS 2004",
        mean_over="anchors",
        memory="quadratic",
    ),
)
