"""Name, needs and builder of each loss; torch is imported when one is built."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from mlcore import BuildContext, ConfigError, LossFactory
from mlcore.option_types import require_unchanged
from mlcore_baselines import config

if TYPE_CHECKING:
    from mlcore import protocols

NETVLAD = "Arandjelovic et al., NetVLAD, CVPR 2016"
POINTNETVLAD = "Uy and Lee, PointNetVLAD, CVPR 2018"
SOFT_CONTRASTIVE = (
    "Thoma et al., Soft Contrastive Learning for Visual Localization, NeurIPS 2020"
)


def _triplet(options: config.TripletOptions, _: BuildContext) -> protocols.Loss:
    from mlcore_baselines.triplet import TripletLoss

    return TripletLoss(margin=options.margin)


def _lazy_triplet(options: config.TripletOptions, _: BuildContext) -> protocols.Loss:
    from mlcore_baselines.triplet import LazyTripletLoss

    return LazyTripletLoss(margin=options.margin)


def _hard_positive_triplet(options: config.TripletOptions, _: BuildContext) -> protocols.Loss:
    from mlcore_baselines.triplet import HardPositiveTripletLoss

    return HardPositiveTripletLoss(margin=options.margin)


def _quadruplet(options: config.QuadrupletOptions, _: BuildContext) -> protocols.Loss:
    from mlcore_baselines.quadruplet import QuadrupletLoss

    return QuadrupletLoss(**asdict(options))


def _lazy_quadruplet(options: config.QuadrupletOptions, _: BuildContext) -> protocols.Loss:
    from mlcore_baselines.quadruplet import LazyQuadrupletLoss

    return LazyQuadrupletLoss(**asdict(options))


def _triplet_huber(
    options: config.TripletHuberOptions, context: BuildContext
) -> protocols.Loss:
    from mlcore_baselines.triplet_huber import TripletHuberLoss

    own_m = options.near_radius_m
    radius_m = context.near_radius_m if own_m is None else own_m
    if radius_m <= 0:
        raise ConfigError(
            f"triplet-huber: near_radius_m must be greater than 0, got {radius_m:g} from the "
            "sampler; set --loss.near_radius_m"
        )
    return TripletHuberLoss(
        near_radius_m=radius_m,
        margin=options.margin,
        huber_weight=options.huber_weight,
        embedding_scale=options.embedding_scale,
    )


def _log_ratio(options: config.LogRatioOptions, _: BuildContext) -> protocols.Loss:
    from mlcore_baselines.log_ratio import LogRatioLoss

    return LogRatioLoss(**asdict(options))


def _multi_similarity_paper(
    options: config.PaperMultiSimilarityOptions, context: BuildContext
) -> protocols.Loss:
    from mlcore.geometry import NearFar
    from mlcore_baselines.multi_similarity import PaperMultiSimilarityLoss

    if not options.mining:
        reason = "--loss.mining false; leave it out"
        require_unchanged("loss", options, ("epsilon",), reason)
    return PaperMultiSimilarityLoss(
        geometry=NearFar.resolve(context) if options.across_tuples == "geometry" else None,
        alpha=options.alpha,
        beta=options.beta,
        base=options.base,
        mining=options.mining,
        epsilon=options.epsilon,
    )


def _generalized_contrastive(
    options: config.GeneralizedContrastiveOptions, context: BuildContext
) -> protocols.Loss:
    from mlcore_baselines.generalized_contrastive import GeneralizedContrastiveLoss

    if context.influence is None:
        raise ConfigError(
            "generalized-contrastive needs an influence function, got none; "
            "use --influence NAME"
        )
    return GeneralizedContrastiveLoss(influence=context.influence, margin=options.margin)


LOSSES = (
    LossFactory(
        name="triplet",
        summary="every far image a margin farther than the nearest near image",
        source=NETVLAD,
        config=config.TripletOptions,
        build=_triplet,
        needs=frozenset({"tuples"}),
        memory="linear",
    ),
    LossFactory(
        name="lazy-triplet",
        summary="triplet, with only the far image of each tuple that costs most",
        source=POINTNETVLAD,
        config=config.TripletOptions,
        build=_lazy_triplet,
        needs=frozenset({"tuples"}),
        mining="internal",
        memory="linear",
    ),
    LossFactory(
        name="hard-positive-triplet",
        summary="triplet with the farthest near image in place of the nearest",
        source=NETVLAD,
        config=config.TripletOptions,
        build=_hard_positive_triplet,
        needs=frozenset({"tuples"}),
        memory="linear",
    ),
    LossFactory(
        name="quadruplet",
        summary="triplet, and far images a second margin from one other far image",
        source=POINTNETVLAD,
        config=config.QuadrupletOptions,
        build=_quadruplet,
        needs=frozenset({"tuples", "other-far"}),
        memory="linear",
    ),
    LossFactory(
        name="lazy-quadruplet",
        summary="quadruplet, with only the far image of each tuple that costs most",
        source=POINTNETVLAD,
        config=config.QuadrupletOptions,
        build=_lazy_quadruplet,
        needs=frozenset({"tuples", "other-far"}),
        mining="internal",
        memory="linear",
    ),
    LossFactory(
        name="triplet-huber",
        summary="triplet, and near images as far in the embedding as on the ground",
        source=SOFT_CONTRASTIVE,
        config=config.TripletHuberOptions,
        build=_triplet_huber,
        needs=frozenset({"tuples", "positions"}),
        memory="linear",
    ),
    LossFactory(
        name="log-ratio",
        summary="ratios of embedding distances as the ratios of geometric distances",
        source="Kim et al., Deep Metric Learning Beyond Binary Supervision, CVPR 2019",
        config=config.LogRatioOptions,
        build=_log_ratio,
        needs=frozenset({"tuples", "positions"}),
    ),
    LossFactory(
        name="multi-similarity-paper",
        summary="multi-similarity as in the paper: base 1, clamped, one class per far image",
        source=SOFT_CONTRASTIVE,
        config=config.PaperMultiSimilarityOptions,
        build=_multi_similarity_paper,
        needs=frozenset({"tuples", "positions"}),
        mining="internal",
    ),
    LossFactory(
        name="generalized-contrastive",
        summary="contrastive with the influence of a pair as its graded similarity",
        source="Leyva-Vallina et al., Data-efficient Large Scale Place Recognition with Graded "
        "Similarity Supervision, CVPR 2023",
        config=config.GeneralizedContrastiveOptions,
        build=_generalized_contrastive,
        uses_influence=True,
        needs=frozenset({"tuples", "positions"}),
        memory="linear",
    ),
)
