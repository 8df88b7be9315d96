"""Unit rows and their gradient: compiled in one pass, and as a chain of torch operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mlcore_soft_contrastive.geometry import Places
from mlcore_soft_contrastive.tiled import unit_rows
from mlcore_soft_contrastive.tiled.layout import Blocks, blocks
from mlcore_soft_contrastive.tiled.unit_rows import UnitRows

TOLERANCE = {torch.float32: 1e-6, torch.float64: 1e-14, torch.bfloat16: 1e-2}


@pytest.fixture(params=["compiled", "operations"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "operations":
        monkeypatch.setattr(unit_rows, "_compiled", lambda _: False)
    return str(request.param)


def rows_in_order(size: int, dim: int = 7) -> tuple[Tensor, Tensor, Blocks]:
    """Return embeddings, another matrix of their shape, and an order."""
    generator = torch.Generator().manual_seed(size)
    embeddings, other = torch.randn(2, size, dim, generator=generator, dtype=torch.float64)
    places = torch.rand(size, 2, generator=generator, dtype=torch.float64) * 1000.0
    return embeddings * 3.0, other, blocks(Places(places, None), 16)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", TOLERANCE)
def test_rows_are_normalised_and_their_gradient_chained(dtype: torch.dtype) -> None:
    embeddings, by_unit, order = rows_in_order(50)
    embeddings = embeddings.to(dtype)
    leaf = embeddings.double().requires_grad_()
    wanted = torch.nn.functional.normalize(leaf)
    (gradient,) = torch.autograd.grad(wanted, leaf, by_unit)
    unit = UnitRows.of(embeddings, order)
    assert unit.values.dtype == (torch.float32 if dtype == torch.bfloat16 else dtype)
    values = unit.values.double()
    sorted_by_unit = by_unit[order.order].to(unit.values.dtype)
    across = by_unit[order.order] - values * (values * by_unit[order.order]).sum(1, True)
    chained = unit.chain(sorted_by_unit.clone())
    tolerance = {"rtol": 0.0, "atol": TOLERANCE[dtype]}
    torch.testing.assert_close(values, wanted.detach()[order.order], **tolerance)
    assert chained.dtype == dtype
    torch.testing.assert_close(chained.double(), gradient, **tolerance)
    lengths = unit.lengths_across(sorted_by_unit)
    torch.testing.assert_close(lengths.double(), across.norm(dim=1), rtol=1e-5, atol=0.0)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("factor", [1e-30, 1e30])
def test_no_size_over_or_underflows_and_zero_rows_stay(factor: float) -> None:
    embeddings, by_unit, order = rows_in_order(20)
    embeddings[3] = 0.0
    unit = UnitRows.of((embeddings * factor).float(), order)
    wanted = torch.nn.functional.normalize(embeddings)[order.order].float()
    torch.testing.assert_close(unit.values, wanted, rtol=0.0, atol=1e-6)
    assert unit.chain(by_unit.float()).isfinite().all()


@pytest.mark.usefixtures("way")
def test_embeddings_that_are_no_contiguous_matrix() -> None:
    embeddings, _, order = rows_in_order(30)
    whole = UnitRows.of(embeddings, order).values
    strided = embeddings.T.contiguous().T
    assert not strided.is_contiguous()
    torch.testing.assert_close(UnitRows.of(strided, order).values, whole, rtol=1e-14, atol=0.0)


def test_no_bit_depends_on_the_number_of_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unit_rows, "_NUMBERS_PER_THREAD", 16)
    embeddings, by_unit, order = rows_in_order(101)
    alone, shared = (UnitRows.of(embeddings, order, threads) for threads in (1, 3))
    assert (alone.threads, shared.threads) == (1, 3)
    assert torch.equal(alone.values, shared.values)
    assert torch.equal(alone.chain(by_unit.clone()), shared.chain(by_unit.clone()))
    assert torch.equal(alone.lengths_across(by_unit), shared.lengths_across(by_unit))
