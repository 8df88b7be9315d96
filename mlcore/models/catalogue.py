"""The two models of the engine itself, as factories: no torch is imported here.

Pixels are the row that every table has for comparison; a network of chosen parts is what
``--backbone`` and ``--pooling`` stand for. All networks come from plugins.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlcore.factories import BuildContext, ModelFactory
from mlcore.models.config import NetworkConfig, PixelConfig

if TYPE_CHECKING:
    from mlcore.models.networks import Network
    from mlcore.models.pixels import PixelModel


def _pixels(config: PixelConfig, _: BuildContext) -> PixelModel:
    from mlcore.models.pixels import PixelModel

    return PixelModel(rows=config.rows, columns=config.columns)


def _composed(config: NetworkConfig, context: BuildContext) -> Network:
    from mlcore.models.networks import compose

    return compose(config, context)


PIXELS = ModelFactory(
    name="pixels",
    summary="a small grey copy of the image, compared by normalised correlation",
    config=PixelConfig,
    build=_pixels,
    trainable=False,
)

COMPOSED = ModelFactory(
    name="composed",
    summary="a backbone and a pooling of your choice (--backbone NAME --pooling NAME)",
    config=NetworkConfig,
    build=_composed,
)

BUILTIN = (PIXELS, COMPOSED)
