"""What the plugin ``networks`` provides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mlcore import (
    BackboneFactory,
    BuildContext,
    ModelFactory,
    PoolingFactory,
    Weights,
    hookimpl,
)
from mlcore_networks import config
from mlcore_networks.pooling_factories import POOLINGS

if TYPE_CHECKING:
    from mlcore.models import Backbone, EmbeddingModel

mlcore_hook_api = 1

RESNET = "He et al., Deep Residual Learning for Image Recognition, CVPR 2016"
NETVLAD = "Arandjelovic et al., NetVLAD, CVPR 2016"

FINE_TUNING = {"learning_rate": 1e-4, "schedule": "cosine", "batch_norm": "frozen"}
"""Weights that were trained before want a far smaller step than random ones."""


def _small_cnn(options: config.SmallCnnBackboneConfig, _: BuildContext) -> Backbone:
    from mlcore_networks.backbones import small_cnn

    return small_cnn(options.width)


def _resnet(name: str, _options: config.NoOptions, _: BuildContext) -> Backbone:
    from mlcore_networks.backbones import resnet

    return resnet(name)


def _vgg16(_options: config.NoOptions, _: BuildContext) -> Backbone:
    from mlcore_networks.backbones import vgg16

    return vgg16()


def _imagenet(name: str, file: str) -> Callable[[Any], Sequence[Weights]]:
    """Return what offers torchvision's weights; the file's name ends in its hash."""

    def address() -> str:
        from torchvision.models import get_model_weights

        return str(get_model_weights(name)["IMAGENET1K_V1"].url)

    offered = Weights(
        name="imagenet",
        file=file,
        address=address,
        sha256=file.rpartition("-")[2].partition(".")[0],
        licence="BSD-3-Clause (torchvision)",
        training=FINE_TUNING,
    )
    return lambda _: (offered,)


def _pair(options: Any, context: BuildContext) -> EmbeddingModel:
    from mlcore.models import compose

    return compose(options, context)


@hookimpl
def mlcore_backbones() -> list[BackboneFactory]:
    """Return the backbones."""
    return [
        BackboneFactory(
            name="small-cnn",
            summary="five convolutions without batch norm, for CPU",
            config=config.SmallCnnBackboneConfig,
            build=_small_cnn,
            pooling="gem",
            training={"learning_rate": 1e-3},
        ),
        BackboneFactory(
            name="resnet18",
            summary="ResNet-18 to its last block",
            config=config.NoOptions,
            build=partial(_resnet, "resnet18"),
            weights=_imagenet("resnet18", "resnet18-f37072fd.pth"),
            pooling="gem",
            training=FINE_TUNING,
            source=RESNET,
        ),
        BackboneFactory(
            name="resnet50",
            summary="ResNet-50 to its last block",
            config=config.NoOptions,
            build=partial(_resnet, "resnet50"),
            weights=_imagenet("resnet50", "resnet50-0676ba61.pth"),
            pooling="gem",
            training=FINE_TUNING,
            source=RESNET,
        ),
        BackboneFactory(
            name="vgg16",
            summary="VGG16 to conv5_3, before its ReLU",
            config=config.NoOptions,
            build=_vgg16,
            weights=_imagenet("vgg16", "vgg16-397923af.pth"),
            pooling="netvlad",
            training=FINE_TUNING,
            source=NETVLAD,
        ),
    ]


@hookimpl
def mlcore_poolings() -> list[PoolingFactory]:
    """Return the poolings."""
    return list(POOLINGS)


@hookimpl
def mlcore_models() -> list[ModelFactory]:
    """Return the named pairs."""
    return [
        ModelFactory(
            name="small-cnn",
            summary="five convolutions without batch norm, for CPU",
            config=config.SmallCnnConfig,
            build=_pair,
            backbone="small-cnn",
            pooling="gem",
        ),
        ModelFactory(
            name="resnet18",
            summary="ResNet-18 to its last block",
            config=config.PretrainedConfig,
            build=_pair,
            backbone="resnet18",
            pooling="gem",
            source=RESNET,
        ),
        ModelFactory(
            name="resnet50",
            summary="ResNet-50 to its last block",
            config=config.PretrainedConfig,
            build=_pair,
            backbone="resnet50",
            pooling="gem",
            source=RESNET,
        ),
        ModelFactory(
            name="vgg16",
            summary="VGG16 to conv5_3 with NetVLAD, the paper's network",
            config=config.VggConfig,
            build=_pair,
            backbone="vgg16",
            pooling="netvlad",
            source=NETVLAD,
        ),
    ]
