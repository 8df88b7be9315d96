"""What the plugin ``baselines`` provides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcore import BuildContext, LossFactory, MinerFactory, Pairs, Triplets, hookimpl
from mlcore_baselines import config

if TYPE_CHECKING:
    from mlcore_baselines.miners import GeometricPairMiner, GeometricTripletMiner

mlcore_hook_api = 1


def _geometric_pairs(
    options: config.GeometricPairsOptions, context: BuildContext
) -> GeometricPairMiner:
    from mlcore_baselines.miners import GeometricPairMiner, Relation

    return GeometricPairMiner(Relation.of(options, context))


def _geometric_triplets(
    options: config.GeometricTripletsOptions, context: BuildContext
) -> GeometricTripletMiner:
    from mlcore_baselines.miners import GeometricTripletMiner, Relation

    return GeometricTripletMiner(
        Relation.of(options, context),
        max_triplets_per_anchor=options.max_triplets_per_anchor,
        seed=context.seed,
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
    return []
