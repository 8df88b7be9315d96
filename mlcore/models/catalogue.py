"""The engine's own embedding models, as factories: no torch is imported here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcore.factories import BuildContext, ModelFactory
from mlcore.models.config import PixelConfig, ResNetConfig, SmallCnnConfig, VggConfig

if TYPE_CHECKING:
    from mlcore.models.embedding import ConvolutionalModel, PixelModel


def _build_small_cnn(config: SmallCnnConfig, context: BuildContext) -> ConvolutionalModel:
    from mlcore.models.backbones import small_cnn
    from mlcore.models.embedding import ConvolutionalModel
    from mlcore.models.pooling import build_pooling

    backbone = small_cnn(config.width)
    pooling = build_pooling(
        config.pooling, backbone.num_channels, config.num_clusters, context.seed
    )
    return ConvolutionalModel(backbone, pooling, config.embedding_dim)


def _build_pretrained(
    name: str, config: ResNetConfig, context: BuildContext
) -> ConvolutionalModel:
    from mlcore.models.backbones import torchvision_backbone
    from mlcore.models.embedding import ConvolutionalModel
    from mlcore.models.pooling import build_pooling

    backbone = torchvision_backbone(name, config.pretrained)
    pooling = build_pooling(
        config.pooling, backbone.num_channels, config.num_clusters, context.seed
    )
    return ConvolutionalModel(backbone, pooling, config.embedding_dim)


def _build_resnet18(config: ResNetConfig, context: BuildContext) -> ConvolutionalModel:
    return _build_pretrained("resnet18", config, context)


def _build_resnet50(config: ResNetConfig, context: BuildContext) -> ConvolutionalModel:
    return _build_pretrained("resnet50", config, context)


def _build_vgg16(config: VggConfig, context: BuildContext) -> ConvolutionalModel:
    return _build_pretrained("vgg16", config, context)


def _build_pixels(config: PixelConfig, _context: BuildContext) -> PixelModel:
    from mlcore.models.embedding import PixelModel

    return PixelModel(rows=config.rows, columns=config.columns)


MODELS: tuple[ModelFactory, ...] = (
    ModelFactory(
        name="small-cnn",
        summary="five convolutions without batch norm, for CPU",
        config=SmallCnnConfig,
        build=_build_small_cnn,
    ),
    ModelFactory(
        name="resnet18",
        summary="ResNet-18 to its last block",
        config=ResNetConfig,
        build=_build_resnet18,
        source="He et al., Deep Residual Learning for Image Recognition, CVPR 2016",
    ),
    ModelFactory(
        name="resnet50",
        summary="ResNet-50 to its last block",
        config=ResNetConfig,
        build=_build_resnet50,
        source="He et al., Deep Residual Learning for Image Recognition, CVPR 2016",
    ),
    ModelFactory(
        name="vgg16",
        summary="VGG16 to conv5_3 with NetVLAD, the paper's network",
        config=VggConfig,
        build=_build_vgg16,
        source="Arandjelovic et al., NetVLAD, CVPR 2016",
    ),
    ModelFactory(
        name="pixels",
        summary="a small grey copy of the image, compared by normalised correlation",
        config=PixelConfig,
        build=_build_pixels,
        trainable=False,
    ),
)
