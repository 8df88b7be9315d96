"""Which tiles mining may pass over, in clumps that are a tile each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from mlcore_soft_contrastive import dispatch
from mlcore_soft_contrastive.tiled.products import Products
from mlcore_soft_contrastive.tiled.torch_backend import TorchBackend

TILE = 8
"""Images of a clump."""
Clumps = Callable[[int], tuple[Tensor, Tensor]]


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "choose", lambda *_: ("torch", TILE, TorchBackend))


@pytest.mark.parametrize("aggregation", ["log-sum-exp", "plain"])
@pytest.mark.parametrize("epsilon", [0.02, 0.1, 0.4])
def test_no_tile_that_decides_what_is_kept_is_passed_over(
    epsilon: float,
    aggregation: str,
    clumps: Clumps,
    evaluate: Callable[..., tuple[Tensor, Tensor, str]],
) -> None:
    for seed in range(40):
        looks, positions = clumps(seed)
        options: dict[str, Any] = {"epsilon": epsilon, "aggregation": aggregation}
        loss, grad, _ = evaluate(looks, positions, **options)
        wanted, by, _ = evaluate(looks, positions, implementation="dense", **options)
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-9, abs=1e-9), seed
        assert (grad - by).norm() <= 1e-9 * by.norm(), seed


def test_kept_tiles_are_computed_once(
    clumps: Clumps,
    evaluate: Callable[..., tuple[Tensor, Tensor, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    computed: list[int] = []
    product = Products.similarities

    def counted(self: Products, x: Tensor, y: Tensor, out: Tensor) -> Tensor:
        computed.append(out.numel())
        return product(self, x, y, out)

    monkeypatch.setattr(Products, "similarities", counted)
    evaluate(*clumps(0))
    # The upper triangle of 5 x 5 tiles, each once for all passes of mining, sums and gradient.
    assert len(computed) == 15
