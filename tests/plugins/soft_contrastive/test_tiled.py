"""Tiles against the dense float64 implementation, with tiles small enough to have edges."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore_soft_contrastive import Linear, Sigmoid, Step, Tanh, dispatch, soft_contrastive_loss

Route = Callable[[int, float, int], tuple[Tensor, Tensor, Tensor]]
Evaluate = Callable[..., tuple[Tensor, Tensor, str]]
Agree = Callable[..., dict[str, tuple[float, float]]]
INFLUENCES = {"sigmoid": Sigmoid(), "linear": Linear(), "tanh": Tanh(), "step": Step()}
FORMS = list(itertools.product(INFLUENCES, [True, False], ["log-sum-exp", "plain"]))


@dataclass(frozen=True)
class Gaussian:
    """A stranger's influence function, without C code, of infinite support."""

    width_m: float = 10.0
    support_m: float = math.inf
    repulsion_start_m: float = 0.0

    def __call__(self, distance_m: Tensor) -> Tensor:
        return torch.exp(-((distance_m / self.width_m) ** 2))


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "CPU_TILE", 16)


@pytest.mark.parametrize(("name", "mining", "aggregation"), FORMS)
# Narrow tiles: near or far as a whole. A wide one holds runs of both.
@pytest.mark.parametrize(
    ("tile", "size", "length_m"), [(16, 67, 80.0), (16, 67, 1500.0), (256, 301, 3000.0)]
)
@pytest.mark.parametrize("limit", [None, 1.0])
def test_equals_dense(
    name: str,
    mining: bool,
    aggregation: Any,
    tile: int,
    size: int,
    length_m: float,
    limit: Any,
    route: Route,
    monkeypatch: pytest.MonkeyPatch,
    agree: Agree,
) -> None:
    monkeypatch.setattr(dispatch, "CPU_TILE", tile)
    embeddings, positions, headings = route(size, length_m, 3)
    errors = agree(
        embeddings,
        positions,
        influence=INFLUENCES[name],
        mining=mining,
        aggregation=aggregation,
        headings_rad=headings,
        heading_limit_rad=limit,
    )
    assert set(errors) == {"tiled-numba", "tiled-torch"}
    assert max(errors["tiled-torch"]) < 1e-11
    assert errors["tiled-numba"][0] < 1e-5
    assert errors["tiled-numba"][1] < 2e-6


@pytest.mark.parametrize(("mining", "aggregation"), [(True, "log-sum-exp"), (False, "plain")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rectangular_equals_dense(
    mining: bool, aggregation: Any, dtype: torch.dtype, route: Route
) -> None:
    embeddings, positions, headings = route(90, 300.0, 5)

    def run(implementation: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        rows = embeddings[:37].to(dtype).requires_grad_()
        references = embeddings[20:].to(dtype).requires_grad_()
        loss = soft_contrastive_loss(
            rows,
            positions[:37],
            headings_rad=headings[:37],
            heading_limit_rad=2.0,
            references=references,
            reference_positions_m=positions[20:],
            reference_headings_rad=headings[20:],
            self_index=torch.arange(37).sub(20).clamp(min=-1),
            mining=mining,
            aggregation=aggregation,
            implementation=implementation,
        )
        loss.backward()
        assert rows.grad is not None
        assert references.grad is not None
        return loss.detach(), rows.grad, references.grad

    expected = run("dense", torch.float64)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-11
    for actual, wanted in zip(run("tiled", dtype), expected, strict=True):
        assert (actual - wanted).norm() <= tolerance * wanted.norm()


def test_three_coordinates(route: Route, agree: Agree) -> None:
    embeddings, positions, _ = route(60, 100.0, 2)
    height = torch.rand(60, 1, dtype=torch.float64) * 50.0
    errors = agree(embeddings, torch.cat([positions, height], dim=1))
    assert errors["tiled-numba"][1] < 2e-6


def test_strangers_influence_function(route: Route, evaluate: Evaluate) -> None:
    embeddings, positions, _ = route(60, 200.0, 1)
    options: dict[str, Any] = {"influence": Gaussian()}
    _, expected, _ = evaluate(embeddings, positions, implementation="dense", **options)
    _, grad, name = evaluate(embeddings.float(), positions, **options)
    assert name == "tiled-torch"
    assert (grad - expected).norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize(("alpha", "beta", "base"), [(2.0, 5e4, 0.0), (500.0, 50.0, 1.0)])
def test_exponents_too_large_for_float32(
    alpha: float, beta: float, base: float, route: Route, evaluate: Evaluate, agree: Agree
) -> None:
    embeddings, positions, _ = route(60, 200.0, 1)
    options: dict[str, Any] = {"alpha": alpha, "beta": beta, "base": base, "mining": False}
    errors = agree(embeddings, positions, **options)
    assert list(errors) == ["tiled-torch"]
    _, grad, name = evaluate(embeddings.float(), positions, **options)
    assert name == "tiled-torch"
    assert torch.isfinite(grad).all()
    assert max(errors["tiled-torch"]) < 1e-10


@pytest.mark.parametrize("mining", [True, False])
def test_float32_over_10_km_of_raw_utm(
    mining: bool, monkeypatch: pytest.MonkeyPatch, route: Route, agree: Agree
) -> None:
    monkeypatch.setattr(dispatch, "CPU_TILE", 512)
    for seed in range(3):
        embeddings, positions, _ = route(1100, 10_000.0, seed)
        errors = agree(embeddings, positions, mining=mining)
        assert errors["tiled-numba"][1] < 1e-6


@pytest.mark.parametrize("influence", INFLUENCES.values(), ids=INFLUENCES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_support_is_decided_to_a_tenth_of_a_millimetre(
    influence: Any, dtype: torch.dtype, evaluate: Evaluate
) -> None:
    origin = 5_735_211.8
    for offset in (-1e-4, 1e-4):
        xs = [origin, origin + influence.support_m + offset]
        where = torch.tensor([[x, 0.0] for x in xs], dtype=torch.float64)
        options: dict[str, Any] = {"influence": influence, "mining": False}
        loss, _, _ = evaluate(torch.eye(2, dtype=dtype), where, **options)
        expected = math.log1p(math.e**2) / 2 if offset < 0 else 0.0
        assert loss.item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_edge_cases(dtype: torch.dtype, evaluate: Evaluate, agree: Agree) -> None:
    for embeddings in (torch.randn(1, 6), torch.zeros(40, 6)):
        where = torch.arange(2.0 * len(embeddings)).reshape(-1, 2)
        loss, grad, _ = evaluate(embeddings.to(dtype), where)
        assert torch.isfinite(loss)
        assert torch.equal(grad, torch.zeros_like(grad))
    coincident = torch.randn(40, 6, generator=torch.Generator().manual_seed(0), dtype=dtype)
    coincident[3] = 0.0
    errors = agree(coincident, torch.zeros(40, 2), influence=Linear())
    assert all(max(pair) < 2e-6 for pair in errors.values())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(
    dtype: torch.dtype, route: Route, evaluate: Evaluate
) -> None:
    embeddings, positions, _ = route(40, 300.0, 0)
    loss, grad, name = evaluate(embeddings.to(dtype), positions)
    expected, expected_grad, _ = evaluate(embeddings.to(dtype).float(), positions)
    assert name == "tiled-numba"
    assert torch.equal(loss, expected)
    assert torch.equal(grad, expected_grad.to(dtype))


def test_golden_values(evaluate: Evaluate) -> None:
    cases = json.loads((Path(__file__).parents[1] / "golden_losses.json").read_text())
    for case in (c for c in cases if c["kind"] == "soft-contrastive"):
        influence: Any = {
            "sigmoid": Sigmoid(
                steepness_per_m=case["steepness_per_m"], cutoff_m=case["cutoff_m"]
            ),
            "linear": Linear(),
            "tanh": Tanh(),
        }[case["influence"]]
        loss, grad, _ = evaluate(
            torch.tensor(case["embeddings"]),
            torch.tensor(case["positions_m"], dtype=torch.float64),
            influence=influence,
            mining=case["mining"],
            aggregation="plain" if case["reduction"] == "plain" else "log-sum-exp",
        )
        expected = torch.tensor(case["grad"])
        assert loss.item() == pytest.approx(case["loss"], abs=1e-5)
        assert (grad - expected).norm() <= 1e-4 * expected.norm()


@pytest.mark.parametrize(("name", "mining", "aggregation"), FORMS)
def test_gradcheck(name: str, mining: bool, aggregation: Any, route: Route) -> None:
    embeddings, positions, _ = route(19, 60.0, 5)
    torch.autograd.gradcheck(
        lambda e: soft_contrastive_loss(
            e,
            positions,
            influence=INFLUENCES[name],
            mining=mining,
            aggregation=aggregation,
            implementation="tiled",
        ),
        embeddings[:, :3].clone().requires_grad_(),
    )


@pytest.mark.parametrize("save", [True, False])
def test_saved_similarities_change_no_bit(save: bool, route: Route, evaluate: Evaluate) -> None:
    embeddings, positions, _ = route(67, 400.0, 3)
    first = evaluate(embeddings.float(), positions)
    again = evaluate(embeddings.float(), positions, save_similarity=save)
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])


def test_derivatives_it_does_not_have(route: Route) -> None:
    embeddings, positions, _ = route(20, 60.0, 5)
    leaf = embeddings.requires_grad_()
    loss = soft_contrastive_loss(leaf, positions, implementation="tiled")
    (first,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    (second,) = torch.autograd.grad(loss, leaf, retain_graph=True)
    assert torch.equal(first, second)
    (differentiable,) = torch.autograd.grad(loss, leaf, create_graph=True)
    assert torch.equal(differentiable, first)
    with pytest.raises(RuntimeError, match=r"no second derivatives.*implementation='dense'"):
        torch.autograd.grad(differentiable.sum(), leaf, retain_graph=True)
    (_,) = torch.autograd.grad(loss, leaf)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(loss, leaf)


def test_scaled_gradients_and_separate_terms(route: Route) -> None:
    embeddings, positions, _ = route(40, 60.0, 5)
    leaf = embeddings.requires_grad_()
    (grad,) = torch.autograd.grad(
        soft_contrastive_loss(leaf, positions, implementation="tiled") * -3.0, leaf
    )
    (expected,) = torch.autograd.grad(
        soft_contrastive_loss(leaf, positions, implementation="dense") * -3.0, leaf
    )
    torch.testing.assert_close(grad, expected)


def test_auto_takes_tiles_for_large_batches(route: Route, evaluate: Evaluate) -> None:
    for size, name in ((255, "dense"), (256, "tiled-numba")):
        embeddings, positions, _ = route(size, 500.0, 0)
        assert evaluate(embeddings.float(), positions, implementation="auto")[2] == name
