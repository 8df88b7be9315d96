"""Pairs exactly at a limit are decided alike by every implementation."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlcore_soft_contrastive import (
    Linear,
    Sigmoid,
    Step,
    Tanh,
    dispatch,
    soft_contrastive_loss,
)
from mlcore_soft_contrastive.cuda.walk import CudaKernels
from mlcore_soft_contrastive.tiled.numba_backend import NumbaBackend
from mlcore_soft_contrastive.tiled.torch_backend import TorchBackend

# (3, 4, 5) and (1, 2, 2, 3) times 5 and 3: many distances of exactly 15 m, off the axes too.
STEPS_M = [(15.0, 0.0, 0.0), (9.0, 12.0, 0.0), (5.0, 10.0, 10.0), (-10.0, 10.0, 5.0)]
INFLUENCES: list[Any] = [
    Step(),
    Linear(),
    Step(support_limit_m=20.0),
    Step(cutoff_m=12.3, support_limit_m=15.0),
    Sigmoid(support_limit_m=15.0),
    Tanh(support_limit_m=15.0),
]
ORIGINS_M = [(0.0, 0.0, 0.0), (619_873.4, 5_735_211.8, 12.7), (1 / 3, -1 / 7, 1e5 / 3)]


def lattice(seed: int, origin: tuple[float, float, float], dim: int) -> Tensor:
    """Return positions of a walk whose steps are exactly at the cutoff, but for rounding."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.tensor(STEPS_M[: 2 if dim == 2 else 4], dtype=torch.float64)[:, :dim]
    chosen = steps[torch.randint(0, len(steps), (36,), generator=generator)]
    signs = torch.randint(0, 2, (36, 1), generator=generator) * 2 - 1
    walk = torch.cat([chosen[:1] * 0, (chosen * signs).cumsum(dim=0)])
    return walk + torch.tensor(origin[:dim], dtype=torch.float64)


def difference(positions: Tensor, tiled: Any, **options: Any) -> float:
    """Return how much the plain sums of tiles differ from those of float64 matrices."""
    looks = torch.randn(len(positions), 4, generator=torch.Generator().manual_seed(1))
    options = {"mining": False, "aggregation": "plain", **options}
    dense = soft_contrastive_loss(looks.double(), positions, implementation="dense", **options)
    tiles = tiled(looks, positions, implementation="tiled", **options)
    return abs(float(dense) - float(tiles))


@given(
    seed=st.integers(0, 10_000),
    influence=st.sampled_from(INFLUENCES),
    origin=st.sampled_from(ORIGINS_M),
    dim=st.sampled_from([2, 3]),
    backend=st.sampled_from([NumbaBackend, TorchBackend]),
)
@settings(deadline=None)
def test_at_the_cutoff(seed: int, influence: Any, origin: Any, dim: int, backend: Any) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dispatch, "choose", lambda *_: ("here", 16, backend))
        positions = lattice(seed, origin, dim)
        assert difference(positions, soft_contrastive_loss, influence=influence) < 1e-4


@pytest.mark.parametrize("influence", INFLUENCES, ids=repr)
def test_at_the_cutoff_in_kernels(
    influence: Any, kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = ("kernels", 128, CudaKernels(kernels))
    monkeypatch.setattr(dispatch, "choose", lambda *_: made)
    for seed, (origin, dim) in enumerate(itertools.product(ORIGINS_M, (2, 3))):
        positions = lattice(seed, origin, dim)
        assert difference(positions, soft_contrastive_loss, influence=influence) < 1e-4


def test_at_a_support_of_kilometres() -> None:
    """A float32 distance of 90 km is off by millimetres: the edge band grows with it."""
    influence = Sigmoid(steepness_per_m=1e-3, cutoff_m=20.0)
    arc = torch.arange(40, dtype=torch.float64) * influence.support_m / 2
    for offset_m in (-1e-3, -1e-6, 0.0, 1e-6, 1e-3):
        positions = torch.stack([arc * 0.6 + 5e5, arc * 0.8 + 5e6], dim=1)
        positions[::2] += offset_m
        assert difference(positions, soft_contrastive_loss, influence=influence) < 1e-4


@pytest.mark.parametrize("backend", [NumbaBackend, TorchBackend])
def test_at_the_heading_limit(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headings 30 degrees apart, limit 60: exactly 60 is not more, whichever way round."""
    monkeypatch.setattr(dispatch, "choose", lambda *_: ("here", 16, backend))
    headings = torch.arange(36, dtype=torch.float64) * 30.0 - 390.0
    positions = torch.zeros(36, 2, dtype=torch.float64)
    options: dict[str, Any] = {
        "influence": Step(),
        "headings_rad": headings.deg2rad(),
        "heading_limit_rad": torch.tensor(60.0).double().deg2rad().item(),
    }
    assert difference(positions, soft_contrastive_loss, **options) < 1e-4
    ones = torch.ones(36, 2)
    for implementation in ("dense", "tiled"):
        loss = soft_contrastive_loss(
            ones,
            positions,
            mining=False,
            aggregation="plain",
            implementation=implementation,  # type: ignore[arg-type]
            **options,
        )
        # 5 of 12 directions, 3 images each, but for the image itself.
        assert loss.item() == pytest.approx(-14.0)


Evaluate = Callable[..., tuple[Tensor, Tensor, str]]


@pytest.mark.parametrize(
    ("size", "gap_m", "options"),
    [
        (300, 500.0, {"alpha": 100.0}),
        (300, 8.0, {"alpha": 100.0}),
        (300, 8.0, {"base": -1.0}),
        (300, 8.0, {"base": -2.0}),
        (300, 500.0, {"alpha": 50.0, "base": 2.0}),
        (300, 20.0, {"alpha": 300.0, "beta": 500.0}),
        (40, 60.0, {"alpha": 1e3, "beta": 2e3, "base": 0.5}),
        (40, 1.0, {"alpha": 5000.0, "base": 0.01, "influence": Sigmoid(cutoff_m=0.001)}),
    ],
)
@pytest.mark.parametrize("mining", [True, False])
def test_exponents_beyond_float32_have_a_finite_gradient(
    size: int, gap_m: float, options: dict[str, Any], mining: bool, evaluate: Evaluate
) -> None:
    embeddings = torch.randn(size, 16, generator=torch.Generator().manual_seed(0))
    positions = torch.zeros(size, 2, dtype=torch.float64)
    positions[:, 0] = torch.arange(size) * gap_m
    loss, grad, _ = evaluate(embeddings, positions, mining=mining, **options)
    _, wanted, _ = evaluate(
        embeddings.double(), positions, mining=mining, implementation="dense", **options
    )
    assert torch.isfinite(loss)
    assert torch.isfinite(grad).all()
    assert (grad - wanted).norm() <= 1e-3 * wanted.norm() + 1e-12


# torch hides this warning of its own tracing, unless all warnings are errors.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize("size", [16, 300])
def test_torch_compile_of_what_calls_the_loss(size: int) -> None:
    def call(embeddings: Tensor, positions: Tensor) -> Tensor:
        return soft_contrastive_loss(2.0 * embeddings, positions) + 1.0

    compiled = torch.compile(call, backend="eager")
    positions = torch.rand(size, 2, dtype=torch.float64) * 300
    gradients, losses = [], []
    for function in (call, compiled):
        embeddings = torch.randn(size, 8, generator=torch.Generator().manual_seed(0))
        loss = function(embeddings.requires_grad_(), positions)
        losses.append(loss)
        gradients.append(torch.autograd.grad(loss, embeddings)[0])
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*gradients)
