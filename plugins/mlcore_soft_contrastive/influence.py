"""Influence functions: how strongly a pair of images attracts, by geometric distance.

Formulas and defaults follow Thoma, Paudel, Van Gool, *Soft Contrastive Learning for
Visual Localization*, NeurIPS 2020; ``Step`` is the classical cut into positives and
negatives. Each class is both the options of a function and the function itself, and
imports no torch.

The paper leaves the *support* to the overflow of ``exp`` in float32. Here it is an explicit
number whose default reproduces that: a pair attracts if and only if it is closer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from mlcore.errors import ConfigError
from mlcore.option_types import POSITIVE, Range, check_ranges
from mlcore.protocols import DeviceCode

if TYPE_CHECKING:
    from torch import Tensor

LOG_LARGEST_FLOAT32 = 88.7228391
"""``exp`` of more than this overflows in float32: where a float32 sigmoid becomes 0."""

SUPPORT_LIMIT = Range(above=0, infinite=True)


@dataclass(frozen=True, kw_only=True)
class Sigmoid:
    """``w+(d) = 1 / (1 + exp(steepness (d - cutoff)))``, the paper's choice.

    Attributes:
        steepness_per_m: Steepness of the descent, 1/metres.
        cutoff_m: Distance (metres) at which a pair attracts as much as it repels.
        support_limit_m: A pair attracts only if closer than this (metres); None takes
            ``cutoff_m + 88.7228391 / steepness_per_m``.
    """

    steepness_per_m: Annotated[float, POSITIVE] = 0.8
    cutoff_m: Annotated[float, POSITIVE] = 15.0
    support_limit_m: Annotated[float | None, SUPPORT_LIMIT] = None

    def __post_init__(self) -> None:
        _check_ranges(self)

    @property
    def support_m(self) -> float:
        default = self.cutoff_m + LOG_LARGEST_FLOAT32 / self.steepness_per_m
        return default if self.support_limit_m is None else self.support_limit_m

    @property
    def repulsion_start_m(self) -> float:
        return -1.0  # w+(0) < 1: even an image and itself repel a little

    def __call__(self, distance_m: Tensor) -> Tensor:
        """Return the attraction weight of distances of any shape."""
        # Not 1 / (1 + exp): many times slower on a CPU where exp overflows.
        return distance_m.sub(self.cutoff_m).mul_(-self.steepness_per_m).sigmoid_()

    def device_code(self) -> DeviceCode:
        """Return the function as C."""
        return DeviceCode(
            "1.0f / (1.0f + expf(steepness_per_m * (d - cutoff_m)))",
            {"steepness_per_m": self.steepness_per_m, "cutoff_m": self.cutoff_m},
        )


@dataclass(frozen=True, kw_only=True)
class Linear:
    """``w+(d) = max(0, 1 - d / cutoff)``.

    Attributes:
        cutoff_m: Distance (metres) from which on a pair only repels.
        support_limit_m: A pair attracts only if closer than this (metres); None takes
            ``cutoff_m``.
    """

    cutoff_m: Annotated[float, POSITIVE] = 15.0
    support_limit_m: Annotated[float | None, SUPPORT_LIMIT] = None

    def __post_init__(self) -> None:
        _check_ranges(self)

    @property
    def support_m(self) -> float:
        return self.cutoff_m if self.support_limit_m is None else self.support_limit_m

    @property
    def repulsion_start_m(self) -> float:
        return 0.0

    def __call__(self, distance_m: Tensor) -> Tensor:
        """Return the attraction weight of distances of any shape."""
        return distance_m.div(-self.cutoff_m).add_(1.0).clamp_(min=0.0)

    def device_code(self) -> DeviceCode:
        """Return the function as C."""
        return DeviceCode("fmaxf(0.0f, 1.0f - d / cutoff_m)", {"cutoff_m": self.cutoff_m})


@dataclass(frozen=True, kw_only=True)
class Tanh:
    """``w+(d) = 1 - tanh(d / cutoff)``.

    Attributes:
        cutoff_m: Distance (metres) at which the weight has fallen to 0.238.
        support_limit_m: A pair attracts only if closer than this (metres); None takes
            ``13 ln(2) cutoff_m``, beyond which a float32 tanh is 1.
    """

    cutoff_m: Annotated[float, POSITIVE] = 15.0
    support_limit_m: Annotated[float | None, SUPPORT_LIMIT] = None

    def __post_init__(self) -> None:
        _check_ranges(self)

    @property
    def support_m(self) -> float:
        default = 13.0 * math.log(2.0) * self.cutoff_m
        return default if self.support_limit_m is None else self.support_limit_m

    @property
    def repulsion_start_m(self) -> float:
        return 0.0

    def __call__(self, distance_m: Tensor) -> Tensor:
        """Return the attraction weight of distances of any shape."""
        return distance_m.div(self.cutoff_m).tanh_().neg_().add_(1.0)

    def device_code(self) -> DeviceCode:
        """Return the function as C."""
        return DeviceCode("1.0f - tanhf(d / cutoff_m)", {"cutoff_m": self.cutoff_m})


@dataclass(frozen=True, kw_only=True)
class FieldOfView:
    """``w+(d, h) = max(0, 1 - h / view) / (1 + exp(steepness (d - cutoff)))``.

    The share of the field of view that two cameras at one place have in common, if their
    headings differ by h, times the sigmoid of the distance: of two sectors of the angle
    ``view <= pi`` around one point, turned by h, ``view - h`` overlaps. Generalized contrastive
    learning (Leyva-Vallina et al., CVPR 2023) grades pairs by the overlap of sectors of a fixed
    radius at the two positions, over their union; that also depends on where one camera lies as
    seen from the other. This product does not.

    Attributes:
        steepness_per_m: Steepness of the descent with distance, 1/metres.
        cutoff_m: Distance (metres) at which a pair with equal headings attracts as much as it
            repels.
        view_deg: Horizontal field of view (degrees). A pair attracts only if its headings
            differ by less.
        support_limit_m: A pair attracts only if closer than this (metres); None takes
            ``cutoff_m + 88.7228391 / steepness_per_m``.
        without_headings: What becomes of images without headings: refuse them, or take them by
            distance alone.
    """

    steepness_per_m: Annotated[float, POSITIVE] = 0.8
    cutoff_m: Annotated[float, POSITIVE] = 15.0
    view_deg: Annotated[float, Range(above=0, at_most=180)] = 90.0
    support_limit_m: Annotated[float | None, SUPPORT_LIMIT] = None
    without_headings: Literal["refuse", "distance"] = "refuse"

    def __post_init__(self) -> None:
        _check_ranges(self)

    @property
    def support_m(self) -> float:
        default = self.cutoff_m + LOG_LARGEST_FLOAT32 / self.steepness_per_m
        return default if self.support_limit_m is None else self.support_limit_m

    @property
    def support_rad(self) -> float:
        return math.radians(self.view_deg)

    @property
    def repulsion_start_m(self) -> float:
        return -1.0  # w+(0, 0) < 1, as of the sigmoid

    def __call__(
        self, distance_m: Tensor, heading_difference_rad: Tensor | None = None
    ) -> Tensor:
        """Return the attraction weight of distances and heading differences of one shape."""
        weight = distance_m.sub(self.cutoff_m).mul_(-self.steepness_per_m).sigmoid_()
        if heading_difference_rad is None:
            return weight
        shared = heading_difference_rad.div(-self.support_rad).add_(1.0).clamp_(min=0.0)
        return weight.mul_(shared)

    def device_code(self) -> DeviceCode:
        """Return the function as C."""
        return DeviceCode(
            "fmaxf(0.0f, 1.0f - h / view_rad) * "
            "(1.0f / (1.0f + expf(steepness_per_m * (d - cutoff_m))))",
            {
                "steepness_per_m": self.steepness_per_m,
                "cutoff_m": self.cutoff_m,
                "view_rad": self.support_rad,
            },
        )


@dataclass(frozen=True, kw_only=True)
class Step:
    """``w+(d) = 1 if d < cutoff else 0``: positives and negatives as everybody cuts them.

    Attributes:
        cutoff_m: Distance (metres) at which attraction turns into repulsion.
        support_limit_m: A pair attracts only if closer than this (metres); None takes
            ``cutoff_m``.
    """

    cutoff_m: Annotated[float, POSITIVE] = 15.0
    support_limit_m: Annotated[float | None, SUPPORT_LIMIT] = None

    def __post_init__(self) -> None:
        _check_ranges(self)

    @property
    def support_m(self) -> float:
        return self.cutoff_m if self.support_limit_m is None else self.support_limit_m

    @property
    def repulsion_start_m(self) -> float:
        # "Greater than this" shall mean "at least cutoff_m".
        return math.nextafter(self.cutoff_m, 0.0)

    def __call__(self, distance_m: Tensor) -> Tensor:
        """Return the attraction weight of distances of any shape."""
        return (distance_m < self.cutoff_m).to(distance_m.dtype)

    def device_code(self) -> DeviceCode:
        """Return the function as C."""
        return DeviceCode("d < cutoff_m ? 1.0f : 0.0f", {"cutoff_m": self.cutoff_m})


def _check_ranges(options: object) -> None:
    try:
        check_ranges(options)
    except ValueError as error:
        raise ConfigError(f"influence: {error}") from error
