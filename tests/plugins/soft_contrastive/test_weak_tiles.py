"""Near tiles that attract too weakly to decide what mining keeps: walked once, like far ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore_soft_contrastive import Sigmoid, dispatch
from mlcore_soft_contrastive.tiled.layout import TilePair
from mlcore_soft_contrastive.tiled.numba_backend import NumbaBackend
from mlcore_soft_contrastive.tiled.state import TileState
from mlcore_soft_contrastive.tiled.torch_backend import TorchBackend

TILE = 16
BACKENDS: dict[str, Any] = {
    "numba": NumbaBackend,
    "torch": TorchBackend,
}
Steps = dict[str, list[float]]
Off = Callable[..., float]


@pytest.fixture(params=BACKENDS)
def _each_backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every back end in turn, on small tiles."""
    make = BACKENDS[request.param]
    monkeypatch.setattr(dispatch, "choose", lambda *_: (request.param, TILE, make))


@pytest.fixture
def steps(_each_backend: None, monkeypatch: pytest.MonkeyPatch) -> Steps:
    """Gaps of the tiles that each step of mining has seen."""
    seen: Steps = {"mining_extrema": [], "most_repelling": []}

    def spy(name: str) -> None:
        work = getattr(TileState, name)

        def noted(self: Any, tile: Tensor, pair: TilePair) -> Any:
            seen[name].append(pair.gap_m)
            return work(self, tile, pair)

        monkeypatch.setattr(TileState, name, noted)

    for name in seen:
        spy(name)
    return seen


def streets(*starts_m: float) -> Tensor:
    """Return the positions of as many streets of a block's images, 1 m long."""
    generator = torch.Generator().manual_seed(0)
    positions = torch.rand(len(starts_m) * TILE, 2, generator=generator, dtype=torch.float64)
    positions[:, 0] += torch.tensor(starts_m).double().repeat_interleave(TILE)
    return positions


def random_looks(seed: int, *, num_streets: int = 3) -> Tensor:
    """Return embeddings of streets' images that have nothing to do with places."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(num_streets * TILE, 8, generator=generator, dtype=torch.float64) + 0.8


@pytest.fixture
def off(evaluate: Callable[..., tuple[Tensor, Tensor, str]]) -> Off:
    """Return the tiles' error relative to dense float64, of the loss or of the gradient."""

    def run(embeddings: Tensor, positions: Tensor, **options: Any) -> float:
        loss, grad, _ = evaluate(embeddings.float(), positions, **options)
        if "references" in options:
            options["references"] = options["references"].double()
        wanted, by, _ = evaluate(
            embeddings.double(), positions, implementation="dense", **options
        )
        return max(
            abs(loss - wanted).item() / wanted.item(), float((grad - by).norm() / by.norm())
        )

    return run


@pytest.mark.parametrize("aggregation", ["log-sum-exp", "plain"])
@pytest.mark.parametrize("rectangular", [False, True])
def test_they_are_walked_once_and_nothing_is_lost(
    aggregation: str, rectangular: bool, steps: Steps, off: Off
) -> None:
    positions = streets(0.0, 25.0, 60.0)
    for seed in range(4):
        embeddings = random_looks(seed)
        options: dict[str, Any] = {"aggregation": aggregation}
        if rectangular:
            options["references"] = embeddings.flip(0).float()
            options["reference_positions_m"] = positions.flip(0)
        assert off(embeddings, positions, **options) < 2e-6
    assert max(steps["mining_extrema"]) == 0.0
    weak = [gap for gap in steps["most_repelling"] if gap < Sigmoid().support_m]
    assert len(weak) == len(steps["most_repelling"]) == 4 * (6 if rectangular else 3)


@pytest.mark.usefixtures("_each_backend")
def test_their_most_repelling_pair_is_needed(off: Off, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TileState, "most_repelling", lambda *_: torch.tensor(True))
    positions = streets(0.0, 25.0, 60.0)
    assert max(off(random_looks(seed), positions) for seed in range(4)) > 1e-2


def test_one_that_lowers_a_least_attraction_is_mined(steps: Steps, off: Off) -> None:
    """An image lacks nothing beside it; 19 m off something else stands, and w+ is up to 0.09.

    That lowers what a repelling pair must exceed from 0.90 to 0.81; the third street's 0.86
    lies between.
    """
    looks = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.86, 0.0, 0.51]])
    assert off(looks.repeat_interleave(TILE, dim=0), streets(0.0, 18.9, 60.0)) < 2e-6
    assert any(17.8 < gap < 18.9 for gap in steps["mining_extrema"])


def test_one_is_weak_once_nearer_ones_repel_more_than_it_attracts(
    steps: Steps, off: Off
) -> None:
    """17 m apart, w+ is up to 0.17; some neighbours 14 m off have n of 0.2 before."""
    for seed in range(4):
        looks = random_looks(seed, num_streets=4)
        assert off(looks, streets(0.0, 15.0, 33.0, 48.0)) < 2e-6
    assert any(16.9 < gap < 17.2 for gap in steps["most_repelling"])
    assert not any(16.9 < gap < 17.2 for gap in steps["mining_extrema"])


def test_settled_weights_are_no_larger_than_they_may_be(steps: Steps, off: Off) -> None:
    """48 images in three groups; half of each of two groups looks a little different.

    Within such a group the least ``(s - t) w+`` is -0.06, so that a weight up to 0.06 is
    settled. 17.9 m off stands the other group, of w+ up to 0.09 and nothing alike: it lowers
    what a repelling pair must exceed from 0.84 to 0.81; the third group's 0.828 lies between.
    """
    turn = (1.0 - 0.94**2) ** 0.5
    looks = torch.tensor(
        [
            [1.0, 0.0, 0.0, 0.0, 0.0],
            [0.94, turn, 0.0, 0.0, 0.0],
            [0.0, 0.0, 0.0, 1.0, 0.0],
            [0.0, 0.0, 0.0, 0.94, turn],
            [0.828, 0.828 * 0.06 / turn, 0.5417, 0.0, 0.0],
            [0.828, 0.828 * 0.06 / turn, 0.5417, 0.0, 0.0],
        ]
    ).repeat_interleave(TILE // 2, dim=0)
    positions = streets(0.0, 0.0, 0.0) * 0.05
    positions[TILE : 2 * TILE, 0] += 17.95
    positions[2 * TILE :, 0] += 60.0
    assert off(looks, positions) < 2e-6
    assert any(17.8 < gap < 18.0 for gap in steps["mining_extrema"])
