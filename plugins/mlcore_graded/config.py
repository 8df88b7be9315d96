"""Options of the graded losses; no torch here, so that listing them stays instant."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

from mlcore.errors import ConfigError
from mlcore.option_types import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, Range, check_ranges

TEMPERATURE = Range(at_least=0.01, at_most=100)
"""Of a softmax. Divided by 0.01, similarities span 200: exp(-200) fits in float64."""
SIGMOID_WIDTH = Range(at_least=1e-4, at_most=100)
"""Of a sigmoid of similarities; a narrower one has no gradient anywhere."""


@dataclass(frozen=True, kw_only=True)
class GradedOptions:
    """Options of a loss; numbers outside their range are refused."""

    def __post_init__(self) -> None:
        try:
            check_ranges(self)
        except ValueError as error:
            raise ConfigError(f"loss: {error}") from error


@dataclass(frozen=True, kw_only=True)
class RankNContrastOptions(GradedOptions):
    """Options of ``rank-n-contrast``.

    Attributes:
        logits: What is compared: distance (the negative Euclidean distance of the unit
            embeddings, as in the paper) or similarity (their cosine similarity).
        temperature: Divides the logits; none: 0.5 for distance, 0.1 for similarity.
        limit_m: Only images nearer than this (metres) are positives, and all images beyond
            it count as equally far; none: every image is a positive, so that one at 200 m
            is pulled nearer than one at 900 m.
    """

    logits: Literal["distance", "similarity"] = "distance"
    temperature: Annotated[float | None, TEMPERATURE] = None
    limit_m: Annotated[float | None, POSITIVE] = None


@dataclass(frozen=True, kw_only=True)
class SoftSupConOptions(GradedOptions):
    """Options of ``soft-supcon``.

    Attributes:
        variant: What an image is compared with: y-aware (all images), threshold (images of
            smaller influence) or exponential (all other images, with exponents reduced by
            their influence).
        temperature: Divides cosine similarities.
    """

    variant: Literal["y-aware", "threshold", "exponential"] = "y-aware"
    temperature: Annotated[float, TEMPERATURE] = 0.1


@dataclass(frozen=True, kw_only=True)
class RinceOptions(GradedOptions):
    """Options of ``rince``.

    Attributes:
        bands_m: Upper edges (metres) of the bands of distance, increasing. The images of a band
            are positives, those beyond it negatives.
        temperatures: Divides cosine similarities, one per band; must not decrease with
            distance.
    """

    bands_m: Annotated[tuple[float, ...], POSITIVE] = (5.0, 10.0, 15.0)
    temperatures: Annotated[tuple[float, ...], TEMPERATURE] = (0.1, 0.15, 0.2)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.bands_m:
            raise ConfigError("loss: bands_m must name at least one distance, got none")
        if any(upper <= lower for lower, upper in pairwise(self.bands_m)):
            raise ConfigError(f"loss: bands_m must increase, got {_listed(self.bands_m)}")
        if len(self.temperatures) != len(self.bands_m):
            raise ConfigError(
                "loss: temperatures must have one value per band, got "
                f"{_listed(self.temperatures)} for bands_m {_listed(self.bands_m)}"
            )
        if any(upper < lower for lower, upper in pairwise(self.temperatures)):
            raise ConfigError(
                f"loss: temperatures must not decrease, got {_listed(self.temperatures)}"
            )


@dataclass(frozen=True, kw_only=True)
class CosentOptions(GradedOptions):
    """Options of ``cosent``.

    Attributes:
        scale: Multiplies differences of cosine similarities; with a larger scale, the most
            wrongly ordered pairs dominate.
    """

    scale: Annotated[float, Range(above=0, at_most=100)] = 20.0


@dataclass(frozen=True, kw_only=True)
class GradedApOptions(GradedOptions):
    """Options of ``graded-ap``.

    Attributes:
        temperature: Width (cosine similarity) of the sigmoid that stands for "ranked before".
    """

    temperature: Annotated[float, SIGMOID_WIDTH] = 0.01


@dataclass(frozen=True, kw_only=True)
class SmoothApOptions(GradedOptions):
    """Options of ``smooth-ap``.

    Attributes:
        near_radius_m: Images nearer than this (metres) are relevant; none: the sampler's.
        temperature: Width (cosine similarity) of the sigmoid that stands for "ranked before".
    """

    near_radius_m: Annotated[float | None, POSITIVE] = None
    temperature: Annotated[float, SIGMOID_WIDTH] = 0.01


@dataclass(frozen=True, kw_only=True)
class RecallAtKOptions(GradedOptions):
    """Options of ``recall-at-k``.

    Attributes:
        near_radius_m: Images nearer than this (metres) count as found; none: the sampler's.
        k: Numbers of retrieved images whose recalls are averaged.
        rank_temperature: Width (ranks) of the sigmoid that stands for "among the first k".
        similarity_temperature: Width (cosine similarity) of the sigmoid that stands for
            "ranked before".
    """

    near_radius_m: Annotated[float | None, POSITIVE] = None
    k: Annotated[tuple[int, ...], AT_LEAST_ONE] = (1, 2, 4)
    rank_temperature: Annotated[float, Range(at_least=0.01, at_most=1000)] = 1.0
    similarity_temperature: Annotated[float, SIGMOID_WIDTH] = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.k:
            raise ConfigError("loss: k must name at least one number of images, got none")


@dataclass(frozen=True, kw_only=True)
class SimilarityRegressionOptions(GradedOptions):
    """Options of ``similarity-regression``."""


@dataclass(frozen=True, kw_only=True)
class AdaptiveMarginOptions(GradedOptions):
    """Options of ``adaptive-margin``.

    Attributes:
        margin: Embedding distance beyond which a pair without influence costs nothing; a
            pair of influence w has the margin times 1 - w.
    """

    margin: Annotated[float, NOT_NEGATIVE] = math.sqrt(2.0)


@dataclass(frozen=True, kw_only=True)
class DistanceTripletOptions(GradedOptions):
    """Options of ``distance-triplet``.

    Attributes:
        margin: How much farther (squared embedding distance) the farther of two images
            should be, at most.
        range_m: Only images nearer than this (metres) are positives; also the difference of
            distances from which on the full margin applies.
    """

    margin: Annotated[float, NOT_NEGATIVE] = 0.3
    range_m: Annotated[float, POSITIVE] = 25.0


@dataclass(frozen=True, kw_only=True)
class StressOptions(GradedOptions):
    """Options of ``stress``.

    Attributes:
        range_m: Distance (metres) from which on embeddings should be orthogonal.
    """

    range_m: Annotated[float, POSITIVE] = 25.0


def _listed(values: tuple[float, ...]) -> str:
    return ",".join(f"{value:g}" for value in values)
