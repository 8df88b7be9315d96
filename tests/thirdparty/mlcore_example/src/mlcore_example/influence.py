"""An influence function, for the CUDA kernel too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlcore import DeviceCode

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """``w+(d) = exp(-(d / scale)^2 / 2)``.

    Attributes:
        scale_m: Distance (metres) at which the weight has fallen to 0.61.
    """

    scale_m: float = 8.0

    @property
    def support_m(self) -> float:
        return 6 * self.scale_m

    @property
    def repulsion_start_m(self) -> float:
        return 0.0

    def __call__(self, distance_m: Tensor) -> Tensor:
        """Return the attraction weight of distances of any shape."""
        return (-(distance_m / self.scale_m).square() / 2).exp()

    def device_code(self) -> DeviceCode:
        """Return the function as C."""
        return DeviceCode(
            "expf(-0.5f * (d / scale_m) * (d / scale_m))", {"scale_m": self.scale_m}
        )
