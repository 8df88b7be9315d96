"""The CUDA kernels' own text, compiled for the host and run there.

Compared with the dense float64 implementation; and, mutated, shown to fail.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore import ConfigError, DeviceCode
from mlcore_soft_contrastive import (
    FieldOfView,
    Linear,
    Sigmoid,
    SoftContrastiveConfig,
    Step,
    Tanh,
    dispatch,
    soft_contrastive_loss,
)
from mlcore_soft_contrastive.autograd import TileEvaluation, tiled_row_terms
from mlcore_soft_contrastive.inputs import checked_geometry
from mlcore_soft_contrastive.pairwise import distance
from mlcore_soft_contrastive.tiled.cupy_backend import KernelBackend, Launch
from mlcore_soft_contrastive.tiled.kernel_source import pairwise_source, tiles_source
from mlcore_soft_contrastive.tiled.layout import blocks, tile_pairs
from mlcore_soft_contrastive.tiled.products import Products
from mlcore_soft_contrastive.tiled.state import TileState
from mlcore_soft_contrastive.tiled.walk import Plan

Route = Callable[[int, float, int], tuple[Tensor, Tensor, Tensor]]
INFLUENCES: dict[str, Any] = {
    "sigmoid": Sigmoid(),
    "linear": Linear(),
    "tanh": Tanh(),
    "step": Step(),
    "field-of-view": FieldOfView(),
}


def evaluate(
    embeddings: Tensor,
    positions: Tensor,
    headings: Tensor,
    launch: Launch,
    influence: Any,
    config: SoftContrastiveConfig,
    *,
    tile: int,
) -> tuple[Tensor, Tensor]:
    leaf = embeddings.float().requires_grad_()
    geometry = checked_geometry(
        leaf, positions, headings, influence=influence, heading_limit_rad=1.5
    )
    order = blocks(geometry.rows, tile)
    plan = Plan(
        geometry=geometry,
        config=config,
        rows=order,
        columns=order,
        pairs=tile_pairs(order, order, symmetric=True),
        state=TileState(
            geometry,
            config,
            order,
            order,
            partial(KernelBackend, launch=launch),
            torch.float32,
        ),
        products=Products(config.tile_precision),
    )
    terms = tiled_row_terms(leaf, None, geometry, lambda *_: TileEvaluation(plan))
    loss = terms.attraction.mean() + terms.repulsion.mean()
    (grad,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), grad


def source_of(influence: Any) -> str:
    turns = True if isinstance(influence, FieldOfView) else None
    return tiles_source(influence.device_code(), turns=turns)


def errors(
    batch: tuple[Tensor, Tensor, Tensor], launch: Launch, influence: Any, **options: Any
) -> tuple[float, float]:
    """Return errors of loss and gradient, relative to dense float64."""
    embeddings, positions, headings = batch
    leaf = embeddings.double().requires_grad_()
    expected = soft_contrastive_loss(
        leaf,
        positions,
        influence=influence,
        headings_rad=headings,
        heading_limit_rad=1.5,
        implementation="dense",
        **{name: value for name, value in options.items() if name != "tile_precision"},
    )
    (expected_grad,) = torch.autograd.grad(expected, leaf)
    config = SoftContrastiveConfig(**options)
    loss, grad = evaluate(*batch, launch, influence, config, tile=45)
    return (
        abs(loss.item() - expected.item()) / abs(expected.item()),
        ((grad - expected_grad).norm() / expected_grad.norm()).item(),
    )


@pytest.mark.parametrize("name", INFLUENCES)
@pytest.mark.parametrize(
    ("mining", "aggregation"), list(itertools.product([True, False], ["log-sum-exp", "plain"]))
)
def test_tiles_equal_float64(
    name: str, mining: bool, aggregation: Any, kernels: Any, route: Route
) -> None:
    influence = INFLUENCES[name]
    launch = kernels(source_of(influence))
    for length_m in (60.0, 1500.0):
        options: dict[str, Any] = {"mining": mining, "aggregation": aggregation}
        of_loss, of_grad = errors(route(70, length_m, 3), launch, influence, **options)
        assert of_loss < 1e-5
        assert of_grad < 1e-6


@pytest.mark.parametrize("size", [1, 31, 32, 33, 45])
def test_odd_sizes(size: int, kernels: Any, route: Route) -> None:
    launch = kernels(tiles_source(Sigmoid().device_code()))
    embeddings, positions, headings = route(size, 100.0, 1)
    loss, grad = evaluate(
        embeddings,
        positions,
        headings,
        launch,
        Sigmoid(),
        SoftContrastiveConfig(),
        tile=512,
    )
    assert torch.isfinite(loss)
    if size > 1:
        assert max(errors((embeddings, positions, headings), launch, Sigmoid())) < 1e-6
    else:
        assert torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("mining", [True, False])
def test_bfloat16_factors(mining: bool, kernels: Any, route: Route) -> None:
    launch = kernels(tiles_source(Sigmoid().device_code()))
    of_loss, of_grad = errors(
        route(70, 200.0, 3), launch, Sigmoid(), mining=mining, tile_precision="bfloat16"
    )
    # Both bounds: what is asked for is good, and is done.
    assert 1e-7 < of_loss < 2e-2
    assert 1e-4 < of_grad < 5e-2


@pytest.mark.parametrize("mining", [True, False])
def test_rectangular_form(
    mining: bool, kernels: Any, route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings, positions, headings = route(80, 150.0, 5)
    launch = kernels(tiles_source(Linear().device_code()))

    def run(implementation: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        rows = embeddings[:37].to(dtype).requires_grad_()
        references = embeddings[20:].to(dtype).requires_grad_()
        loss = soft_contrastive_loss(
            rows,
            positions[:37],
            influence=Linear(),
            mining=mining,
            headings_rad=headings[:37],
            heading_limit_rad=2.0,
            references=references,
            reference_positions_m=positions[20:],
            reference_headings_rad=headings[20:],
            self_index=torch.arange(37).sub(20).clamp(min=-1),
            implementation=implementation,
        )
        return (loss.detach(), *torch.autograd.grad(loss, (rows, references)))

    expected = run("dense", torch.float64)
    made = ("kernels", 45, partial(KernelBackend, launch=launch))
    monkeypatch.setattr(dispatch, "choose", lambda *_: made)
    for actual, wanted in zip(run("tiled", torch.float32), expected, strict=True):
        assert (actual - wanted).norm() <= 1e-5 * wanted.norm()


def test_order_of_threads_does_not_matter(kernels: Any, route: Route) -> None:
    source = tiles_source(Sigmoid().device_code())
    batch = route(70, 200.0, 2)
    run = partial(
        evaluate, *batch, influence=Sigmoid(), config=SoftContrastiveConfig(), tile=45
    )
    ascending = run(launch=kernels(source))
    descending = run(launch=kernels(source, descending=True))
    assert torch.equal(ascending[0], descending[0])
    assert torch.equal(ascending[1], descending[1])


@pytest.mark.parametrize("name", INFLUENCES)
def test_support_is_decided_in_float64(name: str, kernels: Any) -> None:
    influence = INFLUENCES[name]
    launch = kernels(source_of(influence))
    origin = 5_735_211.8
    for offset in (-1e-4, 1e-4):
        xs = [origin, origin + influence.support_m + offset]
        positions = torch.tensor([[x, 0.0] for x in xs], dtype=torch.float64)
        config = SoftContrastiveConfig(mining=False)
        loss, _ = evaluate(
            torch.eye(2), positions, torch.zeros(2), launch, influence, config, tile=45
        )
        expected = math.log1p(math.e**2) / 2 if offset < 0 else 0.0
        assert loss.item() == pytest.approx(expected, abs=1e-6)


MUTATIONS = {
    "dropped first barrier": (
        "value;\n  __syncthreads();\n  if (threadIdx.y == 0)",
        "value;\n  if (threadIdx.y == 0)",
    ),
    "dropped last barrier": (
        "  __syncthreads();\n  return value;",
        "  return value;",
    ),
    "half a warp": ("int mask = BLOCK / 2", "int mask = BLOCK / 4"),
    "row off by one": (
        "if (x < num_columns && y < num_rows)",
        "if (x < num_columns && y < num_rows - 1)",
    ),
    "column off by one": (
        "threadIdx.y == 0 && x < num_columns",
        "threadIdx.y == 0 && x < num_columns - 1",
    ),
    "a row group left out": ("k < ROWS_PER_THREAD", "k < ROWS_PER_THREAD - 1"),
    "wrong sign": ("repelling - attracting", "repelling + attracting"),
    "wrong exponent": ("rule.beta * (n - rule.base)", "rule.beta * (n + rule.base)"),
    "low part of positions dropped": (" + (rows.low[a] - columns.low[b])", ""),
    "low part with the wrong sign": (
        "(rows.low[a] - columns.low[b])",
        "(columns.low[b] - rows.low[a])",
    ),
    "image attracts itself": ("near && !pair.same", "near"),
    "headings not wrapped": ("return turn < other ? turn : other", "return turn"),
    "no mirrored gradient": ("if (symmetric && n", "if (false && n"),
    "wrong threshold": ("p < columns.below[j] ? e", "p < rows.below[i] ? e"),
    "edge decided in float32": ("near = exact < rule.support_m", "near = d < rule.support_m"),
}


def _revealing_batch(route: Route) -> tuple[Tensor, Tensor, Tensor]:
    """Return two clusters 10 km apart, with pairs a micrometre from the support."""
    embeddings, positions, headings = route(70, 120.0, 3)
    positions[35:, 0] += 10_000.0
    headings *= 2.0
    for k, offset_m in enumerate((-3e-6, -1e-6, 1e-6, 3e-6)):
        first, second = 2 * k, 2 * k + 1
        positions[second] = positions[first]
        positions[second, 1] += Sigmoid().support_m + offset_m
        headings[second] = headings[first]
    return embeddings, positions, headings


@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_kernel_fails(mutation: str, kernels: Any, route: Route) -> None:
    old, new = MUTATIONS[mutation]
    source = tiles_source(Sigmoid().device_code())
    assert old in source
    mutant = kernels(source.replace(old, new))
    batch = _revealing_batch(route)
    assert max(errors(batch, kernels(source), Sigmoid())) < 2e-6
    found = max(errors(batch, mutant, Sigmoid()))
    if found < 2e-6:
        found = max(errors(route(70, 120.0, 3), mutant, Sigmoid()))
    if "barrier" in mutation:
        run = partial(
            evaluate, *batch, influence=Sigmoid(), config=SoftContrastiveConfig(), tile=45
        )
        mutant.descending = True
        descending = run(launch=mutant)[1]
        mutant.descending = False
        found = max(found, float(not torch.equal(descending, run(launch=mutant)[1])))
    assert not found < 2e-6


@pytest.mark.parametrize(("rows", "columns", "dim"), [(1, 1, 2), (70, 65, 2), (5, 130, 37)])
@pytest.mark.parametrize("squared", [True, False])
def test_pairwise_kernels(
    rows: int, columns: int, dim: int, squared: bool, kernels: Any
) -> None:
    launch = kernels(pairwise_source())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, dim, generator=generator) + 5e5
    y = torch.randn(columns, dim, generator=generator) + 5e5
    expected = (x.double()[:, None] - y.double()[None]).norm(dim=2)
    actual = distance._distances_on_gpu(x, y, launch, squared=squared)
    expected_value = expected.square() if squared else expected
    torch.testing.assert_close(actual.double(), expected_value, rtol=1e-6, atol=0)
    weight = torch.randn(rows, columns, generator=generator)
    out = distance._weighted_differences_on_gpu(x, y, weight, launch)
    differences = x.double()[:, None] - y.double()[None]
    wanted = (weight.double()[..., None] * differences).sum(dim=1)
    assert (out - wanted).norm() < 1e-6 * wanted.norm().clamp(min=1.0)


PAIRWISE_MUTATIONS = {
    "dropped barrier after loading": (
        "    __syncthreads();\n    for (int depth",
        "    for (int depth",
    ),
    "dropped barrier before loading": ("    __syncthreads();\n  }\n", "  }\n"),
    "dropped barrier of the gradient": (
        "  __syncthreads();\n  if (lane < GROUP",
        "  if (lane < GROUP",
    ),
    "edge off by one": ("if (i < rows && j < columns)", "if (i < rows - 1 && j < columns)"),
    "coordinate left out": ("coordinate < dim;", "coordinate < dim - 1;"),
}


@pytest.mark.parametrize("mutation", PAIRWISE_MUTATIONS)
def test_a_mutated_pairwise_kernel_fails(mutation: str, kernels: Any) -> None:
    old, new = PAIRWISE_MUTATIONS[mutation]
    source = pairwise_source()
    assert source.count(old) == 1
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9, 19, generator=generator)
    y = torch.randn(66, 19, generator=generator)
    weight = torch.randn(9, 66, generator=generator)

    def run(launch: Any) -> list[Tensor]:
        return [
            distance._distances_on_gpu(x, y, launch, squared=False),
            distance._weighted_differences_on_gpu(x, y, weight, launch),
        ]

    expected = run(kernels(source))
    mutant = kernels(source.replace(old, new))
    results = [run(mutant)]
    mutant.descending = True
    results.append(run(mutant))
    assert not all(
        torch.equal(a, b) for result in results for a, b in zip(result, expected, strict=True)
    )


def test_parameter_names_are_c_names() -> None:
    with pytest.raises(ConfigError, match="'cutoff m' is not a valid C ident"):
        tiles_source(DeviceCode("d", {"cutoff m": 1.0}))


ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_nvrtc_compiles(architecture: int) -> None:
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="no cuda-bindings here")
    # One architecture shows that every expression compiles; all, that every kernel does.
    names = INFLUENCES if architecture == 90 else ["sigmoid"]
    sources = [source_of(INFLUENCES[name]) for name in names]
    for source in [*sources, pairwise_source()]:
        _, program = nvrtc.nvrtcCreateProgram(source.encode(), b"kernels.cu", 0, [], [])
        flags = [b"--std=c++17", f"--gpu-architecture=sm_{architecture}".encode()]
        (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
        _, size = nvrtc.nvrtcGetProgramLogSize(program)
        # NVRTC writes into this object: one byte longer than it needs, so that it is never
        # the interpreter's own shared one-byte string.
        log = bytes(size + 1)
        nvrtc.nvrtcGetProgramLog(program, log)
        assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
        assert "warning" not in log.decode()
        nvrtc.nvrtcDestroyProgram(program)
