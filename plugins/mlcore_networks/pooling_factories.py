"""The poolings as factories; imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcore import BuildContext, PoolingFactory
from mlcore_networks import config

if TYPE_CHECKING:
    from mlcore.models import Pooling


def _average(_: config.NoOptions, context: BuildContext) -> Pooling:
    from mlcore_networks.poolings.means import AveragePooling

    return AveragePooling(context.features.num_channels)


def _gem(_: config.NoOptions, context: BuildContext) -> Pooling:
    from mlcore_networks.poolings.means import GemPooling

    return GemPooling(context.features.num_channels)


def _netvlad(options: config.NetVladConfig, context: BuildContext) -> Pooling:
    from mlcore_networks.poolings.netvlad import NetVlad

    return NetVlad(context.features.num_channels, options.num_clusters, seed=context.seed)


def _grid(options: config.GridConfig, context: BuildContext) -> Pooling:
    from mlcore_networks.poolings.means import GridPooling

    return GridPooling(
        context.features.num_channels, rows=options.rows, columns=options.columns
    )


def _token(_: config.NoOptions, context: BuildContext) -> Pooling:
    from mlcore_networks.poolings.means import TokenPooling

    return TokenPooling(context.features.num_channels)


def _cosplace(options: config.CosPlaceConfig, context: BuildContext) -> Pooling:
    from mlcore_networks.poolings.means import CosPlace

    return CosPlace(context.features.num_channels, dimensions=options.dimensions)


def _convap(options: config.ConvApConfig, context: BuildContext) -> Pooling:
    from mlcore_networks.poolings.means import ConvAp

    return ConvAp(
        context.features.num_channels,
        channels=options.channels,
        rows=options.rows,
        columns=options.columns,
    )


def _mixvpr(options: config.MixVprConfig, context: BuildContext) -> Pooling:
    from mlcore_networks.poolings.mixvpr import MixVpr

    num_places = context.features.height * context.features.width
    return MixVpr(
        context.features.num_channels,
        num_places,
        channels=options.channels,
        rows=options.rows,
        depth=options.depth,
        hidden=max(1, round(options.expansion * num_places)),
    )


def _salad(options: config.SaladConfig, context: BuildContext) -> Pooling:
    from mlcore_networks.poolings.salad import Salad, require_more_features

    features = context.features
    require_more_features(features.height, features.width, options.num_clusters)
    return Salad(
        features.num_channels,
        num_clusters=options.num_clusters,
        channels=options.channels,
        token_dim=options.token_dim if features.has_token else 0,
        hidden=options.hidden,
    )


def _boq(options: config.BoqConfig, context: BuildContext) -> Pooling:
    from mlcore_networks.poolings.boq import BagOfQueries

    return BagOfQueries(
        context.features.num_channels,
        channels=options.channels,
        num_queries=options.num_queries,
        num_blocks=options.num_blocks,
        rows=options.rows,
    )


POOLINGS = (
    PoolingFactory(
        name="average",
        summary="the mean over all places",
        config=config.NoOptions,
        build=_average,
    ),
    PoolingFactory(
        name="gem",
        summary="the generalised mean, with one learned exponent; for positive features",
        config=config.NoOptions,
        build=_gem,
        source="Radenovic, Tolias, Chum, Fine-tuning CNN Image Retrieval, TPAMI 2019",
    ),
    PoolingFactory(
        name="netvlad",
        summary="residuals to clustered words, softly assigned",
        config=config.NetVladConfig,
        build=_netvlad,
        source="Arandjelovic et al., NetVLAD, CVPR 2016",
    ),
    PoolingFactory(
        name="grid",
        summary="the means over the cells of a grid; strong where the viewpoint is the same",
        config=config.GridConfig,
        build=_grid,
    ),
    PoolingFactory(
        name="cls",
        summary="the class token of a transformer",
        config=config.NoOptions,
        build=_token,
        needs=frozenset({"token"}),
    ),
    PoolingFactory(
        name="cosplace",
        summary="the generalised mean of unit features, then a linear layer",
        config=config.CosPlaceConfig,
        build=_cosplace,
        source="Berton, Masone, Caputo, CosPlace, CVPR 2022",
    ),
    PoolingFactory(
        name="convap",
        summary="a 1 x 1 convolution, then the means over a grid",
        config=config.ConvApConfig,
        build=_convap,
        source="Ali-bey, Chaib-draa, Giguere, GSV-Cities, Neurocomputing 2022",
    ),
    PoolingFactory(
        name="mixvpr",
        summary="maps mixed by perceptrons; for one input size",
        config=config.MixVprConfig,
        build=_mixvpr,
        needs=frozenset({"size"}),
        source="Ali-bey, Chaib-draa, Giguere, MixVPR, WACV 2023",
    ),
    PoolingFactory(
        name="salad",
        summary="features assigned to clusters by optimal transport, and the class token",
        config=config.SaladConfig,
        build=_salad,
        needs=frozenset({"size"}),
        source="Izquierdo and Civera, SALAD, CVPR 2024",
    ),
    PoolingFactory(
        name="boq",
        summary="learned queries that look at the features",
        config=config.BoqConfig,
        build=_boq,
        source="Ali-bey, Chaib-draa, Giguere, BoQ, CVPR 2024",
    ),
)
