"""An influence function that is right, and faults beside the checks that they fail."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mlcore import DeviceCode, InfluenceFactory


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """Options of the ramp, right in every respect.

    Attributes:
        cutoff_m: Distance (metres) from which on a pair only repels.
    """

    cutoff_m: float = 15.0

    @property
    def support_m(self):
        return self.cutoff_m

    @property
    def repulsion_start_m(self):
        return 0.0

    def __call__(self, distance_m):
        return (1 - distance_m / self.cutoff_m).clamp(min=0)


class RampInC(Ramp):
    __doc__ = Ramp.__doc__

    def device_code(self):
        return DeviceCode("fmaxf(0.0f, 1.0f - d / cutoff_m)", {"cutoff_m": self.cutoff_m})


def influence_factory(config=RampInC, **changes):
    declared = {
        "name": "ramp",
        "summary": "max(0, 1 - d / cutoff)",
        "config": config,
        "build": lambda config, _: config,
    }
    return InfluenceFactory(**(declared | changes))


class BelowZero(Ramp):
    def __call__(self, distance_m):
        return 1 - distance_m / self.cutoff_m


class Bump(Ramp):
    support_m = 1000.0

    def __call__(self, distance_m):
        return 0.5 + 0.5 * torch.cos(distance_m / 20) * torch.exp(-distance_m / 50)


class NeverWhole(Ramp):
    def __call__(self, distance_m):
        return 0.9 * super().__call__(distance_m)


class LateStart(Ramp):
    repulsion_start_m = 5.0


class EndlessSupport(Ramp):
    support_m = float("inf")


class NoSupport(Ramp):
    support_m = 0.0


class AlwaysDouble(Ramp):
    def __call__(self, distance_m):
        return super().__call__(distance_m.double())


class InPlace(Ramp):
    def __call__(self, distance_m):
        return distance_m.div_(-self.cutoff_m).add_(1).clamp_(min=0)


class OtherCode(Ramp):
    def device_code(self):
        return DeviceCode("1.0f - d / cutoff_m", {"cutoff_m": self.cutoff_m})


class NoC(Ramp):
    def device_code(self):
        return DeviceCode("max(0, 1 - d / cutoff)", {"cutoff_m": self.cutoff_m})


class Constant(Ramp):
    support_m = float("inf")
    repulsion_start_m = -1.0

    def __call__(self, distance_m):
        return torch.full_like(distance_m, 0.5)


class Inclusive(Ramp):
    """1 within the cutoff, but for the C code, which leaves the cutoff itself out."""

    def __call__(self, distance_m):
        return torch.where(distance_m <= self.cutoff_m, 1.0, 0.0).to(distance_m.dtype)

    def device_code(self):
        return DeviceCode("d < cutoff_m ? 1.0f : 0.0f", {"cutoff_m": self.cutoff_m})


@dataclass(frozen=True, kw_only=True)
class NotANumber(Ramp):
    """Divides 0 by 0 at the cutoff.

    Attributes:
        cutoff_m: Distance (metres) from which on a pair only repels.
    """

    cutoff_m: float = 12.345

    def __call__(self, distance_m):
        beyond = distance_m - self.cutoff_m
        return super().__call__(distance_m) * beyond / beyond


class View(Ramp):
    """A ramp of distance and of headings, right in every respect."""

    repulsion_start_m = -1.0
    support_rad = 1.5
    without_headings = "refuse"

    def __call__(self, distance_m, heading_difference_rad=None):
        weight = super().__call__(distance_m)
        if heading_difference_rad is None:
            return weight
        return weight * self.shared(heading_difference_rad)

    def shared(self, turn_rad):
        return (1 - turn_rad / 1.5).clamp(min=0)

    def device_code(self):
        expression = "fmaxf(0.0f, 1.0f - d / cutoff_m) * fmaxf(0.0f, 1.0f - h / 1.5f)"
        return DeviceCode(expression, {"cutoff_m": self.cutoff_m})


class TurnsBack(View):
    def shared(self, turn_rad):
        return 0.55 + 0.45 * torch.cos(2 * turn_rad)


class LateView(View):
    support_rad = 2.0


class HalfView(View):
    def shared(self, turn_rad):
        return 0.5 * super().shared(turn_rad)


class CoincidentViews(View):
    repulsion_start_m = 0.0


class IgnoresHeadingInC(View):
    device_code = RampInC.device_code


class FadesByProducts(Ramp):
    support_m = 1e6

    def __call__(self, distance_m):
        x = distance_m / self.cutoff_m
        return ((1 + x) * torch.exp(-x)).clamp(min=1e-300)


INFLUENCE = {
    "not 0 across regions": (influence_factory(FadesByProducts), {"across-regions"}),
    "weighs opposite headings": (influence_factory(TurnsBack), {"headings", "device-code"}),
    "weight 0 of headings in the support": (influence_factory(LateView), {"headings"}),
    "less for equal headings than for none": (
        influence_factory(HalfView),
        {"headings", "device-code"},
    ),
    "different views of a point do not repel": (
        influence_factory(CoincidentViews),
        {"headings"},
    ),
    "C without headings": (influence_factory(IgnoresHeadingInC), {"device-code"}),
    "the same for all pairs": (influence_factory(Constant), {"learns"}),
    "not a number at its cutoff": (influence_factory(NotANumber), {"range"}),
    "C that decides the cutoff otherwise": (influence_factory(Inclusive), {"device-code"}),
    "negative weights": (influence_factory(BelowZero), {"range"}),
    "rises again": (influence_factory(Bump), {"monotone", "across-regions"}),
    "less than 1 at 0 m": (influence_factory(NeverWhole), {"value-at-zero"}),
    "repels before its start": (influence_factory(LateStart), {"value-at-zero"}),
    "support without attraction": (influence_factory(EndlessSupport), {"support"}),
    "support of 0 m": (influence_factory(NoSupport), {"support"}),
    "float64 for float32": (influence_factory(AlwaysDouble), {"shape-and-dtype"}),
    "computes in place": (influence_factory(InPlace), {"inputs-unmodified"}),
    "another function as C": (influence_factory(OtherCode), {"device-code"}),
    "C that does not compile": (influence_factory(NoC), {"device-code"}),
}
