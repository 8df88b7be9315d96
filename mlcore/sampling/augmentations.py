"""Further augmentations of training images, by torchvision; none of them mirrors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlcore.options.engine import Augmentation
from mlcore.seeding import derive_seed


def _color_jitter(height: int, width: int) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2

    del height, width
    return v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)  # type: ignore[no-any-return]


def _resized_crop(height: int, width: int) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2

    ratio = width / height
    return v2.RandomResizedCrop(  # type: ignore[no-any-return]
        (height, width), scale=(0.6, 1.0), ratio=(0.9 * ratio, 1.1 * ratio), antialias=True
    )


def _perspective(height: int, width: int) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2

    del height, width
    return v2.RandomPerspective(distortion_scale=0.2, p=0.5)  # type: ignore[no-any-return]


def _rand_augment(height: int, width: int) -> Callable[[Tensor], Tensor]:
    from torchvision.transforms import v2

    del height, width
    return v2.RandAugment(num_ops=2, magnitude=9)  # type: ignore[no-any-return]


_MAKERS: Mapping[Augmentation, Callable[[int, int], Callable[[Tensor], Tensor]]] = {
    "color-jitter": _color_jitter,
    "resized-crop": _resized_crop,
    "perspective": _perspective,
    "rand-augment": _rand_augment,
}


def apply_augmentations(
    images: Tensor,
    names: Sequence[Augmentation],
    seed: int,
    step: int,
    slots: NDArray[np.integer],
) -> Tensor:
    """Return images after each augmentation in turn.

    What happens to an image depends on the seed, the step, its slot in the batch and the names,
    and on nothing else; torch's generator is left as it was.

    Args:
        images: uint8 ``(B, 3, H, W)``.
        names: In the order in which they are applied.
        seed: Of the run's augmentation.
        step: Batch number.
        slots: ``(B,)``, the slot of each image.
    """
    if not names or not len(images):
        return images
    height, width = images.shape[-2:]
    transforms = [(name, _MAKERS[name](height, width)) for name in names]
    varied = []
    with torch.random.fork_rng(devices=[]):
        for image, slot in zip(images, slots.tolist(), strict=True):
            for name, transform in transforms:
                torch.manual_seed(derive_seed(seed, name, step, slot))
                image = transform(image)  # noqa: PLW2901 - one after the other
            varied.append(image)
    return torch.stack(varied)
