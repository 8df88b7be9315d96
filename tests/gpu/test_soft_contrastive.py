"""The kernels on a real GPU, against dense float64 there."""

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
    pairwise_distance,
    soft_contrastive_loss,
)
from mlcore_soft_contrastive.tiled import cupy_launch

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]
needs_cupy = pytest.mark.skipif(not cupy_launch.is_installed(), reason="CuPy is not installed")
FORMS = list(
    itertools.product(
        [Sigmoid(), Linear(), Tanh(), Step()], [True, False], ["log-sum-exp", "plain"]
    )
)


def batch(size: int, length_m: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    arc = torch.rand(size, generator=generator, dtype=torch.float64) * length_m
    xy = torch.stack([arc, 40.0 * torch.sin(arc / 150.0)], dim=1)
    waves = torch.randn(2, 64, generator=generator, dtype=torch.float64) / 20.0
    embeddings = torch.cos(xy @ waves)
    embeddings += 0.3 * torch.randn(size, 64, generator=generator, dtype=torch.float64)
    headings = (torch.rand(size, generator=generator, dtype=torch.float64) - 0.5) * 2 * math.pi
    positions = xy + torch.tensor([619_873.4, 5_735_211.8], dtype=torch.float64)
    return embeddings.cuda(), positions.cuda(), headings.cuda()


def evaluate(embeddings: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor, Any]:
    leaf = embeddings.clone().requires_grad_()
    loss, stats = soft_contrastive_loss(leaf, *args, return_stats=True, **options)
    (grad,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), grad, stats["implementation"]


@needs_cupy
@pytest.mark.parametrize(("influence", "mining", "aggregation"), FORMS)
@pytest.mark.parametrize("length_m", [80.0, 10_000.0])
def test_kernels_equal_dense_float64(
    influence: Any, mining: bool, aggregation: Any, length_m: float
) -> None:
    embeddings, positions, headings = batch(3000, length_m, 0)
    options: dict[str, Any] = {
        "influence": influence,
        "mining": mining,
        "aggregation": aggregation,
        "headings_rad": headings,
        "heading_limit_rad": 1.0,
    }
    expected, expected_grad, _ = evaluate(
        embeddings, positions, implementation="dense", **options
    )
    loss, grad, name = evaluate(embeddings.float(), positions, **options)
    assert name == "cupy"
    assert abs(loss.item() - expected.item()) < 1e-5 * abs(expected.item())
    assert (grad - expected_grad).norm() < 1e-5 * expected_grad.norm()
    again, grad_again, _ = evaluate(embeddings.float(), positions, **options)
    assert torch.equal(again, loss)
    assert torch.equal(grad_again, grad)


@needs_cupy
@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 1e-2), ("bfloat16", 5e-2)])
def test_rounded_factors(precision: Any, tolerance: float) -> None:
    embeddings, positions, _ = batch(3000, 800.0, 0)
    expected, expected_grad, _ = evaluate(embeddings, positions, implementation="dense")
    loss, grad, name = evaluate(
        embeddings.float(), positions, implementation="cupy", tile_precision=precision
    )
    assert name == "cupy"
    assert abs(loss.item() - expected.item()) < tolerance * abs(expected.item())
    of_grad = ((grad - expected_grad).norm() / expected_grad.norm()).item()
    assert 1e-6 < of_grad < tolerance


@needs_cupy
def test_current_stream_is_used() -> None:
    embeddings, positions, _ = batch(1000, 500.0, 1)
    expected = evaluate(embeddings.float(), positions)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        actual = evaluate(embeddings.float(), positions)
    stream.synchronize()
    assert torch.equal(actual[1], expected[1])


def test_torch_tiles_equal_dense_float64() -> None:
    embeddings, positions, _ = batch(3000, 10_000.0, 0)
    _, expected, _ = evaluate(embeddings, positions, implementation="dense")
    _, grad, name = evaluate(embeddings, positions, implementation="tiled")
    assert name == "tiled-torch"
    assert (grad - expected).norm() < 1e-10 * expected.norm()


@pytest.mark.parametrize(("rows", "columns", "dim"), [(1000, 777, 2), (300, 65, 256)])
@pytest.mark.parametrize("squared", [True, False])
def test_pairwise_distance(rows: int, columns: int, dim: int, squared: bool) -> None:
    x = (torch.randn(rows, dim) + 5e5).cuda().requires_grad_()
    y = (torch.randn(columns, dim) + 5e5).cuda().requires_grad_()
    a, b = (t.detach().double().requires_grad_() for t in (x, y))
    distances = pairwise_distance(x, y, squared=squared)
    expected = (a[:, None] - b[None]).square().sum(dim=2)
    expected = expected if squared else expected.sqrt()
    torch.testing.assert_close(distances.double(), expected, rtol=1e-6, atol=0)
    distances.sin().sum().backward()
    expected.sin().sum().backward()
    for single, double in ((x, a), (y, b)):
        assert single.grad is not None
        assert double.grad is not None
        assert (single.grad - double.grad).norm() < 1e-4 * double.grad.norm()
