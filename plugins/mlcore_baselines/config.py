"""Options of the miners and losses; no torch here, so that listing them stays instant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from mlcore.errors import ConfigError
from mlcore.option_types import (
    AT_LEAST_ONE,
    NOT_NEGATIVE,
    POSITIVE,
    Range,
    check_ranges,
)


@dataclass(frozen=True, kw_only=True)
class BaselineOptions:
    """Options of a loss or miner; numbers outside their range are refused."""

    def __post_init__(self) -> None:
        try:
            check_ranges(self)
        except ValueError as error:
            raise ConfigError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class GeometricPairsOptions(BaselineOptions):
    """Options of the miner ``geometric-pairs``.

    Attributes:
        near_radius_m: Pairs within this distance (metres) are positive; none: the
            sampler's.
        far_radius_m: Pairs beyond this distance (metres) are negative; none: the
            sampler's.
        heading_limit_deg: Largest heading difference (degrees) of a positive pair, where
            headings are known; none: the sampler's; 180: no limit.
    """

    near_radius_m: Annotated[float | None, NOT_NEGATIVE] = None
    far_radius_m: Annotated[float | None, NOT_NEGATIVE] = None
    heading_limit_deg: Annotated[float | None, Range(at_least=0, at_most=180)] = None


@dataclass(frozen=True, kw_only=True)
class GeometricTripletsOptions(BaselineOptions):
    """Options of the miner ``geometric-triplets``.

    Attributes:
        near_radius_m: Images within this distance (metres) of the anchor are positive; none:
            the sampler's.
        far_radius_m: Images beyond this distance (metres) of the anchor are negative; none:
            the sampler's.
        heading_limit_deg: Largest heading difference (degrees) of anchor and positive,
            where headings are known; none: the sampler's; 180: no limit.
        max_triplets_per_anchor: Number of triplets drawn at random per anchor, the same for the
            same seed and images; none: all of them, up to the cube of the batch size.
    """

    near_radius_m: Annotated[float | None, NOT_NEGATIVE] = None
    far_radius_m: Annotated[float | None, NOT_NEGATIVE] = None
    heading_limit_deg: Annotated[float | None, Range(at_least=0, at_most=180)] = None
    max_triplets_per_anchor: Annotated[int | None, AT_LEAST_ONE] = None


@dataclass(frozen=True, kw_only=True)
class TripletOptions(BaselineOptions):
    """Options of ``triplet``, ``lazy-triplet`` and ``hard-positive-triplet``.

    Attributes:
        margin: How much farther from the anchor far images should be than near images, in
            squared embedding distance.
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.1


@dataclass(frozen=True, kw_only=True)
class QuadrupletOptions(BaselineOptions):
    """Options of ``quadruplet`` and ``lazy-quadruplet``.

    Attributes:
        margin: How much farther from the anchor far images should be than near images, in
            squared embedding distance.
        second_margin: How much farther far images should be from the tuple's other-far image
            than near images are from the anchor, in squared embedding distance.
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.1
    second_margin: Annotated[float, NOT_NEGATIVE] = 0.2


@dataclass(frozen=True, kw_only=True)
class TripletHuberOptions(BaselineOptions):
    """Options of ``triplet-huber``.

    Attributes:
        margin: How much farther from the anchor far images should be than near images, in
            squared embedding distance.
        huber_weight: Weight of the term that ties embedding to geometric distance.
        near_radius_m: Geometric distance (metres) that corresponds to a squared embedding
            distance of ``embedding_scale``; none: the sampler's near radius.
        embedding_scale: Divides squared embedding distances in that term.
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.1
    huber_weight: Annotated[float, NOT_NEGATIVE] = 0.5
    near_radius_m: Annotated[float | None, POSITIVE] = None
    embedding_scale: Annotated[float, POSITIVE] = 2.0


@dataclass(frozen=True, kw_only=True)
class LogRatioOptions(BaselineOptions):
    """Options of ``log-ratio``.

    Attributes:
        position_floor_m: Smaller geometric distances (metres) count as this.
        embedding_floor: Smaller embedding distances count as this, without a gradient.
    """

    position_floor_m: Annotated[float, POSITIVE] = 1.0
    embedding_floor: Annotated[float, POSITIVE] = 1e-3


@dataclass(frozen=True, kw_only=True)
class PaperMultiSimilarityOptions(BaselineOptions):
    """Options of ``multi-similarity-paper``.

    Attributes:
        alpha: Sharpness of the positive term.
        beta: Sharpness of the negative term.
        base: Cosine similarity at which a pair counts neither way.
        mining: Whether easy pairs are dropped.
        epsilon: Tolerance (cosine similarity) of mining.
        across_tuples: Pairs of images of two tuples: geometry (near and far by the sampler's
            radii) or ignore.
    """

    alpha: Annotated[float, POSITIVE] = 2.0
    beta: Annotated[float, POSITIVE] = 50.0
    base: Annotated[float, Range(at_least=-2, at_most=2)] = 1.0
    mining: bool = True
    epsilon: Annotated[float, NOT_NEGATIVE] = 0.1
    across_tuples: Literal["geometry", "ignore"] = "geometry"


@dataclass(frozen=True, kw_only=True)
class GeneralizedContrastiveOptions(BaselineOptions):
    """Options of ``generalized-contrastive``.

    Attributes:
        margin: Embedding distance beyond which dissimilar pairs cost nothing.
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.5
