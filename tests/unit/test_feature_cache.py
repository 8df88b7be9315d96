"""Features of a frozen backbone are computed once per image, and change no result."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from mlcore.models.feature_cache import FeatureCache
from mlcore.models.networks import Network
from mlcore.models.tuning import train_last
from mlcore_networks.backbones import small_cnn
from mlcore_networks.poolings.means import GemPooling

IMAGES = torch.randint(
    0, 256, (4, 3, 32, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
)


@pytest.fixture
def network():
    """A network with a frozen backbone that counts the images it sees in ``num_seen``."""
    torch.manual_seed(0)
    backbone = small_cnn(8)
    train_last(backbone, "none")
    backbone.num_seen = 0
    backbone.register_forward_pre_hook(count)
    pooling = GemPooling(backbone.num_channels)
    return Network(backbone, pooling, 8, feature_cache=FeatureCache(64)).train()


def count(backbone, arguments):
    backbone.num_seen += len(arguments[0])


def test_an_image_is_computed_once_in_whatever_batch(network):
    first = network.embed(IMAGES)
    again = network.embed(IMAGES[[2, 0]])
    assert network.backbone.num_seen == 4
    assert torch.equal(again, first[[2, 0]])
    torch.testing.assert_close(network.eval().embed(IMAGES), first)


def test_the_head_gets_the_gradient_that_it_gets_without(network):
    other = copy.deepcopy(network)
    other._feature_cache = None
    for _ in range(2):
        found = torch.autograd.grad(
            network.embed(IMAGES).square().sum(), network.projection.weight
        )
        wanted = torch.autograd.grad(
            other.embed(IMAGES).square().sum(), other.projection.weight
        )
        torch.testing.assert_close(found[0], wanted[0])


def test_other_weights_are_computed_anew(network):
    before = network.embed(IMAGES)
    state = {name: 1.5 * value for name, value in network.backbone.state_dict().items()}
    network.backbone.load_state_dict(state)
    assert not torch.equal(network.embed(IMAGES), before)
    assert network.backbone.num_seen == 8


def test_other_precision_is_computed_anew(network):
    network.embed(IMAGES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        network.embed(IMAGES)
    assert network.backbone.num_seen == 8


def test_a_full_cache_keeps_what_it_has(network):
    one_image = network.backbone.feature_shape((32, 48))
    bytes_per_image = 4 * one_image.num_channels * one_image.height * one_image.width
    network._feature_cache._limit_bytes = 3 * bytes_per_image
    first = network.embed(IMAGES)
    network.backbone.num_seen = 0
    assert torch.equal(network.embed(IMAGES), first)
    assert network.backbone.num_seen == 1
    assert network._feature_cache.num_bytes == 3 * bytes_per_image


def test_copies_start_empty(network):
    network.embed(IMAGES)
    for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network._feature_cache))):
        cache = getattr(other, "_feature_cache", other)
        assert cache.num_bytes == 0
        assert cache._limit_bytes == network._feature_cache._limit_bytes
