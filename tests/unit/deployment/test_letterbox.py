"""The letterbox in a graph gives the very bytes of the one that evaluation uses."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import interpolate

from mlcore.data.images import letterbox
from mlcore.deployment.letterbox import Letterbox, _resample, _resampling

SIZES = [(32, 32), (32, 48), (100, 67), (120, 160)]
IMAGES = [(1, 1), (33, 45), (45, 33), (64, 64), (480, 640), (1, 700), (301, 200), (9, 1200)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", IMAGES)
def test_every_pixel_is_the_same(shape, size):
    image = torch.randint(
        0, 256, (3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    (found,) = Letterbox(*size)(image[None])
    assert found.dtype == torch.uint8
    assert torch.equal(found, letterbox(image, *size))


def test_weights_below_the_finest_unit_of_torch():
    """Torch rounds weights to 2**-22 at the finest; 20,000 pixels to 32 would take 2**-24."""
    generator = torch.Generator().manual_seed(1)
    tall = torch.randint(0, 256, (1, 1, 20_000, 800), dtype=torch.uint8, generator=generator)
    ones = torch.ones(20_000, dtype=torch.float64)
    weights, _ = _resampling(ones, torch.tensor(32.0, dtype=torch.float64), 32)
    found = _resample(tall.float().transpose(2, 3), weights).transpose(2, 3)
    expected = interpolate(tall, (32, 800), mode="bilinear", antialias=True)
    assert torch.equal(found.to(torch.uint8), expected)


def test_a_batch_is_its_images():
    batch = torch.randint(0, 256, (3, 3, 50, 70), dtype=torch.uint8)
    box = Letterbox(32, 48)
    assert torch.equal(box(batch), torch.cat([box(image[None]) for image in batch]))
