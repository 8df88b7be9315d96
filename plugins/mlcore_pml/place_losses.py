"""Losses with trained weights for each place, that is each cell of the place grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mlcore.option_types import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, Range
from mlcore_pml.factories import PmlOptions, place_loss


@dataclass(frozen=True, kw_only=True)
class ProxyAnchorOptions(PmlOptions):
    """Options of ``pml-proxy-anchor``.

    Attributes:
        margin: Cosine similarity to its own proxy should exceed this, to others stay below
            its negative.
        alpha: Scale of the similarities.
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.1
    alpha: Annotated[float, POSITIVE] = 32.0


@dataclass(frozen=True, kw_only=True)
class ProxyNcaOptions(PmlOptions):
    """Options of ``pml-proxy-nca``.

    Attributes:
        softmax_scale: Scale of the squared embedding distances.
    """

    softmax_scale: Annotated[float, POSITIVE] = 1.0


@dataclass(frozen=True, kw_only=True)
class ArcFaceOptions(PmlOptions):
    """Options of ``pml-arcface``.

    Attributes:
        margin: Added to the angle (degrees) between an image and its place.
        scale: Scale of the cosine similarities.
    """

    margin: Annotated[float, Range(at_least=0, at_most=180)] = 28.6
    scale: Annotated[float, POSITIVE] = 64.0


@dataclass(frozen=True, kw_only=True)
class SubCenterArcFaceOptions(PmlOptions):
    """Options of ``pml-sub-center-arcface``.

    Attributes:
        margin: Added to the angle (degrees) between an image and its place.
        scale: Scale of the cosine similarities.
        sub_centers: Weights per place; the most similar one counts.
    """

    margin: Annotated[float, Range(at_least=0, at_most=180)] = 28.6
    scale: Annotated[float, POSITIVE] = 64.0
    sub_centers: Annotated[int, AT_LEAST_ONE] = 3


@dataclass(frozen=True, kw_only=True)
class CosFaceOptions(PmlOptions):
    """Options of ``pml-cosface``.

    Attributes:
        margin: Subtracted from the cosine similarity of an image and its place.
        scale: Scale of the cosine similarities.
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.35
    scale: Annotated[float, POSITIVE] = 64.0


@dataclass(frozen=True, kw_only=True)
class NormalizedSoftmaxOptions(PmlOptions):
    """Options of ``pml-normalized-softmax``.

    Attributes:
        temperature: Cosine similarities are divided by it.
    """

    temperature: Annotated[float, POSITIVE] = 0.05


@dataclass(frozen=True, kw_only=True)
class SoftTripleOptions(PmlOptions):
    """Options of ``pml-soft-triple``.

    Attributes:
        centers_per_class: Weights per place.
        la: Scale of the cosine similarities.
        gamma: Temperature with which an image chooses among a place's weights.
        margin: Subtracted from the cosine similarity of an image and its place.
    """

    centers_per_class: Annotated[int, AT_LEAST_ONE] = 10
    la: Annotated[float, POSITIVE] = 20.0
    gamma: Annotated[float, POSITIVE] = 0.1
    margin: Annotated[float, NOT_NEGATIVE] = 0.01


@dataclass(frozen=True, kw_only=True)
class P2SGradOptions(PmlOptions):
    """Options of ``pml-p2s-grad``."""


LOSSES = (
    place_loss(
        "pml-proxy-anchor",
        "ProxyAnchorLoss",
        ProxyAnchorOptions,
        summary="one learned proxy per place, as in Proxy-Anchor",
        source="Kim et al., Proxy Anchor Loss, CVPR 2020",
    ),
    place_loss(
        "pml-proxy-nca",
        "ProxyNCALoss",
        ProxyNcaOptions,
        summary="softmax over the distances to one learned proxy per place",
        source="Movshovitz-Attias et al., No Fuss Distance Metric Learning using Proxies, "
        "ICCV 2017",
        limits={"registered": "PML holds proxy labels as a tensor and moves it at each call"},
    ),
    place_loss(
        "pml-arcface",
        "ArcFaceLoss",
        ArcFaceOptions,
        summary="classify the place, its angle to the image enlarged by a margin",
        source="Deng et al., ArcFace, CVPR 2019",
    ),
    place_loss(
        "pml-sub-center-arcface",
        "SubCenterArcFaceLoss",
        SubCenterArcFaceOptions,
        summary="ArcFace with several weights per place",
        source="Deng et al., Sub-center ArcFace, ECCV 2020",
    ),
    place_loss(
        "pml-cosface",
        "CosFaceLoss",
        CosFaceOptions,
        summary="classify the place, its cosine similarity reduced by a margin",
        source="Wang et al., CosFace, CVPR 2018",
    ),
    place_loss(
        "pml-normalized-softmax",
        "NormalizedSoftmaxLoss",
        NormalizedSoftmaxOptions,
        summary="classify the place by cosine similarity",
        source="Zhai and Wu, Classification is a Strong Baseline for Deep Metric Learning, "
        "BMVC 2019",
    ),
    place_loss(
        "pml-soft-triple",
        "SoftTripleLoss",
        SoftTripleOptions,
        summary="classify the place by a soft choice among its several weights",
        source="Qian et al., SoftTriple Loss, ICCV 2019",
    ),
    place_loss(
        "pml-p2s-grad",
        "P2SGradLoss",
        P2SGradOptions,
        summary="cosine similarity 1 to the own place and 0 to all others, squared error",
        source="Zhang et al., P2SGrad, CVPR 2019",
        dimension_argument="descriptors_dim",
        limits={"zero-embeddings": "neither value nor gradient is finite if one is all zeros"},
    ),
)
