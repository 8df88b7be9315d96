"""Losses of pairs: each pair of images is positive or negative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from mlcore.option_types import NOT_NEGATIVE, POSITIVE, Range
from mlcore_pml.factories import COSINE, PmlOptions, tuple_loss


@dataclass(frozen=True, kw_only=True)
class MultiSimilarityOptions(PmlOptions):
    """Options of ``pml-multi-similarity``.

    Attributes:
        alpha: Sharpness of the positive term.
        beta: Sharpness of the negative term.
        base: Cosine similarity at which a pair counts neither way (the paper that this
            project follows has 1).
    """

    alpha: Annotated[float, POSITIVE] = 2.0
    beta: Annotated[float, POSITIVE] = 50.0
    base: Annotated[float, Range(at_least=-2, at_most=2)] = 0.5


@dataclass(frozen=True, kw_only=True)
class ContrastiveOptions(PmlOptions):
    """Options of ``pml-contrastive``.

    Attributes:
        pos_margin: Positive pairs closer than this embedding distance cost nothing.
        neg_margin: Negative pairs beyond this embedding distance cost nothing.
    """

    pos_margin: Annotated[float, NOT_NEGATIVE] = 0.0
    neg_margin: Annotated[float, NOT_NEGATIVE] = 1.0


@dataclass(frozen=True, kw_only=True)
class NTXentOptions(PmlOptions):
    """Options of ``pml-nt-xent``.

    Attributes:
        temperature: Cosine similarities are divided by it.
    """

    temperature: Annotated[float, POSITIVE] = 0.07


@dataclass(frozen=True, kw_only=True)
class SupConOptions(PmlOptions):
    """Options of ``pml-supcon``.

    Attributes:
        temperature: Cosine similarities are divided by it.
    """

    temperature: Annotated[float, POSITIVE] = 0.1


@dataclass(frozen=True, kw_only=True)
class CircleOptions(PmlOptions):
    """Options of ``pml-circle``.

    Attributes:
        m: Relaxation: positives should exceed a cosine similarity of ``1 - m``, negatives
            stay below ``m``.
        gamma: Scale of the similarities.
    """

    m: Annotated[float, Range(at_least=0, at_most=1)] = 0.4
    gamma: Annotated[float, POSITIVE] = 80.0


@dataclass(frozen=True, kw_only=True)
class LiftedStructureOptions(PmlOptions):
    """Options of ``pml-lifted-structure`` and ``pml-generalized-lifted-structure``.

    Attributes:
        pos_margin: Subtracted from the embedding distance of positive pairs.
        neg_margin: Embedding distance that negative pairs should exceed.
    """

    pos_margin: Annotated[float, NOT_NEGATIVE] = 0.0
    neg_margin: Annotated[float, NOT_NEGATIVE] = 1.0


@dataclass(frozen=True, kw_only=True)
class IntraPairVarianceOptions(PmlOptions):
    """Options of ``pml-intra-pair-variance``.

    Attributes:
        pos_eps: Positive pairs may be this share less similar than they are on average.
        neg_eps: Negative pairs may be this share more similar than they are on average.
    """

    pos_eps: Annotated[float, NOT_NEGATIVE] = 0.01
    neg_eps: Annotated[float, NOT_NEGATIVE] = 0.01


@dataclass(frozen=True, kw_only=True)
class SignalToNoiseOptions(PmlOptions):
    """Options of ``pml-signal-to-noise-contrastive``.

    Attributes:
        pos_margin: Positive pairs with a smaller noise-to-signal ratio cost nothing.
        neg_margin: Negative pairs with a larger noise-to-signal ratio cost nothing.
    """

    pos_margin: Annotated[float, NOT_NEGATIVE] = 0.0
    neg_margin: Annotated[float, NOT_NEGATIVE] = 1.0


@dataclass(frozen=True, kw_only=True)
class TupletMarginOptions(PmlOptions):
    """Options of ``pml-tuplet-margin``.

    Attributes:
        margin: Slack (degrees) of the angle between positive embeddings.
        scale: Scale of the cosine similarities.
    """

    margin: Annotated[float, Range(at_least=0, at_most=180)] = 5.73
    scale: Annotated[float, POSITIVE] = 64.0


@dataclass(frozen=True, kw_only=True)
class ThresholdConsistentMarginOptions(PmlOptions):
    """Options of ``pml-threshold-consistent-margin``.

    Attributes:
        lambda_plus: Weight of the positive pairs.
        lambda_minus: Weight of the negative pairs.
        margin_plus: Cosine similarity that positive pairs should exceed.
        margin_minus: Cosine similarity that negative pairs should stay below.
    """

    lambda_plus: Annotated[float, NOT_NEGATIVE] = 1.0
    lambda_minus: Annotated[float, NOT_NEGATIVE] = 1.0
    margin_plus: Annotated[float, COSINE] = 0.9
    margin_minus: Annotated[float, COSINE] = 0.5


LOSSES = (
    tuple_loss(
        "pml-multi-similarity",
        "MultiSimilarityLoss",
        MultiSimilarityOptions,
        summary="multi-similarity as in PML: base 0.5, negative similarities not clamped to 0",
        source="Wang et al., Multi-Similarity Loss, CVPR 2019",
    ),
    tuple_loss(
        "pml-contrastive",
        "ContrastiveLoss",
        ContrastiveOptions,
        summary="near pairs together, far pairs a margin apart; mean over pairs that cost",
        source="Hadsell et al., Dimensionality Reduction by Learning an Invariant Mapping, "
        "CVPR 2006",
    ),
    tuple_loss(
        "pml-nt-xent",
        "NTXentLoss",
        NTXentOptions,
        summary="each near pair against all far images of its anchor, by softmax",
        source="Chen et al., A Simple Framework for Contrastive Learning, ICML 2020",
        memory="cubic",
    ),
    tuple_loss(
        "pml-supcon",
        "SupConLoss",
        SupConOptions,
        summary="all near images of an anchor at once against all others, by softmax",
        source="Khosla et al., Supervised Contrastive Learning, NeurIPS 2020",
    ),
    tuple_loss(
        "pml-circle",
        "CircleLoss",
        CircleOptions,
        summary="pairs weighted by how far their similarity is from where it should be",
        source="Sun et al., Circle Loss, CVPR 2020",
        limits={
            "gradcheck": "the weights are held constant, as in the paper: the gradient is not "
            "the derivative of the value"
        },
    ),
    tuple_loss(
        "pml-lifted-structure",
        "LiftedStructureLoss",
        LiftedStructureOptions,
        summary="each near pair against all far images of both its images, squared hinge",
        source="Oh Song et al., Lifted Structured Feature Embedding, CVPR 2016",
        memory="cubic",
    ),
    tuple_loss(
        "pml-generalized-lifted-structure",
        "GeneralizedLiftedStructureLoss",
        LiftedStructureOptions,
        summary="all near images of an anchor against all its far ones, hinge",
        source="Hermans et al., In Defense of the Triplet Loss, 2017",
    ),
    tuple_loss(
        "pml-intra-pair-variance",
        "IntraPairVarianceLoss",
        IntraPairVarianceOptions,
        summary="pairs as similar as the average of their kind; an addition to other losses",
        source="Yu and Tao, Tuplet Margin Loss, ICCV 2019",
        limits={
            "learns": "it makes pairs of a kind equally similar and brings no near images "
            "together: it is made to be added to another loss"
        },
    ),
    tuple_loss(
        "pml-signal-to-noise-contrastive",
        "SignalToNoiseRatioContrastiveLoss",
        SignalToNoiseOptions,
        summary="contrastive, by the variance of the difference relative to the anchor's",
        source="Yuan et al., Signal-to-Noise Ratio, CVPR 2019",
        limits={"zero-embeddings": "the value is infinite if an anchor's embedding is zeros"},
    ),
    tuple_loss(
        "pml-tuplet-margin",
        "TupletMarginLoss",
        TupletMarginOptions,
        summary="each near pair, its angle slackened, against all far images of its anchor",
        source="Yu and Tao, Tuplet Margin Loss, ICCV 2019",
        memory="cubic",
        limits={
            "duplicate-embeddings": "the gradient is not finite if the embeddings of a "
            "positive pair are the same",
            "opposite-embeddings": "the gradient is not finite if the embeddings of a positive "
            "pair are opposite",
        },
    ),
    tuple_loss(
        "pml-threshold-consistent-margin",
        "ThresholdConsistentMarginLoss",
        ThresholdConsistentMarginOptions,
        summary="near pairs above one similarity, far pairs below another; an addition",
        source="Zhang et al., Threshold-Consistent Margin Loss, ICLR 2024",
    ),
)
