"""The loss on roads of 10 km in raw UTM, against the float64 loops."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlcore_soft_contrastive import Linear, Sigmoid, Step, Tanh, soft_contrastive_loss

Route = Callable[[int, float, int], tuple[Tensor, Tensor, Tensor]]
INFLUENCES = {"sigmoid": Sigmoid(), "linear": Linear(), "tanh": Tanh(), "step": Step()}
FORMS = list(itertools.product(INFLUENCES, [True, False], ["log-sum-exp", "plain"]))


def value_and_grad(
    function: Callable[..., Tensor], embeddings: Tensor, *args: Any, **options: Any
) -> tuple[Tensor, Tensor]:
    leaf = embeddings.clone().requires_grad_()
    loss = function(leaf, *args, **options)
    (grad,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), grad


def relative(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize(("name", "mining", "aggregation"), FORMS)
@pytest.mark.parametrize("length_m", [80.0, 1500.0])
def test_equals_the_loops(
    name: str,
    mining: bool,
    aggregation: Any,
    length_m: float,
    reference: ModuleType,
    route: Route,
) -> None:
    embeddings, positions, headings = route(26, length_m, 3)
    options: dict[str, Any] = {
        "mining": mining,
        "aggregation": aggregation,
        "headings_rad": headings,
        "heading_limit_rad": math.radians(100.0),
    }
    expected, expected_grad = value_and_grad(
        reference.loss, embeddings, positions, getattr(reference, name)(), **options
    )
    loss, grad = value_and_grad(
        soft_contrastive_loss, embeddings, positions, influence=INFLUENCES[name], **options
    )
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    assert relative(grad, expected_grad) < 1e-10


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mining", [True, False])
def test_float32_equals_float64_over_10_km_of_raw_utm(
    seed: int, mining: bool, route: Route
) -> None:
    embeddings, positions, _ = route(400, 10_000.0, seed)
    # Mining compares similarities with thresholds: a margin of 0.1 leaves none on the edge.
    expected, expected_grad = value_and_grad(
        soft_contrastive_loss, embeddings, positions, mining=mining
    )
    loss, grad = value_and_grad(
        soft_contrastive_loss, embeddings.float(), positions, mining=mining
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert relative(grad, expected_grad) < 1e-5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype, route: Route) -> None:
    embeddings, positions, _ = route(40, 300.0, 0)
    half = embeddings.to(dtype)
    loss, grad = value_and_grad(soft_contrastive_loss, half, positions)
    expected, expected_grad = value_and_grad(soft_contrastive_loss, half.float(), positions)
    assert loss.dtype == torch.float32
    assert grad.dtype == dtype
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(grad, expected_grad.to(dtype))


def test_autocast_changes_nothing(route: Route) -> None:
    embeddings, positions, _ = route(40, 300.0, 0)
    expected = soft_contrastive_loss(embeddings.float(), positions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = soft_contrastive_loss(embeddings.float(), positions)
    assert torch.equal(loss, expected)


@pytest.mark.parametrize(("name", "mining", "aggregation"), FORMS)
def test_gradcheck(name: str, mining: bool, aggregation: Any, route: Route) -> None:
    embeddings, positions, _ = route(7, 60.0, 5)
    leaf = embeddings[:, :5].clone().requires_grad_()
    torch.autograd.gradcheck(
        lambda e: soft_contrastive_loss(
            e,
            positions,
            influence=INFLUENCES[name],
            mining=mining,
            aggregation=aggregation,
        ),
        leaf,
    )


@pytest.mark.parametrize("beta", [50.0, 500.0, 50_000.0])
@pytest.mark.parametrize("alpha", [2.0, 500.0])
def test_no_exponent_overflows(alpha: float, beta: float, route: Route) -> None:
    embeddings, positions, _ = route(30, 200.0, 1)
    # base 0 makes the exponents as large as they can be: beta times a similarity.
    options: dict[str, Any] = {"alpha": alpha, "beta": beta, "base": 0.0, "mining": False}
    loss, grad = value_and_grad(soft_contrastive_loss, embeddings.float(), positions, **options)
    expected, expected_grad = value_and_grad(
        soft_contrastive_loss, embeddings, positions, **options
    )
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert relative(grad, expected_grad) < 1e-3  # beta times the rounding of a similarity


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_batch_is_finite(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([0, 1, 2, 3, 7, 17]), "B")
    dimensions = data.draw(st.sampled_from([1, 3, 8]), "D")
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), "dtype")
    scale = data.draw(st.sampled_from([1e-30, 1.0, 1e30]), "scale")
    spread_m = data.draw(st.sampled_from([0.0, 5.0, 1e3, 1e7]), "spread")
    coordinates = data.draw(st.sampled_from([2, 3]), "coordinates")
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 1000), "seed"))
    # Every other row of a transposed tensor: neither contiguous nor aligned.
    embeddings = (torch.randn(dimensions, 2 * size, generator=generator).T[::2] * scale).to(
        dtype
    )
    positions = torch.randn(size, coordinates, generator=generator).double() * spread_m + 5e6
    options: dict[str, Any] = {
        "influence": data.draw(st.sampled_from(list(INFLUENCES.values())), "influence"),
        "mining": data.draw(st.booleans(), "mining"),
        "aggregation": data.draw(st.sampled_from(["log-sum-exp", "plain"]), "aggregation"),
    }
    loss, grad = value_and_grad(soft_contrastive_loss, embeddings, positions, **options)
    again, grad_again = value_and_grad(
        soft_contrastive_loss, embeddings.contiguous(), positions, **options
    )
    assert torch.isfinite(loss)
    if scale == 1.0:
        assert torch.isfinite(grad).all()
    torch.testing.assert_close(again, loss)
    if dtype != torch.bfloat16 and scale == 1.0:
        torch.testing.assert_close(grad_again, grad)


def test_order_of_the_batch_does_not_matter(route: Route) -> None:
    embeddings, positions, _ = route(40, 300.0, 2)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    loss, grad = value_and_grad(soft_contrastive_loss, embeddings, positions)
    shuffled, shuffled_grad = value_and_grad(
        soft_contrastive_loss, embeddings[order], positions[order]
    )
    torch.testing.assert_close(shuffled, loss)
    torch.testing.assert_close(shuffled_grad, grad[order])
