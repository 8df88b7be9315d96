"""Processes that each walk over a share of the tiles find what one process finds."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore.protocols import ProcessGroup
from mlcore.testing.losses.together import in_group
from mlcore_soft_contrastive import Sigmoid, SoftContrastiveConfig, dispatch
from mlcore_soft_contrastive.cuda.walk import CudaKernels
from mlcore_soft_contrastive.inputs import checked_geometry
from mlcore_soft_contrastive.tiled.layout import blocks, share_of, tile_pairs
from mlcore_soft_contrastive.tiled.numba_backend import NumbaBackend
from mlcore_soft_contrastive.tiled.state import TileState
from mlcore_soft_contrastive.tiled.torch_backend import TorchBackend
from mlcore_soft_contrastive.tiled.walk import Walk

Found = tuple[Tensor, Tensor]
BACKENDS = {"numba": NumbaBackend, "torch": TorchBackend}


@pytest.fixture(params=["numba", "torch", "kernels"])
def small_tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "kernels":
        kernels = request.getfixturevalue("kernels")
        one_at_a_time = threading.Lock()  # the host build has one set of thread indices

        def compiled(source: str) -> Any:
            def launch_alone(*args: Any) -> None:
                with one_at_a_time:
                    kernels(source)(*args)

            return launch_alone

        made: Any = ("kernels", 128, CudaKernels(compiled))
    else:
        made = (request.param, 48, BACKENDS[request.param])
    monkeypatch.setattr(dispatch, "choose", lambda *_: made)
    return str(request.param)


def found(
    embeddings: Tensor,
    positions: Tensor,
    group: ProcessGroup | None,
    region: Tensor | None = None,
    **options: Any,
) -> Found:
    leaf = embeddings.clone().requires_grad_()
    geometry = checked_geometry(
        leaf, positions, None, region=region, influence=Sigmoid(), heading_limit_rad=None
    )
    config = SoftContrastiveConfig(implementation="tiled", **options)
    loss = dispatch.evaluate(leaf, None, geometry, config, group).loss
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient


def together(count: int, *args: Any, **options: Any) -> list[Found]:
    return in_group(count, lambda group: found(*args, group, **options))


@pytest.mark.parametrize("count", [2, 3, 7])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"mining": False},
        {"aggregation": "plain"},
        {"epsilon": 0.4},
        {"save_similarity": True},
        {"beta": 5.0},  # far tiles change the gradient
    ],
    ids=str,
)
def test_shares_add_up_to_the_whole(
    small_tiles: str, route: Callable[..., Any], options: dict[str, Any], count: int
) -> None:
    embeddings, positions, _ = route(401, 700.0, 3)
    dtype = torch.float64 if small_tiles == "torch" else torch.float32
    embeddings = embeddings.to(dtype)
    loss, gradient = found(embeddings, positions, None, **options)
    parts = together(count, embeddings, positions, **options)
    tolerance = {torch.float64: 1e-12, torch.float32: 3e-6}[dtype]
    for total, _ in parts:
        assert torch.equal(total, parts[0][0])
        assert abs(total - loss) <= tolerance * abs(loss)
    whole = torch.stack([part for _, part in parts]).sum(dim=0)
    assert (whole - gradient).norm() <= tolerance * gradient.norm()
    # No process did the work of all, and none had nothing to do.
    assert all(part.norm() > 0.0 for _, part in parts)
    assert all((part - gradient).norm() > 0.01 * gradient.norm() for _, part in parts)


def streets(_: int) -> tuple[Tensor, Tensor]:
    """Return three streets of 16 images, of which the second lowers the first one's least.

    See ``test_one_that_lowers_a_least_attraction_is_mined``.
    """
    looks = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.86, 0.0, 0.51]]).double()
    positions = torch.zeros(48, 2, dtype=torch.float64)
    positions[:, 0] = torch.tensor([0.0, 18.9, 60.0]).double().repeat_interleave(16)
    positions += torch.linspace(0.0, 1.0, 16, dtype=torch.float64).repeat(3)[:, None]
    return looks.repeat_interleave(16, dim=0), positions


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("kind", ["clumps", "streets"])
def test_what_others_mined_counts(
    monkeypatch: pytest.MonkeyPatch, clumps: Any, kind: str, count: int
) -> None:
    thresholds: list[Tensor] = []
    start_sums = TileState.start_sums

    def noted(state: TileState) -> None:
        start_sums(state)
        thresholds.append(state._rows.above.clone())

    tile, make = (8, clumps) if kind == "clumps" else (16, streets)
    monkeypatch.setattr(TileState, "start_sums", noted)
    monkeypatch.setattr(dispatch, "choose", lambda *_: ("torch", tile, TorchBackend))
    for seed in range(20 if kind == "clumps" else 1):
        looks, positions = make(seed)
        thresholds.clear()
        loss, gradient = found(looks, positions, None)
        parts = together(count, looks, positions)
        alone, *shared = thresholds
        assert all(torch.equal(alone, one) for one in shared), seed
        whole = torch.stack([part for _, part in parts]).sum(dim=0)
        assert parts[1][0].item() == pytest.approx(loss.item(), rel=1e-12), seed
        assert (whole - gradient).norm() <= 1e-12 * gradient.norm(), seed


@pytest.mark.parametrize("beta", [60.0, 80.0])
def test_the_same_far_tiles_are_left_out(
    route: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, beta: float
) -> None:
    """That depends on the whole gradient's length, of which each process has a part."""
    monkeypatch.setattr(dispatch, "choose", lambda *_: ("torch", 8, TorchBackend))
    chosen: list[tuple[int, int]] = []
    significant = Walk._significant

    def noted(walk: Walk, *args: Any) -> list[int]:
        numbers = significant(walk, *args)
        pairs = [walk.plan.pairs[k] for k in numbers]
        chosen.extend((pair.rows.start, pair.columns.start) for pair in pairs)
        return numbers

    monkeypatch.setattr(Walk, "_significant", noted)
    embeddings, positions, _ = route(200, 900.0, 8)
    found(embeddings, positions, None, mining=False, beta=beta)
    alone = sorted(chosen)
    chosen.clear()
    together(3, embeddings, positions, mining=False, beta=beta)
    assert 0 < len(alone) < 250
    assert sorted(chosen) == alone


def test_the_same_bits_each_time(small_tiles: str, route: Callable[..., Any]) -> None:
    embeddings, positions, _ = route(301, 700.0, 4)
    first, second = (together(3, embeddings.float(), positions) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def test_more_processes_than_tiles(small_tiles: str, route: Callable[..., Any]) -> None:
    embeddings, positions, _ = route(60, 200.0, 5)
    embeddings = embeddings.to(torch.float64 if small_tiles == "torch" else torch.float32)
    loss, gradient = found(embeddings, positions, None)
    parts = together(5, embeddings, positions)
    assert abs(parts[4][0] - loss) <= 3e-6 * abs(loss)
    assert parts[4][1].norm() == 0.0
    whole = torch.stack([part for _, part in parts]).sum(dim=0)
    assert (whole - gradient).norm() <= 3e-6 * gradient.norm()


def test_regions(small_tiles: str, route: Callable[..., Any]) -> None:
    embeddings, positions, _ = route(200, 400.0, 6)
    embeddings = embeddings.to(torch.float64 if small_tiles == "torch" else torch.float32)
    region = torch.arange(200) % 2
    loss, gradient = found(embeddings, positions, None, region)
    parts = in_group(2, lambda group: found(embeddings, positions, group, region))
    whole = torch.stack([part for _, part in parts]).sum(dim=0)
    assert abs(parts[0][0] - loss) <= 3e-6 * abs(loss)
    assert (whole - gradient).norm() <= 3e-6 * gradient.norm()


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_shares_are_every_tile_once_and_alike_in_work(
    route: Callable[..., Any], count: int
) -> None:
    embeddings, positions, _ = route(400, 3000.0, 7)
    geometry = checked_geometry(
        embeddings, positions, None, influence=Sigmoid(), heading_limit_rad=None
    )
    order = blocks(geometry.rows, 25)
    pairs = tile_pairs(order, order, symmetric=True)
    shares = [share_of(pairs, rank, count) for rank in range(count)]
    dealt = [pairs.index(pair) for share in shares for pair in share]
    assert sorted(dealt) == list(range(len(pairs)))
    for share in shares:  # in the order of the whole, which keeps threads from waiting
        assert all(pairs.index(one) < pairs.index(next_) for one, next_ in pairwise(share))
    near = [sum(pair.gap_m < 25.0 for pair in share) for share in shares]
    assert max(near) - min(near) <= 1
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
