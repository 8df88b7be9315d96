"""Pairwise distances against float64 and against torch's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcore_soft_contrastive import pairwise_distance

SHAPES = [(1, 1, 2), (7, 5, 2), (33, 40, 3), (20, 31, 9), (12, 9, 256), (5, 6, 4096)]


def reference(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x.double()[:, None] - y.double()[None]).norm(dim=2)


@pytest.mark.parametrize(("rows", "columns", "dimensions"), SHAPES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("squared", [True, False])
def test_equals_float64(
    rows: int, columns: int, dimensions: int, dtype: torch.dtype, squared: bool
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, dimensions, generator=generator, dtype=dtype)
    y = torch.randn(columns, dimensions, generator=generator, dtype=dtype)
    for second in (y, None):
        expected = reference(x, x if second is None else y)
        expected = expected.square() if squared else expected
        actual = pairwise_distance(x, second, squared=squared)
        assert actual.dtype == dtype
        torch.testing.assert_close(actual.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_raw_utm_loses_nothing(dtype: torch.dtype, route: Callable[..., Any]) -> None:
    _, positions, _ = route(60, 10_000.0, 1)
    x = positions.to(dtype)
    torch.testing.assert_close(
        pairwise_distance(x).double(), reference(x, x), rtol=1e-6, atol=0
    )
    # A loss that weighs near pairs: its gradient must not drown in the coordinates.
    leaf, exact = x.clone().requires_grad_(), x.double().requires_grad_()
    torch.exp(-pairwise_distance(leaf) / 50).sum().backward()
    distances = (exact[:, None] - exact[None]).square().sum(2).clamp(min=1e-300).sqrt()
    torch.exp(-distances / 50).sum().backward()
    assert leaf.grad is not None
    assert exact.grad is not None
    assert (leaf.grad - exact.grad).norm() < 1e-6 * exact.grad.norm()


@pytest.mark.parametrize("squared", [True, False])
@pytest.mark.parametrize("dimensions", [2, 12])
def test_gradcheck(squared: bool, dimensions: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, dimensions, generator=generator, dtype=torch.float64).requires_grad_()
    y = torch.randn(4, dimensions, generator=generator, dtype=torch.float64).requires_grad_()
    torch.autograd.gradcheck(lambda a, b: pairwise_distance(a, b, squared=squared), (x, y))
    # Of one set with itself: off the diagonal, where the distance has a derivative.
    weights = 1.0 - torch.eye(6, dtype=torch.float64)
    torch.autograd.gradcheck(
        lambda a: (pairwise_distance(a, squared=squared) * weights)[weights > 0], x
    )


def test_gradient_is_zero_where_points_coincide() -> None:
    x = torch.ones(3, 2, requires_grad=True)
    pairwise_distance(x).sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.zeros(3, 2))


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_any_shape_and_layout(data: st.DataObject) -> None:
    rows = data.draw(st.sampled_from([0, 1, 2, 17]), "N")
    columns = data.draw(st.sampled_from([0, 1, 3, 18]), "M")
    dimensions = data.draw(st.sampled_from([1, 2, 8, 9]), "D")
    dtype = data.draw(st.sampled_from([torch.float32, torch.float64, torch.bfloat16]), "dtype")
    x = torch.randn(dimensions, 2 * rows).T[::2].to(dtype).requires_grad_()
    y = torch.randn(columns, dimensions).to(dtype)
    distances = pairwise_distance(x, y)
    distances.sum().backward()
    assert distances.shape == (rows, columns)
    torch.testing.assert_close(distances.double(), reference(x, y), rtol=1e-6, atol=1e-12)
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.zeros(3), None, r"x must be \(N, D\)"),
        (torch.zeros(3, 2, dtype=torch.int64), None, "floating point"),
        (torch.zeros(3, 2), torch.zeros(3, 4), "differ in dimensions"),
        (torch.zeros(3, 2), torch.zeros(3, 2).double(), "differ in dimensions, dtype"),
        (torch.zeros(3, 2), torch.zeros(3, 2, device="meta"), "or device"),
    ],
)
def test_bad_input(x: torch.Tensor, y: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pairwise_distance(x, y)
