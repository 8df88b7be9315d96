"""Name, needs and builder of each loss; torch is imported when one is built."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from mlcore import BuildContext, ConfigError, LossFactory
from mlcore_graded import config

if TYPE_CHECKING:
    from mlcore.factories import Need
    from mlcore.protocols import InfluenceFunction, Loss

POSITIONS: frozenset[Need] = frozenset({"positions"})


def _influence(name: str, context: BuildContext) -> InfluenceFunction:
    if context.influence is None:
        raise ConfigError(f"{name} needs an influence function, got none; use --influence NAME")
    return context.influence


def _radius_m(own_m: float | None, context: BuildContext) -> float:
    return context.near_radius_m if own_m is None else own_m


def _rank_n_contrast(options: config.RankNContrastOptions, _: BuildContext) -> Loss:
    from mlcore_graded.rank_n_contrast import RankNContrastLoss

    usual = {"distance": 0.5, "similarity": 0.1}[options.logits]
    return RankNContrastLoss(
        temperature=usual if options.temperature is None else options.temperature,
        logits=options.logits,
        limit_m=options.limit_m,
    )


def _soft_supcon(options: config.SoftSupConOptions, context: BuildContext) -> Loss:
    from mlcore_graded.soft_supcon import SoftSupConLoss

    return SoftSupConLoss(influence=_influence("soft-supcon", context), **asdict(options))


def _rince(options: config.RinceOptions, _: BuildContext) -> Loss:
    from mlcore_graded.rince import RinceLoss

    return RinceLoss(**asdict(options))


def _cosent(options: config.CosentOptions, _: BuildContext) -> Loss:
    from mlcore_graded.cosent import CosentLoss

    return CosentLoss(**asdict(options))


def _graded_ap(options: config.GradedApOptions, context: BuildContext) -> Loss:
    from mlcore_graded.ranking import GradedApLoss

    return GradedApLoss(influence=_influence("graded-ap", context), **asdict(options))


def _smooth_ap(options: config.SmoothApOptions, context: BuildContext) -> Loss:
    from mlcore_graded.ranking import SmoothApLoss

    return SmoothApLoss(**_with_radius(options, context))


def _recall_at_k(options: config.RecallAtKOptions, context: BuildContext) -> Loss:
    from mlcore_graded.ranking import RecallAtKLoss

    return RecallAtKLoss(**_with_radius(options, context))


def _with_radius(options: Any, context: BuildContext) -> dict[str, Any]:
    return asdict(options) | {"near_radius_m": _radius_m(options.near_radius_m, context)}


def _similarity_regression(
    _: config.SimilarityRegressionOptions, context: BuildContext
) -> Loss:
    from mlcore_graded.pair_regression import SimilarityRegressionLoss

    return SimilarityRegressionLoss(influence=_influence("similarity-regression", context))


def _adaptive_margin(options: config.AdaptiveMarginOptions, context: BuildContext) -> Loss:
    from mlcore_graded.pair_regression import AdaptiveMarginLoss

    return AdaptiveMarginLoss(
        influence=_influence("adaptive-margin", context), **asdict(options)
    )


def _distance_triplet(options: config.DistanceTripletOptions, _: BuildContext) -> Loss:
    from mlcore_graded.distance_triplet import DistanceTripletLoss

    return DistanceTripletLoss(**asdict(options))


def _stress(options: config.StressOptions, _: BuildContext) -> Loss:
    from mlcore_graded.pair_regression import StressLoss

    return StressLoss(**asdict(options))


LOSSES = (
    LossFactory(
        name="rank-n-contrast",
        summary="each image of an anchor against all that are at least as far, by softmax",
        source="Zha et al., Rank-N-Contrast, NeurIPS 2023",
        config=config.RankNContrastOptions,
        build=_rank_n_contrast,
        needs=POSITIONS,
        memory="linear",
    ),
    LossFactory(
        name="soft-supcon",
        summary="softmax over all images, averaged with the influence of each as weight",
        source="Dufumier et al., MICCAI 2021; Barbano et al., ISBI 2023",
        config=config.SoftSupConOptions,
        build=_soft_supcon,
        uses_influence=True,
        needs=POSITIONS,
        memory="linear",
    ),
    LossFactory(
        name="rince",
        summary="softmax of each band of distance against all images beyond it",
        source="Hoffmann et al., Ranking Info Noise Contrastive Estimation, AAAI 2022",
        config=config.RinceOptions,
        build=_rince,
        needs=POSITIONS,
        memory="linear",
    ),
    LossFactory(
        name="cosent",
        summary="every pair of the batch more similar than every pair farther apart",
        source="Huang et al., CoSENT, TASLP 2024",
        config=config.CosentOptions,
        build=_cosent,
        needs=POSITIONS,
    ),
    LossFactory(
        name="graded-ap",
        summary="average precision with the influence as relevance; cubic time",
        source="after Ramzi et al., HAPPIER, ECCV 2022, and SupRank, TPAMI 2025",
        config=config.GradedApOptions,
        build=_graded_ap,
        uses_influence=True,
        needs=POSITIONS,
        memory="linear",
    ),
    LossFactory(
        name="smooth-ap",
        summary="average precision of retrieving the near images; cubic time",
        source="Brown et al., Smooth-AP, ECCV 2020",
        config=config.SmoothApOptions,
        build=_smooth_ap,
        needs=POSITIONS,
        memory="linear",
    ),
    LossFactory(
        name="recall-at-k",
        summary="share of near images among the first k, for several k; cubic time",
        source="Patel et al., Recall@k Surrogate Loss, CVPR 2022",
        config=config.RecallAtKOptions,
        build=_recall_at_k,
        needs=POSITIONS,
        memory="linear",
    ),
    LossFactory(
        name="similarity-regression",
        summary="cosine similarity equal to the influence, squared error",
        config=config.SimilarityRegressionOptions,
        build=_similarity_regression,
        uses_influence=True,
        needs=POSITIONS,
        memory="linear",
    ),
    LossFactory(
        name="adaptive-margin",
        summary="contrastive, with a margin that grows as the influence falls",
        source="after Leyva-Vallina et al., Data-efficient Large Scale Place Recognition with "
        "Graded Similarity Supervision, CVPR 2023",
        config=config.AdaptiveMarginOptions,
        build=_adaptive_margin,
        uses_influence=True,
        needs=POSITIONS,
        memory="linear",
    ),
    LossFactory(
        name="distance-triplet",
        summary="the farther of two images farther by a margin in metres; cubic time",
        config=config.DistanceTripletOptions,
        build=_distance_triplet,
        needs=POSITIONS,
        memory="linear",
    ),
    LossFactory(
        name="stress",
        summary="embedding distance proportional to geometric distance, up to a range",
        source="metric multidimensional scaling; Kruskal, Psychometrika 1964",
        config=config.StressOptions,
        build=_stress,
        needs=POSITIONS,
        memory="linear",
    ),
)
