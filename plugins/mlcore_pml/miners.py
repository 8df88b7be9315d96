"""Miners: which of an anchor's near and far images a loss gets to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mlcore import Pairs, Triplets
from mlcore.option_types import NOT_NEGATIVE, Range
from mlcore_pml.factories import COSINE, GeometryOptions, miner


@dataclass(frozen=True, kw_only=True)
class MultiSimilarityMinerOptions(GeometryOptions):
    """Options of ``pml-multi-similarity-miner``.

    Attributes:
        epsilon: Keep positives less similar than the most similar negative plus this
            (cosine similarity), and negatives more similar than the least similar positive
            minus this.
    """

    epsilon: Annotated[float, NOT_NEGATIVE] = 0.1


@dataclass(frozen=True, kw_only=True)
class BatchHardOptions(GeometryOptions):
    """Options of ``pml-batch-hard``."""


Strategy = Literal["hard", "semihard", "easy", "all"]


@dataclass(frozen=True, kw_only=True)
class BatchEasyHardOptions(GeometryOptions):
    """Options of ``pml-batch-easy-hard``.

    Attributes:
        pos_strategy: Which positive of an anchor is taken; semihard is the hardest one more
            similar than the chosen negative.
        neg_strategy: Which negative of an anchor is taken; semihard is the hardest one less
            similar than the chosen positive. At most one strategy is semihard, and then the
            other is not "all".
        allowed_pos_range: Cosine similarities within which positives are taken.
        allowed_neg_range: Cosine similarities within which negatives are taken.
    """

    pos_strategy: Strategy = "easy"
    neg_strategy: Strategy = "semihard"
    allowed_pos_range: Annotated[tuple[float, float] | None, COSINE] = None
    allowed_neg_range: Annotated[tuple[float, float] | None, COSINE] = None


@dataclass(frozen=True, kw_only=True)
class PairMarginOptions(GeometryOptions):
    """Options of ``pml-pair-margin``.

    Attributes:
        pos_margin: Positives farther than this embedding distance are taken.
        neg_margin: Negatives nearer than this embedding distance are taken.
    """

    pos_margin: Annotated[float, NOT_NEGATIVE] = 0.2
    neg_margin: Annotated[float, NOT_NEGATIVE] = 0.8


@dataclass(frozen=True, kw_only=True)
class TripletMarginMinerOptions(GeometryOptions):
    """Options of ``pml-triplet-margin-miner``.

    Attributes:
        margin: How much farther (in embedding distance) than the positive the negative
            should be.
        type_of_triplets: Triplets that violate the margin: all of them, those whose negative
            is nearer than the positive (hard), the rest of them (semihard); or those that do
            not violate it (easy).
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.2
    type_of_triplets: Literal["all", "hard", "semihard", "easy"] = "all"


@dataclass(frozen=True, kw_only=True)
class AngularMinerOptions(GeometryOptions):
    """Options of ``pml-angular-miner``.

    Attributes:
        angle: Triplets whose positive pair is seen from the negative under a larger angle
            (degrees) are taken.
    """

    angle: Annotated[float, Range(at_least=0, at_most=180)] = 20.0


@dataclass(frozen=True, kw_only=True)
class DistanceWeightedOptions(GeometryOptions):
    """Options of ``pml-distance-weighted``.

    Attributes:
        cutoff: Smaller embedding distances are drawn as if they were this.
        nonzero_loss_cutoff: Negatives beyond this embedding distance are not drawn.
    """

    cutoff: Annotated[float, NOT_NEGATIVE] = 0.5
    nonzero_loss_cutoff: Annotated[float, NOT_NEGATIVE] = 1.4


MINERS = (
    miner(
        "pml-multi-similarity-miner",
        "MultiSimilarityMiner",
        MultiSimilarityMinerOptions,
        summary="positives and negatives that are hard compared with each other",
        source="Wang et al., Multi-Similarity Loss, CVPR 2019",
        produces=Pairs,
    ),
    miner(
        "pml-batch-hard",
        "BatchHardMiner",
        BatchHardOptions,
        summary="each anchor with its farthest near and its nearest far image",
        source="Hermans et al., In Defense of the Triplet Loss, 2017",
        produces=Triplets,
    ),
    miner(
        "pml-batch-easy-hard",
        "BatchEasyHardMiner",
        BatchEasyHardOptions,
        summary="each anchor with an easy, hard or semihard near and far image",
        source="Xuan et al., Improved Embeddings with Easy Positive Triplet Mining, WACV 2020",
        produces=Pairs,
    ),
    miner(
        "pml-pair-margin",
        "PairMarginMiner",
        PairMarginOptions,
        summary="near pairs farther and far pairs nearer in the embedding than a margin",
        source="pytorch-metric-learning",
        produces=Pairs,
    ),
    miner(
        "pml-triplet-margin-miner",
        "TripletMarginMiner",
        TripletMarginMinerOptions,
        summary="triplets that violate a margin: all, hard or semihard",
        source="Schroff et al., FaceNet, CVPR 2015",
        produces=Triplets,
    ),
    miner(
        "pml-angular-miner",
        "AngularMiner",
        AngularMinerOptions,
        summary="triplets whose near pair is seen from the far image under a large angle",
        source="Wang et al., Deep Metric Learning with Angular Loss, ICCV 2017",
        produces=Triplets,
    ),
    miner(
        "pml-distance-weighted",
        "DistanceWeightedMiner",
        DistanceWeightedOptions,
        summary="near and far images at random, far ones evenly by embedding distance",
        source="Wu et al., Sampling Matters in Deep Embedding Learning, ICCV 2017",
        produces=Triplets,
    ),
)
