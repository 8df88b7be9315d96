"""Tiles beyond the support: left out where mining or rounding makes nothing of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore_soft_contrastive import Linear, dispatch
from mlcore_soft_contrastive.tiled.layout import TilePair
from mlcore_soft_contrastive.tiled.state import TileState

Route = Callable[[int, float, int], tuple[Tensor, Tensor, Tensor]]
Evaluate = Callable[..., tuple[Tensor, Tensor, str]]
Agree = Callable[..., dict[str, tuple[float, float]]]


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "CPU_TILE", 16)


@pytest.mark.parametrize("mining", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_far_tiles_that_mining_drops_whole_are_not_worked_on(
    mining: bool, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, evaluate: Evaluate
) -> None:
    """Two streets a kilometre apart that look different: no pair of both is hard."""
    positions = torch.zeros(64, 2, dtype=torch.float64)
    positions[:32, 0] = torch.arange(32.0)
    positions[32:, 0] = 1000.0 + torch.arange(32.0)
    embeddings = torch.zeros(64, 33, dtype=dtype)
    embeddings[:32, 0], embeddings[32:, 1] = 1.0, 1.0
    embeddings[:, 2] = 0.1 + 0.01 * torch.arange(64)
    monkeypatch.setattr(dispatch, "CPU_TILE", 32)
    worked = {"sums": 0, "gradient": 0}

    def count_far(name: str) -> None:
        work = getattr(TileState, name)

        def counted(self: Any, tile: Tensor, pair: TilePair) -> None:
            worked[name] += pair.gap_m > 500.0
            work(self, tile, pair)

        monkeypatch.setattr(TileState, name, counted)

    for name in worked:
        count_far(name)
    loss, grad, _ = evaluate(embeddings, positions, mining=mining, beta=10.0)
    assert worked == {"sums": 0 if mining else 1, "gradient": 0 if mining else 1}
    expected, expected_grad, _ = evaluate(
        embeddings.double(), positions, mining=mining, beta=10.0, implementation="dense"
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert (grad - expected_grad).norm() < 1e-5 * expected_grad.norm()


def test_gradient_filter_keeps_its_bound(route: Route, evaluate: Evaluate) -> None:
    embeddings, positions, _ = route(67, 4000.0, 3)
    unit = torch.nn.functional.normalize(embeddings)
    limit, beta = 0.8, 5.0  # a soft exponential, so that the bound can be felt
    options: dict[str, Any] = {"mining": False, "beta": beta}
    _, exact, _ = evaluate(unit, positions, **options)
    _, filtered, _ = evaluate(unit, positions, gradient_filter=limit, **options)
    error = (filtered - exact).norm(dim=1).max().item()
    assert 1e-6 < error < 2 * math.exp(beta * (limit - 1.0))
    _, unfiltered, _ = evaluate(unit, positions, gradient_filter=1e-9, **options)
    assert torch.equal(unfiltered, exact)


@pytest.fixture
def felt(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note who works on a far tile in backward, once a tile."""
    far: list[str] = []
    gradient = TileState.gradient

    def spy(self: TileState, tile: Tensor, pair: TilePair) -> None:
        if pair.gap_m >= Linear().support_m:
            far.append(type(self.backend).__name__)
        gradient(self, tile, pair)

    monkeypatch.setattr(TileState, "gradient", spy)
    return far


def street() -> tuple[Tensor, Tensor]:
    """Return embeddings and positions, 10 m apart; ten neighbours look alike."""
    generator = torch.Generator().manual_seed(0)
    arc = torch.arange(320, dtype=torch.float64) * 10.0
    positions = torch.stack([arc, torch.zeros_like(arc)], dim=1)
    looks = torch.randn(32, 256, generator=generator, dtype=torch.float64)
    # Half the route away stands something alike: cosine 0.75, which is felt by 1e-5.
    looks[16:] = 0.82 * looks[:16] + 0.57 * looks[16:]
    embeddings = looks.repeat_interleave(10, dim=0)
    embeddings += 0.3 * torch.randn(320, 256, generator=generator, dtype=torch.float64)
    return embeddings, positions


@pytest.mark.parametrize("mining", [True, False])
def test_far_tiles_that_change_no_digit_are_left_out(
    mining: bool, felt: list[str], agree: Agree
) -> None:
    """Along a long route most tiles are; what they would add is less than rounding."""
    errors = agree(*street(), influence=Linear(), mining=mining)
    assert errors["tiled-numba"][1] < 2e-6
    assert errors["tiled-torch"][1] < 1e-13
    num_far = 19 * 20 // 2  # neighbours in a row of 20 blocks are near
    assert felt.count("NumbaBackend") < num_far / 2
    assert felt.count("NumbaBackend") <= felt.count("TorchBackend") <= num_far


@pytest.mark.parametrize("mining", [True, False])
def test_one_image_alone_brings_none_of_them_back(
    mining: bool, felt: list[str], evaluate: Evaluate
) -> None:
    """With no near pair and no look-alike its gradient is next to nothing."""
    embeddings, positions = street()
    options: dict[str, Any] = {"influence": Linear(), "mining": mining}
    evaluate(embeddings.float(), positions, **options)
    without = len(felt)
    felt.clear()
    positions[-1, 0] += 1000.0
    embeddings[-1] = torch.randn(256, generator=torch.Generator().manual_seed(1)).double()
    _, grad, _ = evaluate(embeddings.float(), positions, **options)
    lengths = grad.norm(dim=1)
    assert lengths[-1] < 1e-3 * lengths.square().mean().sqrt()
    assert len(felt) <= without


@pytest.mark.parametrize("rectangular", [False, True])
def test_tiny_gradients_of_far_pairs_alone_are_all_there(
    rectangular: bool, evaluate: Evaluate
) -> None:
    """Without any near pair but the images themselves, far tiles are all that there is."""
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(64, 16, generator=generator, dtype=torch.float64)
    arc = torch.arange(64, dtype=torch.float64) * 1000.0
    positions = torch.stack([arc, torch.zeros_like(arc)], dim=1)
    options: dict[str, Any] = {"mining": False, "influence": Linear()}
    if rectangular:
        others = torch.randn(64, 16, generator=generator, dtype=torch.float64)
        options |= {"references": others, "reference_positions_m": positions + 300}
    expected, expected_grad, _ = evaluate(
        embeddings, positions, implementation="dense", **options
    )
    if rectangular:
        options["references"] = options["references"].float()
    loss, grad, _ = evaluate(embeddings.float(), positions, **options)
    assert abs(loss - expected) < 1e-5 * expected
    rows = torch.linalg.vector_norm(grad - expected_grad, dim=1)
    lengths = torch.linalg.vector_norm(expected_grad, dim=1)
    assert (rows < 1e-4 * lengths).all()


def test_many_far_pairs_that_change_a_digit_together_are_all_there(
    monkeypatch: pytest.MonkeyPatch, evaluate: Evaluate
) -> None:
    """Of 8,192 far references each weighs about 3e-10: one is below rounding, all are not.

    The rows are few: it is the columns that have to be counted.
    """
    monkeypatch.setattr(dispatch, "CPU_TILE", 1024)
    generator = torch.Generator().manual_seed(0)
    near, num_far, cosine = 16, 8192, 0.5615
    looks = torch.zeros(near + num_far, 16, dtype=torch.float64)
    looks[:near, 2:] = torch.randn(near, 14, generator=generator, dtype=torch.float64)
    looks[:near] *= 0.6 / looks[:near].norm(dim=1, keepdim=True)
    looks[:near, 0] = 0.8
    looks[near:, 0], looks[near:, 1] = cosine / 0.8, math.sqrt(1.0 - (cosine / 0.8) ** 2)
    positions = torch.zeros(near + num_far, 2, dtype=torch.float64)
    positions[near:, 0] = 1000.0 * torch.arange(1, num_far + 1)
    rows = looks[:near], positions[:near]
    options: dict[str, Any] = {
        "mining": False,
        "influence": Linear(),
        "references": looks,
        "reference_positions_m": positions,
    }
    _, wanted, _ = evaluate(*rows, gradient_filter=1e-9, **options)
    _, without, _ = evaluate(*rows, gradient_filter=0.6, **options)
    options["references"] = looks.float()
    _, grad, _ = evaluate(rows[0].float(), rows[1], **options)
    lengths = wanted.norm(dim=1)
    assert ((without - wanted).norm(dim=1) / lengths).min() > 3e-6
    assert ((grad - wanted).norm(dim=1) / lengths).max() < 1e-6
