"""What the plugin ``baselines`` provides."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from mlcore import BuildContext, LossFactory, MinerFactory, Pairs, Triplets, hookimpl
from mlcore_baselines import config
from mlcore_baselines.losses import LOSSES

if TYPE_CHECKING:
    from mlcore_baselines.miners import GeometricPairMiner, GeometricTripletMiner

mlcore_hook_api = 1


def _geometric_pairs(
    options: config.GeometricPairsOptions, context: BuildContext
) -> GeometricPairMiner:
    from mlcore.geometry import NearFar
    from mlcore_baselines.miners import GeometricPairMiner

    return GeometricPairMiner(NearFar.resolve(context, **asdict(options)))


def _geometric_triplets(
    options: config.GeometricTripletsOptions, context: BuildContext
) -> GeometricTripletMiner:
    from mlcore.geometry import NearFar
    from mlcore_baselines.miners import GeometricTripletMiner

    relation = NearFar.resolve(
        context,
        near_radius_m=options.near_radius_m,
        far_radius_m=options.far_radius_m,
        heading_limit_deg=options.heading_limit_deg,
    )
    return GeometricTripletMiner(
        relation, max_triplets_per_anchor=options.max_triplets_per_anchor, seed=context.seed
    )


@hookimpl
def mlcore_miners() -> list[MinerFactory]:
    """Return the miners by geometry."""
    return [
        MinerFactory(
            name="geometric-pairs",
            summary="all pairs within the near radius, and all beyond the far radius",
            config=config.GeometricPairsOptions,
            build=_geometric_pairs,
            produces=Pairs,
        ),
        MinerFactory(
            name="geometric-triplets",
            summary="each anchor with all pairs of a near and a far image",
            config=config.GeometricTripletsOptions,
            build=_geometric_triplets,
            produces=Triplets,
        ),
    ]


@hookimpl
def mlcore_losses() -> list[LossFactory]:
    """Return the losses that the paper compares with."""
    return list(LOSSES)
