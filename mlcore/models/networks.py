"""A network from two parts: a backbone, a pooling, and an optional linear projection."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mlcore.factories import BuildContext
from mlcore.models.config import NetworkConfig
from mlcore.models.embedding import EmbeddingModel, to_unit_range
from mlcore.models.feature_cache import FeatureCache
from mlcore.models.parts import Backbone, Pooling
from mlcore.models.tuning import train_last
from mlcore.protocols import Features


def compose(config: NetworkConfig, context: BuildContext) -> Network:
    """Return the backbone and the pooling of ``context`` as one network.

    The ``build`` of a named pair: ``ModelFactory(backbone=..., pooling=..., build=compose)``.

    Raises:
        ConfigError: The backbone has fewer blocks than are to be trained.
    """
    assert context.backbone is not None, "the engine builds the backbone first"
    assert context.pooling is not None, "the engine builds the pooling first"
    train_last(context.backbone, config.trainable_blocks)
    cache_mib = config.feature_cache_mib if config.trainable_blocks == "none" else 0
    return Network(
        context.backbone,
        context.pooling,
        config.embedding_dim,
        feature_cache=FeatureCache(cache_mib) if cache_mib else None,
    )


class Network(EmbeddingModel):
    """A backbone, a pooling and an optional linear projection.

    Args:
        backbone: Turns images in [0, 1] into features.
        pooling: Turns these into ``(B, D')``; its ``output_dim`` is ``D'``.
        embedding_dim: ``D`` of the projection; None leaves it out.
        feature_cache: Keeps the features of training images; for a frozen backbone.
    """

    def __init__(
        self,
        backbone: Backbone,
        pooling: Pooling,
        embedding_dim: int | None,
        *,
        feature_cache: FeatureCache | None = None,
    ) -> None:
        super().__init__()
        self._feature_cache = feature_cache
        self.backbone = backbone
        self.pooling = pooling
        self.projection: nn.Module = (
            nn.Identity()
            if embedding_dim is None
            else nn.Linear(pooling.output_dim, embedding_dim)
        )
        self.embedding_dim = embedding_dim or pooling.output_dim
        self.needs_initialisation = pooling.needs_initialisation
        self.maps = nn.Identity()  # a name for the maps, which Grad-CAM explains
        self.to(memory_format=torch.channels_last)

    @property
    def explained(self) -> nn.Module:
        """The layer that Grad-CAM explains: the backbone's choice, or the features."""
        return self.backbone.explained or self.maps

    def train(self, mode: bool = True) -> Network:
        """Set training mode; what is frozen of the backbone stays in evaluation mode.

        So its batch norms keep their statistics, and it drops nothing.
        """
        super().train(mode)
        if mode and not any(p.requires_grad for p in self.backbone.parameters()):
            self.backbone.eval()
        elif mode:
            for module in self.backbone.modules():
                own = list(module.parameters(recurse=False))
                if own and not any(parameter.requires_grad for parameter in own):
                    module.eval()
        return self

    def features(self, images: Tensor) -> Features:
        """Return the features before pooling, of training images from the cache."""
        if self._feature_cache is not None and self.training:
            return self._feature_cache.features(self.backbone, images, self._compute)
        return self._compute(images)

    def _compute(self, images: Tensor) -> Features:
        images = to_unit_range(images, self.backbone.dtype)
        found: Features = self.backbone(images.contiguous(memory_format=torch.channels_last))
        return found

    def embed(self, images: Tensor) -> Tensor:
        """Return embeddings ``(B, D)`` of any length."""
        return self.pool(self.features(images))

    def pool(self, features: Features) -> Tensor:
        """Return embeddings ``(B, D)`` of any length, of features."""
        maps, token = features
        dtype = self.backbone.dtype
        with torch.autocast(maps.device.type, enabled=False):
            # Powers and norms lose too much in 16 bits.
            maps = self.maps(maps.to(dtype))
            token = None if token is None else token.to(dtype)
            embeddings: Tensor = self.projection(self.pooling(Features(maps, token)))
        return embeddings

    def initialise(self, images: Iterable[Tensor]) -> None:
        """Fit the pooling to the features of ``images``, such as the words of NetVLAD.

        Raises:
            DataError: There are too few local features.
        """
        device = next(self.parameters()).device
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            self.pooling.initialise(self.features(batch.to(device)) for batch in images)
        self.train(was_training)
