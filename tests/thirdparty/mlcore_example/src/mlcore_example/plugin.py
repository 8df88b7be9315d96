"""What the plugin ``example`` provides; imports no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import mlcore
from mlcore_example.influence import Gaussian

if TYPE_CHECKING:
    from mlcore_example.loss import SimilarityRegression
    from mlcore_example.miner import HardestFar
    from mlcore_example.ring import Ring

mlcore_hook_api = 1


@dataclass(frozen=True, kw_only=True)
class RegressionOptions:
    """Options of ``metres-regression``.

    Attributes:
        power: Power of the difference between similarity and influence, at least 1.
    """

    power: float = 2.0

    def __post_init__(self) -> None:
        if self.power < 1:
            raise mlcore.ConfigError(f"loss: power must be at least 1, got {self.power}")


@dataclass(frozen=True, kw_only=True)
class HardestFarOptions:
    """``hardest-far`` has no options."""


@dataclass(frozen=True, kw_only=True)
class RingOptions:
    """Options of ``ring``.

    Attributes:
        radius_m: Radius (metres) of the three rings.
        num_images: Images on each lap.
    """

    radius_m: float = 40.0
    num_images: int = 60


def _build_loss(
    options: RegressionOptions, context: mlcore.BuildContext
) -> SimilarityRegression:
    from mlcore_example.loss import SimilarityRegression

    if context.influence is None:
        raise mlcore.ConfigError("metres-regression needs --influence")
    return SimilarityRegression(power=options.power, influence=context.influence)


def _build_miner(_: HardestFarOptions, context: mlcore.BuildContext) -> HardestFar:
    from mlcore.geometry import NearFar
    from mlcore_example.miner import HardestFar

    return HardestFar(NearFar.resolve(context))


def _build_ring(options: RingOptions, _: mlcore.BuildContext) -> Ring:
    from mlcore_example.ring import Ring

    return Ring(options.radius_m, options.num_images)


@mlcore.hookimpl
def mlcore_losses() -> list[mlcore.LossFactory]:
    """Return the loss."""
    return [
        mlcore.LossFactory(
            name="metres-regression",
            summary="cosine similarity as the influence function has it",
            config=RegressionOptions,
            build=_build_loss,
            uses_influence=True,
            needs=frozenset({"positions"}),
        )
    ]


@mlcore.hookimpl
def mlcore_influence_functions() -> list[mlcore.InfluenceFactory]:
    """Return the influence function."""
    return [
        mlcore.InfluenceFactory(
            name="gaussian",
            summary="exp(-(d / scale)^2 / 2)",
            config=Gaussian,
            build=lambda options, _: options,
        )
    ]


@mlcore.hookimpl
def mlcore_miners() -> list[mlcore.MinerFactory]:
    """Return the miner."""
    return [
        mlcore.MinerFactory(
            name="hardest-far",
            summary="each near pair with the anchor's most similar far image",
            config=HardestFarOptions,
            build=_build_miner,
            produces=mlcore.Triplets,
        )
    ]


@mlcore.hookimpl
def mlcore_datasets() -> list[mlcore.DatasetFactory]:
    """Return the data set."""
    return [
        mlcore.DatasetFactory(
            name="ring",
            summary="three rings of coloured stripes, by day and by night",
            config=RingOptions,
            build=_build_ring,
            radii=mlcore.SamplingRadii(near_radius_m=10.0, far_radius_m=20.0),
        )
    ]
