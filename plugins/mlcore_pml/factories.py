"""Makers of factories, one per kind of PML loss, and the options that miners share.

The fields of an options class are keyword arguments of the PML class, name for name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from mlcore import BuildContext, ConfigError, LossFactory, MinerFactory, Pairs, Triplets
from mlcore.option_types import NOT_NEGATIVE, Range, check_ranges

if TYPE_CHECKING:
    from mlcore_pml.adapter import PmlAnchorLoss, PmlMiner, PmlPlaceLoss, PmlTupleLoss

Memory = Literal["linear", "quadratic", "cubic"]
NO_LIMITS: Mapping[str, str] = {}
REQUIRES = {"pytorch_metric_learning": "mlcore-localization[pml]"}


COSINE = Range(at_least=-1, at_most=1)


@dataclass(frozen=True, kw_only=True)
class PmlOptions:
    """Options of a loss or miner; numbers outside their range are refused."""

    def __post_init__(self) -> None:
        try:
            check_ranges(self)
        except ValueError as error:
            raise ConfigError(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class GeometryOptions(PmlOptions):
    """What a miner calls near and far.

    Attributes:
        near_radius_m: Images within this distance (metres) of the anchor are positive; none:
            the sampler's.
        far_radius_m: Images beyond this distance (metres) of the anchor are negative; none:
            the sampler's.
        heading_limit_deg: Largest heading difference (degrees) of anchor and positive,
            where headings are known; none: the sampler's; 180: no limit.
    """

    near_radius_m: Annotated[float | None, NOT_NEGATIVE] = None
    far_radius_m: Annotated[float | None, NOT_NEGATIVE] = None
    heading_limit_deg: Annotated[float | None, Range(at_least=0, at_most=180)] = None


def tuple_loss(
    name: str,
    pml_class: str,
    options: type[Any],
    *,
    summary: str,
    source: str,
    accepts: type[Pairs | Triplets] = Pairs,
    memory: Memory = "quadratic",
    limits: Mapping[str, str] = NO_LIMITS,
) -> LossFactory:
    """Describe a PML loss of mined pairs or triplets."""

    def build(chosen: Any, _: BuildContext) -> PmlTupleLoss:
        from mlcore_pml.adapter import PmlTupleLoss

        return PmlTupleLoss(pml_class, asdict(chosen))

    return LossFactory(
        name=name,
        summary=summary,
        source=source,
        config=options,
        requires=REQUIRES,
        build=build,
        mining="external",
        accepts=accepts,
        memory=memory,
        limits=limits,
    )


def anchor_loss(
    name: str,
    pml_class: str,
    options: type[Any],
    *,
    summary: str,
    source: str,
    mean_over: Literal["anchors", "positives"],
    memory: Memory,
) -> LossFactory:
    """Describe a PML loss that takes labels only, computed for one anchor at a time."""

    def build(chosen: Any, _: BuildContext) -> PmlAnchorLoss:
        from mlcore_pml.adapter import PmlAnchorLoss

        return PmlAnchorLoss(pml_class, asdict(chosen), mean_over)

    return LossFactory(
        name=name,
        summary=summary,
        source=source,
        config=options,
        requires=REQUIRES,
        build=build,
        mining="external",
        accepts=Pairs,
        memory=memory,
    )


def label_loss(
    name: str,
    pml_class: str,
    options: type[Any],
    *,
    summary: str,
    source: str,
    memory: Memory = "quadratic",
    limits: Mapping[str, str] = NO_LIMITS,
) -> LossFactory:
    """Describe a PML loss of pairs that takes the places of a grid as class labels."""

    def build(chosen: Any, context: BuildContext) -> PmlPlaceLoss:
        from mlcore_pml.adapter import PmlPlaceLoss

        return PmlPlaceLoss(pml_class, asdict(chosen), context.seed)

    return LossFactory(
        name=name,
        summary=summary,
        source=source,
        config=options,
        requires=REQUIRES,
        build=build,
        needs=frozenset({"labels"}),
        memory=memory,
        limits=limits,
    )


def place_loss(
    name: str,
    pml_class: str,
    options: type[Any],
    *,
    summary: str,
    source: str,
    dimension_argument: str = "embedding_size",
    limits: Mapping[str, str] = NO_LIMITS,
) -> LossFactory:
    """Describe a PML loss with weights for each place.

    ``dimension_argument`` is what PML calls the embedding dimension.
    """

    def build(chosen: Any, context: BuildContext) -> PmlPlaceLoss:
        from mlcore_pml.adapter import PmlPlaceLoss

        if context.num_places < 1 or context.embedding_dim < 1:
            raise ConfigError(
                f"{name} learns a weight per place and needs at least one place and dimension, "
                f"got {context.num_places} places of {context.embedding_dim} dimensions"
            )
        shape = {"num_classes": context.num_places, dimension_argument: context.embedding_dim}
        return PmlPlaceLoss(pml_class, shape | asdict(chosen), context.seed)

    return LossFactory(
        name=name,
        summary=summary,
        source=source,
        config=options,
        requires=REQUIRES,
        build=build,
        needs=frozenset({"labels"}),
        memory="linear",
        limits=limits,
    )


def miner(
    name: str,
    pml_class: str,
    options: type[GeometryOptions],
    *,
    summary: str,
    source: str,
    produces: type[Pairs | Triplets],
) -> MinerFactory:
    """Describe a PML miner."""
    return MinerFactory(
        name=name,
        summary=summary,
        source=source,
        config=options,
        requires=REQUIRES,
        build=_miner_build(pml_class, produces),
        produces=produces,
    )


def _miner_build(
    pml_class: str, produces: type[Pairs | Triplets]
) -> Callable[[Any, BuildContext], PmlMiner]:
    def build(chosen: GeometryOptions, context: BuildContext) -> PmlMiner:
        from mlcore.geometry import NearFar
        from mlcore_pml.adapter import PmlMiner

        geometry = {name: getattr(chosen, name) for name in asdict(GeometryOptions())}
        arguments = {k: v for k, v in asdict(chosen).items() if k not in geometry}
        relation = NearFar.resolve(context, **geometry)
        return PmlMiner(pml_class, arguments, relation, produces, context.seed)

    return build
