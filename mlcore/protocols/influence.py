"""What an influence function must be able to do; import it from :mod:`mlcore.protocols`.

Importing this module imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor


@runtime_checkable
class InfluenceFunction(Protocol):
    """How strongly a pair attracts, by geometric distance (not Hampel's influence).

    Attributes:
        support_m: A pair attracts if and only if its distance is less than this. The
            *loss* applies it, in float64 near the edge, so that dtype and device do not
            matter; ``inf`` is allowed.
        repulsion_start_m: A pair repels if its distance is greater than this, or at least
            ``support_m``. 0 where a pair at distance 0 attracts wholly (linear, tanh);
            negative where even coincident pairs repel a little, the image itself
            included (sigmoid).
    """

    @property
    def support_m(self) -> float: ...

    @property
    def repulsion_start_m(self) -> float: ...

    def __call__(self, distance_m: Tensor) -> Tensor:
        """Return the attraction weight in [0, 1], same shape and dtype, non-increasing.

        Repulsion is its complement to 1.
        """
        ...


@runtime_checkable
class HeadingInfluenceFunction(InfluenceFunction, Protocol):
    """An influence function of the distance and of the difference of headings.

    At no distance does any difference weigh more than equal headings do. Without differences it
    returns the weight of equal headings, which is also the bound that losses use for pairs
    whose headings they have not looked at. ``repulsion_start_m`` is negative: images at one
    point repel if they look different ways.

    Attributes:
        support_rad: A pair attracts if and only if it is closer than ``support_m`` and its
            headings differ by less than this (radians); the *loss* applies both. A larger
            difference repels wholly.
        without_headings: Whether images without headings are refused, or their pairs taken by
            the distance alone.
    """

    @property
    def support_rad(self) -> float: ...

    @property
    def without_headings(self) -> Literal["refuse", "distance"]: ...

    def __call__(
        self, distance_m: Tensor, heading_difference_rad: Tensor | None = None
    ) -> Tensor:
        """Return the attraction weight, not increasing with either argument.

        Args:
            distance_m: Any shape.
            heading_difference_rad: In [0, pi], of the same shape and dtype.
        """
        ...


@runtime_checkable
class DeviceInfluenceFunction(InfluenceFunction, Protocol):
    """An influence function that also runs inside the CUDA kernel and its host build."""

    def device_code(self) -> DeviceCode:
        """Return the function as C; must agree with ``__call__`` to float32 rounding."""
        ...


@dataclass(frozen=True)
class DeviceCode:
    """A C expression of the distance, compiled into a kernel.

    Attributes:
        expression: C99 expression of ``float d`` (metres, >= 0) and the parameters' names,
            using ``<math.h>`` float functions only; its value is the attraction weight. That of
            a :class:`HeadingInfluenceFunction` also has ``float h``, the difference of
            headings (radians, in [0, pi]).
        parameters: Values of the names in ``expression``, passed as float arguments, so
            that another value needs no new compilation.
    """

    expression: str
    parameters: Mapping[str, float]
