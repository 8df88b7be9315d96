"""What this plugin offers mlcore: one loss and five influence functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcore import BuildContext, InfluenceFactory, LossFactory, hookimpl
from mlcore.option_types import require_unchanged
from mlcore.protocols import InfluenceFunction
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.influence import FieldOfView, Linear, Sigmoid, Step, Tanh

if TYPE_CHECKING:
    from mlcore_soft_contrastive.loss import BatchLoss

mlcore_hook_api = 1

PAPER = (
    "Thoma, Paudel, Van Gool: Soft Contrastive Learning for Visual Localization, NeurIPS 2020"
)


def _build_loss(config: SoftContrastiveConfig, context: BuildContext) -> BatchLoss:
    from mlcore_soft_contrastive.loss import BatchLoss

    if config.aggregation == "plain":
        reason = "--loss.aggregation plain, a sum without exponents; leave it out"
        require_unchanged("loss", config, ("alpha", "beta", "base"), reason)
    if not config.mining:
        require_unchanged("loss", config, ("epsilon",), "--loss.mining false; leave it out")
    return BatchLoss.for_run(config, context)


def _build_influence(config: InfluenceFunction, context: BuildContext) -> InfluenceFunction:
    del context  # the options are the function
    return config


@hookimpl
def mlcore_losses() -> list[LossFactory]:
    """Return the proposed loss."""
    return [
        LossFactory(
            name="soft-contrastive",
            aliases=("proposed",),
            summary="Every pair attracts and repels by its geometric distance (proposed)",
            source=PAPER,
            config=SoftContrastiveConfig,
            build=_build_loss,
            uses_influence=True,
            mining="internal",
            needs=frozenset({"positions"}),
            normalize=True,
            memory="linear",
        )
    ]


@hookimpl
def mlcore_influence_functions() -> list[InfluenceFactory]:
    """Return the paper's three influence functions, the step and the field of view."""
    return [
        InfluenceFactory(
            name="sigmoid",
            summary="1 / (1 + exp(steepness (d - cutoff))), the default",
            source=PAPER,
            config=Sigmoid,
            build=_build_influence,
        ),
        InfluenceFactory(
            name="linear",
            summary="max(0, 1 - d / cutoff)",
            source=PAPER,
            config=Linear,
            build=_build_influence,
        ),
        InfluenceFactory(
            name="tanh",
            summary="1 - tanh(d / cutoff)",
            source=PAPER,
            config=Tanh,
            build=_build_influence,
        ),
        InfluenceFactory(
            name="step",
            summary="1 within the cutoff, 0 beyond: positives and negatives",
            config=Step,
            build=_build_influence,
        ),
        InfluenceFactory(
            name="field-of-view",
            summary="sigmoid of the distance times the shared part of the field of view",
            source="Leyva-Vallina et al., CVPR 2023 (generalized contrastive loss), adapted",
            config=FieldOfView,
            build=_build_influence,
        ),
    ]
