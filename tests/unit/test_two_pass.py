"""Chunks change no gradient, whatever the network draws."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks._joint import Network, Setting, difference, losses
from benchmarks._networks import network
from mlcore.training.gradient_cache import (
    InChunks,
    NoImages,
    WithGraph,
    freeze_batch_norms,
    kept_generators,
    live_batch_norms,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", sorted(losses()))
def test_every_loss_has_the_gradient_of_the_plain_step(name):
    factory = losses()[name]
    assert difference(factory, Setting(name, chunk_size=8)) < 1e-12
    assert difference(factory, Setting(name, "float32", chunk_size=8)) < 1e-5


@pytest.mark.parametrize("chunk_size", [1, 3, 10, 64])
def test_any_chunk_size_will_do(chunk_size):
    setting = Setting("soft-contrastive", chunk_size=chunk_size)
    assert difference(losses()["soft-contrastive"], setting) < 1e-12


def test_what_is_dropped_is_dropped_again():
    network = Network(6, normalize=True, dropout=0.5).double()
    images, weights = torch.randn(10, 12).double(), torch.randn(10, 6).double()
    torch.manual_seed(3)
    embedded = InChunks(network, images, 4, CPU)
    after = torch.get_rng_state()
    embedded.backward(weights)
    assert torch.equal(torch.get_rng_state(), after)
    found = [p.grad.clone() for p in network.parameters()]
    # The same draws in the same order, at once and by hand.
    network.zero_grad()
    torch.manual_seed(3)
    by_hand = torch.cat([network(chunk) for chunk in images.split(4)])
    assert torch.equal(by_hand, embedded.embeddings)
    (by_hand * weights).sum().backward()
    for gradient, parameter in zip(found, network.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-12, atol=1e-12)


def test_without_replay_the_gradient_would_be_another():
    network = Network(6, normalize=True, dropout=0.5).double()
    images, weights = torch.randn(10, 12).double(), torch.randn(10, 6).double()
    gradients = []
    for start in (3, 4):
        network.zero_grad()
        torch.manual_seed(start)
        InChunks(network, images, 4, CPU).backward(weights)
        gradients.append(network.layers[0].weight.grad.clone())
    assert not torch.allclose(*gradients)


def test_mixed_precision_in_both_passes():
    network = Network(6, normalize=True)
    images, weights = torch.randn(9, 12), torch.randn(9, 6)
    gradients = []
    for kind in ("plain", "chunks"):
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
            embedded = (
                WithGraph(network, images)
                if kind == "plain"
                else InChunks(
                    network, images, 9, CPU, lambda: torch.autocast("cpu", torch.bfloat16)
                )
            )
        assert embedded.embeddings.dtype == torch.float32
        embedded.backward(weights)
        gradients.append(network.layers[0].weight.grad.clone())
    assert torch.equal(*gradients)


def test_only_one_chunk_has_a_graph_at_a_time():
    live: list[int] = []

    class Counts(torch.autograd.Function):
        @staticmethod
        def forward(_ctx, images):
            if torch.is_grad_enabled() or images.requires_grad:
                live.append(len(images))
            return images * 1.0

        @staticmethod
        def backward(_ctx, gradient):
            live.append(-len(gradient))
            return gradient

    weight = nn.Parameter(torch.ones(1))
    embedded = InChunks(
        lambda images: Counts.apply(images * weight), torch.randn(10, 2), 4, CPU
    )
    embedded.backward(torch.ones(10, 2))
    assert [number for number in live if number < 0] == [-4, -4, -2]
    held = [sum(live[: place + 1]) for place in range(len(live))]
    assert max(held) <= 4


def test_generators_are_left_alone():
    before = torch.get_rng_state()
    with kept_generators(CPU):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)


def test_live_batch_norms_are_found_and_can_be_frozen():
    model = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.GroupNorm(1, 3)).train()
    assert live_batch_norms(model) == ["1"]
    freeze_batch_norms(model)
    assert live_batch_norms(model) == []
    stateless = nn.BatchNorm1d(3, track_running_stats=False).eval()
    assert live_batch_norms(stateless) == [""]


def test_our_own_small_model_has_none():
    assert live_batch_norms(network("small-cnn").train()) == []


def test_a_share_without_images_has_rows_of_the_right_kind():
    network = Network(6, normalize=True).double()
    nothing = NoImages(6, next(network.parameters()))
    assert nothing.embeddings.shape == (0, 6)
    assert nothing.embeddings.dtype == torch.float64
    nothing.backward(torch.zeros(0, 6))
    assert all(parameter.grad is None for parameter in network.parameters())
