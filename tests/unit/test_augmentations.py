"""Augmentations by torchvision are functions of seed, step and slot, and keep the size."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch

from mlcore.experiment import assemble
from mlcore.options import parse_run
from mlcore.options.engine import Augmentation
from mlcore.registry.discovery import Registry
from mlcore.sampling.augmentations import apply_augmentations

NAMES = get_args(Augmentation)
SLOTS = np.arange(6)


@pytest.fixture
def images():
    """Return six images with a bright disc left of the middle."""
    y, x = torch.meshgrid(torch.arange(40), torch.arange(60), indexing="ij")
    disc = ((x - 15) ** 2 + (y - 20) ** 2 < 80).float()
    colours = torch.tensor([200.0, 120.0, 60.0])[:, None, None]
    return (30 + disc * colours).to(torch.uint8).expand(6, 3, 40, 60).clone()


@pytest.mark.parametrize("names", [*[(name,) for name in NAMES], NAMES], ids=str)
def test_seed_step_and_slot_decide(images, names):
    before = torch.get_rng_state()
    once = apply_augmentations(images, names, 3, 8, SLOTS)
    assert torch.equal(torch.get_rng_state(), before)
    assert (once.shape, once.dtype) == (images.shape, torch.uint8)
    torch.manual_seed(123)
    assert torch.equal(apply_augmentations(images, names, 3, 8, SLOTS), once)
    some = apply_augmentations(images[[1, 4]], names, 3, 8, np.array([1, 4]))
    assert torch.equal(some, once[[1, 4]])
    for others in ((4, 8), (3, 9)):
        assert not torch.equal(apply_augmentations(images, names, *others, SLOTS), once)
    assert not torch.equal(once, images)
    assert len({tuple(image.flatten().tolist()) for image in once}) > 1


@pytest.mark.parametrize("name", ["resized-crop", "perspective"])
def test_nothing_is_mirrored(images, name):
    """The disc stays in the left half: a mirrored street is another place."""
    many = images[:1].expand(60, 3, 40, 60)
    varied = apply_augmentations(many, (name,), 0, 0, np.arange(60)).float().mean(dim=1)
    left, right = varied[:, :, :30].sum(dim=(1, 2)), varied[:, :, 30:].sum(dim=(1, 2))
    assert (left > right).all()


def test_without_names_nothing_changes(images):
    assert apply_augmentations(images, (), 0, 0, SLOTS) is images
    nothing = images[:0]
    assert apply_augmentations(nothing, NAMES, 0, 0, SLOTS[:0]) is nothing


def test_a_run_takes_them(synthetic_plugin):
    words = ["--dataset", "synthetic", "--training.augment", "false"]
    registry = Registry.discover()
    plain = assemble(parse_run(words, registry)).batches[1].images
    more = [*words, "--training.augmentations", "color-jitter,rand-augment"]
    batches = assemble(parse_run(more, registry)).batches
    varied = batches[1].images
    assert varied.shape == plain.shape
    assert not torch.equal(varied, plain)
    half = batches.share(1, 1, 2)
    assert torch.equal(half.images, varied[half.slots])
