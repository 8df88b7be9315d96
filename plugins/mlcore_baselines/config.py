"""Options of the miners and losses; no torch here, so that listing them stays instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mlcore.option_types import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, Range


@dataclass(frozen=True, kw_only=True)
class GeometricPairsOptions:
    """Options of the miner ``geometric-pairs``.

    Attributes:
        near_radius_m: Pairs within this distance (metres) are positive; None takes the
            sampler's.
        far_radius_m: Pairs beyond this distance (metres) are negative; None takes the
            sampler's.
        heading_limit_deg: Largest heading difference (degrees) of a positive pair, where
            headings are known; None takes the sampler's, 180 sets no limit.
    """

    near_radius_m: Annotated[float | None, POSITIVE] = None
    far_radius_m: Annotated[float | None, POSITIVE] = None
    heading_limit_deg: Annotated[float | None, Range(at_least=0, at_most=180)] = None


@dataclass(frozen=True, kw_only=True)
class GeometricTripletsOptions:
    """Options of the miner ``geometric-triplets``.

    Attributes:
        near_radius_m: Images within this distance (metres) of the anchor are positive; None
            takes the sampler's.
        far_radius_m: Images beyond this distance (metres) of the anchor are negative; None
            takes the sampler's.
        heading_limit_deg: Largest heading difference (degrees) of anchor and positive,
            where headings are known; None takes the sampler's, 180 sets no limit.
        max_triplets_per_anchor: Draw this many of an anchor's triplets at random, always
            the same for the same seed and images; None takes them all, which is up to the
            cube of the batch size.
    """

    near_radius_m: Annotated[float | None, POSITIVE] = None
    far_radius_m: Annotated[float | None, POSITIVE] = None
    heading_limit_deg: Annotated[float | None, Range(at_least=0, at_most=180)] = None
    max_triplets_per_anchor: Annotated[int | None, AT_LEAST_ONE] = None


@dataclass(frozen=True, kw_only=True)
class TripletOptions:
    """Options of ``triplet``, ``lazy-triplet`` and ``hard-positive-triplet``.

    Attributes:
        margin: How much farther (squared embedding distance) than near images far ones
            should be.
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.1


@dataclass(frozen=True, kw_only=True)
class QuadrupletOptions:
    """Options of ``quadruplet`` and ``lazy-quadruplet``.

    Attributes:
        margin: How much farther (squared embedding distance) from the anchor than near
            images far ones should be.
        second_margin: The same of far images and the tuple's other-far image.
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.1
    second_margin: Annotated[float, NOT_NEGATIVE] = 0.2


@dataclass(frozen=True, kw_only=True)
class TripletHuberOptions:
    """Options of ``triplet-huber``.

    Attributes:
        margin: How much farther (squared embedding distance) than near images far ones
            should be.
        huber_weight: Weight of the term that ties embedding to geometric distance.
        near_radius_m: Geometric distance (metres) that corresponds to a squared embedding
            distance of ``embedding_scale``; None takes the sampler's near radius.
        embedding_scale: Divides squared embedding distances in that term.
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.1
    huber_weight: Annotated[float, NOT_NEGATIVE] = 0.5
    near_radius_m: Annotated[float | None, POSITIVE] = None
    embedding_scale: Annotated[float, POSITIVE] = 2.0


@dataclass(frozen=True, kw_only=True)
class LogRatioOptions:
    """Options of ``log-ratio``.

    Attributes:
        position_floor_m: Smaller geometric distances (metres) count as this.
        embedding_floor: Smaller embedding distances count as this, without a gradient.
    """

    position_floor_m: Annotated[float, POSITIVE] = 1.0
    embedding_floor: Annotated[float, POSITIVE] = 1e-3


@dataclass(frozen=True, kw_only=True)
class PaperMultiSimilarityOptions:
    """Options of ``multi-similarity-paper``.

    Attributes:
        alpha: Sharpness of the positive term.
        beta: Sharpness of the negative term.
        base: Cosine similarity at which a pair counts neither way.
        mining: Whether to drop easy pairs.
        epsilon: Tolerance (cosine similarity) of mining.
        across_tuples: Pairs of images of two tuples: judged by the sampler's near and far
            radius, or ignored.
    """

    alpha: Annotated[float, POSITIVE] = 2.0
    beta: Annotated[float, POSITIVE] = 50.0
    base: float = 1.0
    mining: bool = True
    epsilon: Annotated[float, NOT_NEGATIVE] = 0.1
    across_tuples: Literal["geometry", "ignore"] = "geometry"


@dataclass(frozen=True, kw_only=True)
class GeneralizedContrastiveOptions:
    """Options of ``generalized-contrastive``.

    Attributes:
        margin: Embedding distance beyond which dissimilar pairs cost nothing.
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.5
