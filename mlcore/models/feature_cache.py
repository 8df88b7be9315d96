"""Features of a frozen backbone, computed once per image."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

from mlcore.models.parts import Backbone
from mlcore.protocols import Features

_MIB = 2**20


class FeatureCache:
    """Keeps the features of images in memory, keyed by weights, size and pixels.

    Each image goes through the backbone alone, so that its features do not depend on which
    others are missing: a resumed run, whose cache starts empty, gets the same bits. Once full,
    the cache keeps what it has, since epochs would replace each image before its next use.

    Args:
        limit_mib: Largest size of the kept features in MiB.
    """

    def __init__(self, limit_mib: int) -> None:
        self._limit_bytes = limit_mib * _MIB
        self._features: dict[Hashable, Features] = {}
        self._weights: Hashable = None
        self.num_bytes = 0

    def features(
        self, backbone: Backbone, images: Tensor, compute: Callable[[Tensor], Features]
    ) -> Features:
        """Return the features of images ``(B, 3, H, W)``; ``compute`` those that are new."""
        weights = _weights_key(backbone)
        if weights != self._weights:
            self._features.clear()
            self._weights, self.num_bytes = weights, 0
        found = [self._of_one(images[row : row + 1], compute) for row in range(len(images))]
        tokens = [one.token for one in found if one.token is not None]
        return Features(
            torch.cat([one.maps for one in found]), torch.cat(tokens) if tokens else None
        )

    def _of_one(self, image: Tensor, compute: Callable[[Tensor], Features]) -> Features:
        key = _image_key(image)
        if key in self._features:
            return self._features[key]
        with torch.no_grad():
            features = compute(image)
        size = sum(t.numel() * t.element_size() for t in features if t is not None)
        if self.num_bytes + size <= self._limit_bytes:
            self._features[key] = features
            self.num_bytes += size
        return features

    def __deepcopy__(self, _: object) -> FeatureCache:
        """A copy of a network may be trained otherwise, so it starts empty."""
        return FeatureCache(self._limit_bytes // _MIB)

    def __reduce__(self) -> tuple[type[FeatureCache], tuple[int]]:
        """A pickled network leaves its features behind."""
        return FeatureCache, (self._limit_bytes // _MIB,)


def _weights_key(backbone: Backbone) -> Hashable:
    """Return what changes when the weights do: in place, or as other tensors."""
    state = (*backbone.parameters(), *backbone.buffers())
    return tuple((tensor.data_ptr(), tensor.dtype, tensor._version) for tensor in state)  # noqa: SLF001


def _image_key(image: Tensor) -> Hashable:
    device = image.device.type
    precision = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    pixels = image.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
    digest = hashlib.blake2b(pixels, digest_size=16).digest()
    return digest, tuple(image.shape), image.dtype, precision
