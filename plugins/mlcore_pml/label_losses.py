"""Losses of pairs for which PML needs class labels: the cells of the place grid.

Two images on two sides of a cell's edge are negatives here, however near.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mlcore.errors import ConfigError
from mlcore.option_types import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, Range
from mlcore_pml.factories import PmlOptions, label_loss


@dataclass(frozen=True, kw_only=True)
class NPairsOptions(PmlOptions):
    """Options of ``pml-n-pairs``."""


@dataclass(frozen=True, kw_only=True)
class FastApOptions(PmlOptions):
    """Options of ``pml-fast-ap``.

    Attributes:
        num_bins: Bins of the histogram of squared embedding distances.
    """

    num_bins: Annotated[int, AT_LEAST_ONE] = 10


@dataclass(frozen=True, kw_only=True)
class RankedListOptions(PmlOptions):
    """Options of ``pml-ranked-list``.

    Attributes:
        margin: Embedding distance between positives and negatives (no default in PML;
            the paper's).
        Tn: Temperature of the weights of negatives (no default in PML; the largest that
            PML does not warn of).
        imbalance: Weight of the negatives, from 0 to 1; the positives have the rest.
        alpha: Embedding distance of negatives; none: 1 + margin / 2.
        Tp: Temperature of the weights of positives.
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.4
    Tn: Annotated[float, NOT_NEGATIVE] = 5.0
    imbalance: Annotated[float, Range(at_least=0, at_most=1)] = 0.5
    alpha: Annotated[float | None, NOT_NEGATIVE] = None
    Tp: Annotated[float, NOT_NEGATIVE] = 0.0


@dataclass(frozen=True, kw_only=True)
class PnpOptions(PmlOptions):
    """Options of ``pml-pnp``.

    Attributes:
        variant: How the number of negatives ranked before a positive is weighted.
        b: Constant of the variant Ib.
        alpha: Constant of the variant Dq.
        anneal: Temperature of the sigmoid that stands for the ranking.
    """

    variant: Literal["Ds", "Dq", "Iu", "Ib", "O"] = "O"
    b: Annotated[float, POSITIVE] = 2.0
    alpha: Annotated[float, POSITIVE] = 1.0
    anneal: Annotated[float, POSITIVE] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, idle, variant in (("b", 2.0, "Ib"), ("alpha", 1.0, "Dq")):
            value = getattr(self, name)
            if value != idle and self.variant != variant:
                raise ConfigError(
                    f"{name} {value:g} has no effect with variant {self.variant}; it is the "
                    f"constant of the variant {variant}"
                )


LOSSES = (
    label_loss(
        "pml-n-pairs",
        "NPairsLoss",
        NPairsOptions,
        summary="one pair of each place against the other places' pairs, by softmax",
        source="Sohn, Multi-class N-pair Loss, NIPS 2016",
        limits={"permutation": "the pair of a place is its first two images in the batch"},
    ),
    label_loss(
        "pml-fast-ap",
        "FastAPLoss",
        FastApOptions,
        summary="average precision of retrieving the place, by histograms",
        source="Cakir et al., Deep Metric Learning to Rank, CVPR 2019",
    ),
    label_loss(
        "pml-ranked-list",
        "RankedListLoss",
        RankedListOptions,
        summary="the place's images within a ball, all others outside a larger one",
        source="Wang et al., Ranked List Loss, CVPR 2019",
    ),
    label_loss(
        "pml-pnp",
        "PNPLoss",
        PnpOptions,
        summary="number of other places' images ranked before the place's own",
        source="Li et al., Rethinking the Optimization of Average Precision, AAAI 2022",
        memory="cubic",
    ),
)
