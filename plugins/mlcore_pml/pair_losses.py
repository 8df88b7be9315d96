"""Losses of pairs: each pair of images is positive or negative."""

from __future__ import annotations

from dataclasses import dataclass

from mlcore_pml.factories import tuple_loss


@dataclass(frozen=True, kw_only=True)
class MultiSimilarityOptions:
    """Options of ``pml-multi-similarity``.

    Attributes:
        alpha: Sharpness of the positive term.
        beta: Sharpness of the negative term.
        base: Cosine similarity at which a pair counts neither way (the paper that this
            project follows has 1).
    """

    alpha: float = 2.0
    beta: float = 50.0
    base: float = 0.5


@dataclass(frozen=True, kw_only=True)
class ContrastiveOptions:
    """Options of ``pml-contrastive``.

    Attributes:
        pos_margin: Positive pairs closer than this embedding distance cost nothing.
        neg_margin: Negative pairs beyond this embedding distance cost nothing.
    """

    pos_margin: float = 0.0
    neg_margin: float = 1.0


@dataclass(frozen=True, kw_only=True)
class NTXentOptions:
    """Options of ``pml-nt-xent``.

    Attributes:
        temperature: Cosine similarities are divided by it.
    """

    temperature: float = 0.07


@dataclass(frozen=True, kw_only=True)
class SupConOptions:
    """Options of ``pml-supcon``.

    Attributes:
        temperature: Cosine similarities are divided by it.
    """

    temperature: float = 0.1


@dataclass(frozen=True, kw_only=True)
class CircleOptions:
    """Options of ``pml-circle``.

    Attributes:
        m: Relaxation: positives should exceed a cosine similarity of ``1 - m``, negatives
            stay below ``m``.
        gamma: Scale of the similarities.
    """

    m: float = 0.4
    gamma: float = 80.0


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
    ),
)
