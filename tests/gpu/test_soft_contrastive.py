"""The kernels against dense float64: on a GPU, and with the same bodies on the CPU."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore_soft_contrastive import (
    Linear,
    Sigmoid,
    Step,
    Tanh,
    dispatch,
    pairwise_distance,
    soft_contrastive_loss,
)

FORMS = list(
    itertools.product(
        [Sigmoid(), Linear(), Tanh(), Step()], [True, False], ["log-sum-exp", "plain"]
    )
)


def batch(
    device: str, length_m: float, seed: int, size: int = 3000
) -> tuple[Tensor, Tensor, Tensor]:
    """Return embeddings, raw UTM positions and headings along a road; on the CPU of few images."""
    size = size if device == "cuda" else 300
    generator = torch.Generator().manual_seed(seed)
    arc = torch.rand(size, generator=generator, dtype=torch.float64) * length_m
    xy = torch.stack([arc, 40.0 * torch.sin(arc / 150.0)], dim=1)
    waves = torch.randn(2, 64, generator=generator, dtype=torch.float64) / 20.0
    embeddings = torch.cos(xy @ waves)
    embeddings += 0.3 * torch.randn(size, 64, generator=generator, dtype=torch.float64)
    headings = (torch.rand(size, generator=generator, dtype=torch.float64) - 0.5) * 2 * math.pi
    positions = xy + torch.tensor([619_873.4, 5_735_211.8], dtype=torch.float64)
    return embeddings.to(device), positions.to(device), headings.to(device)


def evaluate(embeddings: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor, Any]:
    leaf = embeddings.clone().requires_grad_()
    options = {"implementation": "cupy", **options}
    loss, stats = soft_contrastive_loss(leaf, *args, return_stats=True, **options)
    (grad,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), grad, stats["implementation"]


def assert_near(grad: Tensor, expected: Tensor) -> None:
    """Hold almost all rows to float32 rounding.

    Mining decides by comparison: in 1 % of the rows a pair at a threshold may be kept on one
    side and dropped on the other, as the order of a float32 sum decides.
    """
    off = (grad.double() - expected).norm(dim=1)
    lengths = expected.norm(dim=1)
    crossed = off > 1e-5 * lengths.clamp(min=float(lengths.square().mean().sqrt()))
    assert int(crossed.sum()) <= 0.01 * len(grad)
    assert off[~crossed].norm() < 2e-6 * expected.norm()


@pytest.mark.parametrize(("influence", "mining", "aggregation"), FORMS)
@pytest.mark.parametrize("length_m", [80.0, 10_000.0])
def test_kernels_equal_dense_float64(
    influence: Any, mining: bool, aggregation: Any, length_m: float, device: str
) -> None:
    embeddings, positions, headings = batch(device, length_m, 0)
    options: dict[str, Any] = {
        "influence": influence,
        "mining": mining,
        "aggregation": aggregation,
        "headings_rad": headings,
        "heading_limit_rad": 1.0,
    }
    expected, expected_grad, _ = evaluate(
        embeddings, positions, **options | {"implementation": "dense"}
    )
    loss, grad, name = evaluate(embeddings.float(), positions, **options)
    assert name == "cupy"
    assert abs(loss.item() - expected.item()) < 1e-5 * abs(expected.item())
    assert_near(grad, expected_grad)
    again, grad_again, _ = evaluate(embeddings.float(), positions, **options)
    assert torch.equal(again, loss)
    assert torch.equal(grad_again, grad)


@pytest.mark.parametrize("mining", [True, False])
def test_far_tiles(mining: bool, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "DEVICE_TILE", 256)  # 3,000 images: most tiles are far
    embeddings, positions, _ = batch(device, 10_000.0, 2)
    _, expected, _ = evaluate(embeddings, positions, mining=mining, implementation="dense")
    _, grad, _ = evaluate(embeddings.float(), positions, mining=mining)
    assert_near(grad, expected)


@pytest.mark.parametrize("mining", [True, False])
def test_rectangular_form(mining: bool, device: str) -> None:
    embeddings, positions, _ = batch(device, 500.0, 3)
    third, quarter = len(embeddings) // 3, len(embeddings) // 4

    def run(values: Tensor, implementation: Any) -> Tensor:
        rows = values[:third].clone().requires_grad_()
        columns = values[quarter:].clone().requires_grad_()
        loss = soft_contrastive_loss(
            rows,
            positions[:third],
            mining=mining,
            references=columns,
            reference_positions_m=positions[quarter:],
            self_index=(torch.arange(third, device=device) - quarter).clamp(min=-1),
            implementation=implementation,
        )
        return torch.cat(torch.autograd.grad(loss, (rows, columns)))

    assert_near(run(embeddings.float(), "cupy"), run(embeddings, "dense"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings(dtype: torch.dtype, device: str) -> None:
    embeddings, positions, _ = batch(device, 500.0, 4)
    half = embeddings.to(dtype)
    _, expected, _ = evaluate(half.double(), positions, mining=False, implementation="dense")
    _, grad, name = evaluate(half, positions, mining=False)
    assert name == "cupy"
    assert grad.dtype == dtype
    # Rounded to half precision at the end; float16 has a coarsest spacing of 2^-24 near 0.
    rounding = torch.finfo(dtype).eps * expected.norm() + 2**-24 * math.sqrt(grad.numel())
    assert (grad.double() - expected).norm() < rounding


def test_inside_autocast(device: str) -> None:
    embeddings, positions, _ = batch(device, 500.0, 5)
    _, expected, _ = evaluate(embeddings, positions, mining=False, implementation="dense")
    with torch.autocast(device, dtype=torch.bfloat16):
        _, grad, _ = evaluate(embeddings.float(), positions, mining=False)
    assert_near(grad, expected)


@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 1e-2), ("bfloat16", 5e-2)])
def test_rounded_factors(precision: Any, tolerance: float, device: str) -> None:
    if device == "cpu" and precision == "tf32":
        pytest.skip("the CPU has no TF32")
    embeddings, positions, _ = batch(device, 800.0, 0)
    expected, expected_grad, _ = evaluate(embeddings, positions, implementation="dense")
    loss, grad, name = evaluate(embeddings.float(), positions, tile_precision=precision)
    assert name == "cupy"
    assert abs(loss.item() - expected.item()) < tolerance * abs(expected.item())
    of_grad = ((grad - expected_grad).norm() / expected_grad.norm()).item()
    assert 1e-6 < of_grad < tolerance


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_current_stream_is_used(device: str) -> None:
    embeddings, positions, _ = batch(device, 500.0, 1)
    expected = evaluate(embeddings.float(), positions)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # A kernel launched into another stream would overtake this and read too early.
        torch.cuda._sleep(200_000_000)
        late = embeddings.float() * 1.0
        actual = evaluate(late, positions)
    stream.synchronize()
    assert torch.equal(actual[1], expected[1])


@pytest.mark.parametrize("device", [pytest.param("cuda", marks=pytest.mark.gpu)], indirect=True)
def test_offsets_beyond_32_bits(device: str) -> None:
    """70,000 images have 2.4e9 kept similarities."""
    embeddings, positions, _ = batch(device, 10_000.0, 1, size=70_000)
    narrow = embeddings[:, :16].float()
    saved = evaluate(narrow, positions, mining=False, save_similarity=True)
    again = evaluate(narrow, positions, mining=False)
    assert torch.equal(saved[1], again[1])


def test_torch_tiles_equal_dense_float64(device: str) -> None:
    embeddings, positions, _ = batch(device, 10_000.0, 0)
    _, expected, _ = evaluate(embeddings, positions, implementation="dense")
    _, grad, name = evaluate(embeddings, positions, implementation="tiled")
    assert name == "tiled-torch"
    assert (grad - expected).norm() < 1e-10 * expected.norm()


@pytest.mark.parametrize(("rows", "columns", "dim"), [(1000, 777, 2), (300, 65, 256)])
@pytest.mark.parametrize("squared", [True, False])
def test_pairwise_distance(
    rows: int, columns: int, dim: int, squared: bool, device: str
) -> None:
    if device == "cpu":
        rows, columns = rows // 5, columns // 5
    generator = torch.Generator().manual_seed(0)
    x, y = (
        (torch.randn(n, dim, generator=generator) + 5e5).to(device).requires_grad_()
        for n in (rows, columns)
    )
    a, b = (t.detach().double().requires_grad_() for t in (x, y))
    distances = pairwise_distance(x, y, squared=squared)
    expected = (a[:, None] - b[None]).square().sum(dim=2)
    if not squared:
        # Of points that coincide in float32, the root has no derivative; ours is 0.
        apart = expected > 0
        expected = torch.where(apart, torch.where(apart, expected, 1.0).sqrt(), 0.0)
    torch.testing.assert_close(distances.double(), expected, rtol=1e-6, atol=0)
    distances.sin().sum().backward()
    expected.sin().sum().backward()
    for single, double in ((x, a), (y, b)):
        assert single.grad is not None
        assert double.grad is not None
        assert (single.grad - double.grad).norm() < 1e-4 * double.grad.norm()
