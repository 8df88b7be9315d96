"""The precision of matrix products, and that torch's own switches are left as they were."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from mlcore import ConfigError
from mlcore_soft_contrastive import SoftContrastiveConfig
from mlcore_soft_contrastive.dense import exact_product
from mlcore_soft_contrastive.tiled.products import Products

SETTINGS = torch.backends.cuda.matmul


@pytest.fixture(params=["none", "ieee", "tf32"])
def before(request: pytest.FixtureRequest) -> Iterator[str]:
    kept, SETTINGS.fp32_precision = SETTINGS.fp32_precision, request.param
    yield request.param
    SETTINGS.fp32_precision = kept


@pytest.mark.parametrize(("precision", "inside"), [("float32", "ieee"), ("tf32", "tf32")])
def test_tf32_only_on_request(
    before: str, precision: Any, inside: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    product = torch.mm

    def spy(*args: Any, **kwargs: Any) -> torch.Tensor:
        seen.append(SETTINGS.fp32_precision)
        return product(*args, **kwargs)

    monkeypatch.setattr(torch, "mm", spy)
    x, out = torch.randn(3, 4), torch.empty(3, 3)
    products = Products(precision)
    with products.rounding():
        assert torch.equal(products.similarities(x, x, out), product(x, x.T))
    assert seen == [inside]
    assert SETTINGS.fp32_precision == before


def test_dense_products_are_full_float32(before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward, also where torch is set to TF32."""
    seen = []
    product = torch.Tensor.__matmul__

    def spy(self: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        seen.append(SETTINGS.fp32_precision)
        return product(self, other)

    monkeypatch.setattr(torch.Tensor, "__matmul__", spy)
    x = torch.randn(3, 4, requires_grad=True)
    exact_product(x, x.T).sum().backward()
    assert seen == ["ieee"] * 3
    assert SETTINGS.fp32_precision == before


def test_bfloat16_sums_are_float32() -> None:
    products = Products("bfloat16")
    x, tile = torch.randn(5, 512), torch.randn(3, 5)
    factor, total = products.factor(x), torch.ones(3, 512)
    assert factor.dtype == torch.bfloat16
    similarities = products.similarities(factor, factor, torch.empty(5, 5))
    exact = factor.double() @ factor.double().T
    assert (similarities - exact).abs().max() < 1e-6 * exact.abs().max()
    products.add(total, tile, factor)
    exact = 1.0 + tile.bfloat16().double() @ factor.double()
    assert (total - exact).abs().max() < 1e-6 * exact.abs().max()


def test_float64_is_left_alone() -> None:
    x = torch.randn(3, 4, dtype=torch.float64)
    products = Products()
    assert products.factor(x) is x
    out = products.similarities(x, x, torch.empty(3, 3, dtype=torch.float64))
    assert torch.equal(out, x @ x.T)


def test_unknown_precision() -> None:
    with pytest.raises(ConfigError, match="tile_precision must be one of float32, tf32"):
        SoftContrastiveConfig(tile_precision="float16")  # type: ignore[arg-type]
