"""The loss as a module for a loop of one's own: the function, under every transform."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore import ConfigError
from mlcore_soft_contrastive import Linear, Sigmoid, SoftContrastiveLoss, soft_contrastive_loss

SIZES = [20, 300]  # dense and tiled


def batch_of(size: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(size)
    embeddings = torch.randn(size, 24, generator=generator)
    positions = 80 * torch.rand(size, 2, generator=generator, dtype=torch.float64)
    headings = 2 * math.pi * torch.rand(size, generator=generator, dtype=torch.float64)
    return embeddings, positions, headings


def gradient(function: Any, embeddings: Tensor) -> Tensor:
    leaf = embeddings.clone().requires_grad_()
    function(leaf).backward()
    assert leaf.grad is not None
    return leaf.grad


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"influence": Linear(cutoff_m=9.0), "alpha": 3.0, "mining": False},
        {"aggregation": "plain", "beta": 30.0, "base": 0.5, "epsilon": 0.3},
        {"heading_limit_rad": 1.0},
    ],
)
def test_it_is_the_function(size, options):
    embeddings, positions, headings = batch_of(size)
    expected = soft_contrastive_loss(embeddings, positions, headings_rad=headings, **options)
    assert torch.equal(
        SoftContrastiveLoss(**options)(embeddings, positions, headings), expected
    )


def test_references_are_compared_with():
    embeddings, positions, headings = batch_of(30)
    loss = SoftContrastiveLoss(heading_limit_rad=1.0)
    whole = loss(embeddings, positions, headings)
    halves = [
        loss(
            embeddings[rows],
            positions[rows],
            headings[rows],
            references=embeddings,
            reference_positions_m=positions,
            reference_headings_rad=headings,
            self_index=torch.arange(30)[rows],
        )
        for rows in (slice(0, 15), slice(15, 30))
    ]
    torch.testing.assert_close(sum(halves) / 2, whole)


@pytest.mark.parametrize("size", SIZES)
def test_regions_are_infinitely_far_apart(size):
    embeddings, positions, headings = batch_of(size)
    region = torch.arange(size) % 2
    apart = positions + 1e5 * region[:, None]
    found = SoftContrastiveLoss()(embeddings, positions, headings, region)
    torch.testing.assert_close(found, SoftContrastiveLoss()(embeddings, apart))
    leaves = torch.func.grad(SoftContrastiveLoss())(embeddings, positions, None, region)
    expected = torch.func.grad(SoftContrastiveLoss())(embeddings, apart)
    torch.testing.assert_close(leaves, expected, rtol=1e-4, atol=1e-8)


def test_its_options_are_shown_and_checked():
    assert repr(SoftContrastiveLoss()) == f"SoftContrastiveLoss({Sigmoid()!r})"
    changed = SoftContrastiveLoss(Sigmoid(cutoff_m=9.0), beta=40.0, heading_limit_rad=1.0)
    assert repr(changed) == (
        f"SoftContrastiveLoss({Sigmoid(cutoff_m=9.0)!r}, beta=40.0, heading_limit_rad=1.0)"
    )
    assert list(changed.parameters()) == []
    with pytest.raises((ConfigError, ValueError), match="alpha must be greater than 0"):
        SoftContrastiveLoss(alpha=-1.0)
    with pytest.raises(ConfigError, match="influence must be an influence function"):
        SoftContrastiveLoss(0.8)(*batch_of(4)[:2])
    with pytest.raises(ValueError, match="heading_limit_rad needs headings_rad"):
        SoftContrastiveLoss(heading_limit_rad=1.0)(*batch_of(4)[:2])


@pytest.mark.parametrize("size", SIZES)
def test_functional_gradients(size):
    embeddings, positions, _ = batch_of(size)
    loss = SoftContrastiveLoss()
    expected = gradient(lambda leaf: loss(leaf, positions), embeddings)
    found = torch.func.grad(loss)(embeddings, positions)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-9)
    twice = torch.func.grad(lambda x: loss(2 * x.tanh(), positions))(embeddings)
    chained = gradient(lambda leaf: loss(2 * leaf.tanh(), positions), embeddings)
    torch.testing.assert_close(twice, chained, rtol=1e-5, atol=1e-9)
    by_references = torch.func.grad(
        lambda x: loss(embeddings, positions, references=x, reference_positions_m=positions)
    )(embeddings)
    assert by_references.norm() > 0


def test_functional_gradients_of_a_network():
    embeddings, positions, _ = batch_of(300)
    network, loss = torch.nn.Linear(24, 8), SoftContrastiveLoss()
    weights = dict(network.named_parameters())

    def of_weights(weights: dict[str, Tensor]) -> Tensor:
        return loss(torch.func.functional_call(network, weights, embeddings), positions)

    found = torch.func.grad(of_weights)(weights)
    of_weights(weights).backward()
    for name, weight in network.named_parameters():
        torch.testing.assert_close(found[name], weight.grad, rtol=1e-4, atol=1e-9)


def test_second_derivatives_are_exact_or_an_error():
    embeddings, positions, _ = batch_of(12)
    dense = SoftContrastiveLoss(implementation="dense", mining=False)

    def norm(loss: SoftContrastiveLoss, x: Tensor) -> Tensor:
        return torch.func.grad(loss)(x, positions).square().sum()

    x = embeddings.double()
    found = torch.func.grad(lambda x: norm(dense, x))(x)
    step = 1e-5 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).double()
    difference = (norm(dense, x + step) - norm(dense, x - step)) / 2
    assert float((found * step).sum()) == pytest.approx(float(difference), rel=1e-4)
    tiled = SoftContrastiveLoss(implementation="tiled")
    with pytest.raises(RuntimeError, match="no second derivatives"):
        torch.func.grad(lambda x: norm(tiled, x))(embeddings)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("inside", [False, True], ids=["backward after", "backward inside"])
def test_autocast_changes_no_bit(size, inside):
    embeddings, positions, _ = batch_of(size)
    loss = SoftContrastiveLoss()
    expected = gradient(lambda leaf: loss(leaf, positions), embeddings)
    leaf = embeddings.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss(leaf, positions)
        assert value.dtype == torch.float32
        if inside:
            value.backward()
    if not inside:
        value.backward()
    assert torch.equal(leaf.grad, expected)


# torch hides this warning of its own compiler, but not from a filter that raises.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")
@pytest.mark.parametrize("size", SIZES)
def test_compiled_with_a_network(size):
    images, positions, _ = batch_of(size)
    torch.manual_seed(0)
    network, loss = torch.nn.Linear(24, 8), SoftContrastiveLoss()

    def step(images: Tensor, positions: Tensor) -> Tensor:
        return loss(torch.tanh(network(images)), positions)

    step(images, positions).backward()
    expected = network.weight.grad.clone()
    network.zero_grad()
    torch.compile(step, backend="aot_eager")(images, positions).backward()
    torch.testing.assert_close(network.weight.grad, expected, rtol=1e-5, atol=1e-9)
