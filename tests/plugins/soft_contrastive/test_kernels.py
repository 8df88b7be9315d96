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
from mlcore_soft_contrastive.autograd import tiled_row_terms
from mlcore_soft_contrastive.cuda.sides import BLOCK
from mlcore_soft_contrastive.cuda.walk import CudaKernels, tile_width
from mlcore_soft_contrastive.inputs import checked_geometry
from mlcore_soft_contrastive.tiled.cupy_launch import Launch
from mlcore_soft_contrastive.tiled.kernel_source import tiles_source
from mlcore_soft_contrastive.tiled.layout import hilbert_index

Route = Callable[[int, float, int], tuple[Tensor, Tensor, Tensor]]
INFLUENCES: dict[str, Any] = {
    "sigmoid": Sigmoid(),
    "linear": Linear(),
    "tanh": Tanh(),
    "step": Step(),
    "field-of-view": FieldOfView(),
}


TILE = 128

Compiled = Callable[[str], Launch]


def evaluate(
    embeddings: Tensor,
    positions: Tensor,
    headings: Tensor,
    compiled: Compiled,
    influence: Any,
    *,
    tile: int = TILE,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Return loss and gradient of the kernels."""
    leaf = embeddings.float().requires_grad_()
    geometry = checked_geometry(
        leaf, positions, headings, influence=influence, heading_limit_rad=1.5
    )
    config = SoftContrastiveConfig(**options)
    terms = tiled_row_terms(
        leaf,
        None,
        geometry,
        lambda _, plain: CudaKernels(compiled).start(plain, config, tile),
    )
    loss = terms.attraction.mean() + terms.repulsion.mean()
    (grad,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), grad


def errors(
    batch: tuple[Tensor, Tensor, Tensor],
    compiled: Compiled,
    influence: Any,
    tile: int = TILE,
    **options: Any,
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
        **{
            name: value
            for name, value in options.items()
            if name not in ("tile_precision", "save_similarity")
        },
    )
    (expected_grad,) = torch.autograd.grad(expected, leaf)
    loss, grad = evaluate(*batch, compiled, influence, tile=tile, **options)
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
    for size, length_m in ((70, 60.0), (390, 5000.0)):  # near tiles; most are far
        of_loss, of_grad = errors(
            route(size, length_m, 3),
            kernels,
            INFLUENCES[name],
            mining=mining,
            aggregation=aggregation,
        )
        assert of_loss < 1e-5
        assert of_grad < 1e-6


@pytest.mark.parametrize(
    "options",
    [
        {"base": 0.4},
        {"alpha": 9.0, "beta": 3.0},  # far tiles change the gradient
        {"alpha": 9.0, "beta": 3.0, "mining": False},
        {"epsilon": 0.5},
        {"save_similarity": True},
    ],
    ids=str,
)
def test_options(options: dict[str, Any], kernels: Any, route: Route) -> None:
    assert max(errors(route(390, 5000.0, 4), kernels, Sigmoid(), **options)) < 2e-6


def test_filtered_gradient(kernels: Any, route: Route) -> None:
    options: dict[str, Any] = {"beta": 3.0, "base": 0.9, "mining": False}
    batch = route(390, 5000.0, 4)
    exact = evaluate(*batch, kernels, Sigmoid(), **options)[1]
    for wanted in (0.2, 0.99):
        filtered = evaluate(*batch, kernels, Sigmoid(), gradient_filter=wanted, **options)[1]
        # By a unit embedding the bound of the option; by an embedding, that over its norm.
        off = (filtered - exact).norm(dim=1) * batch[0].float().norm(dim=1) * len(exact)
        assert off.max() <= 2 * math.exp(3.0 * (wanted - 0.9))
    assert off.max() > 0.0


@pytest.mark.parametrize("dim", [2, 3])
@pytest.mark.parametrize("size", [1, 31, 127, 128, 129, 300])
def test_odd_sizes(size: int, dim: int, kernels: Any, route: Route) -> None:
    embeddings, positions, headings = route(size, 200.0, 1)
    if dim == 3:
        positions = torch.cat([positions, positions[:, :1] % 37.0], dim=1)
    batch = embeddings, positions, headings
    for tile in (TILE, 2 * TILE):
        loss, grad = evaluate(*batch, kernels, Sigmoid(), tile=tile)
        assert torch.isfinite(loss)
        if size > 1:
            assert max(errors(batch, kernels, Sigmoid(), tile)) < 1e-6
        else:
            # The kernels square and divide in float32: a row's gradient along itself, which is
            # all of it here, is removed to rounding.
            assert grad.norm() < 1e-20


@pytest.mark.parametrize("mining", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_clumps(mining: bool, seed: int, kernels: Any, clumps: Any) -> None:
    embeddings, positions = clumps(seed)
    batch = embeddings, positions, torch.zeros(len(positions))
    assert max(errors(batch, kernels, Sigmoid(), mining=mining)) < 2e-6


@pytest.mark.parametrize("mining", [True, False])
def test_bfloat16_factors(mining: bool, kernels: Any, route: Route) -> None:
    of_loss, of_grad = errors(
        route(200, 200.0, 3), kernels, Sigmoid(), mining=mining, tile_precision="bfloat16"
    )
    # Both bounds: what is asked for is good, and is done.
    assert 1e-7 < of_loss < 2e-2
    assert 1e-4 < of_grad < 5e-2


@pytest.mark.parametrize("mining", [True, False])
def test_rectangular_form(
    mining: bool, kernels: Any, route: Route, monkeypatch: pytest.MonkeyPatch
) -> None:
    embeddings, positions, headings = route(500, 1500.0, 5)

    def run(implementation: Any, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        rows = embeddings[:270].to(dtype).requires_grad_()
        references = embeddings[150:].to(dtype).requires_grad_()
        loss = soft_contrastive_loss(
            rows,
            positions[:270],
            influence=Linear(),
            mining=mining,
            headings_rad=headings[:270],
            heading_limit_rad=2.0,
            references=references,
            reference_positions_m=positions[150:],
            reference_headings_rad=headings[150:],
            self_index=torch.arange(270).sub(150).clamp(min=-1),
            implementation=implementation,
        )
        return (loss.detach(), *torch.autograd.grad(loss, (rows, references)))

    expected = run("dense", torch.float64)
    monkeypatch.setattr(dispatch, "choose", lambda *_: ("kernels", TILE, CudaKernels(kernels)))
    for actual, wanted in zip(run("tiled", torch.float32), expected, strict=True):
        assert (actual - wanted).norm() <= 1e-5 * wanted.norm()


@pytest.mark.parametrize("mining", [True, False])
def test_backward_again(mining: bool, kernels: Any, route: Route) -> None:
    """Backward overwrites the similarities; called again, it computes them anew.

    Kept or not, they are the same, and visited in the same order.
    """
    embeddings, positions, headings = route(300, 5000.0, 2)
    leaf = embeddings.float().requires_grad_()
    geometry = checked_geometry(
        leaf, positions, headings, influence=Sigmoid(), heading_limit_rad=None
    )
    found = []
    for save in (False, True):
        config = SoftContrastiveConfig(mining=mining, save_similarity=save)
        evaluation = CudaKernels(kernels).start(geometry, config, TILE)
        terms = tiled_row_terms(leaf, None, geometry, lambda *_, one=evaluation: one)
        loss = terms.attraction.mean() + terms.repulsion.mean()
        first, second = (
            torch.autograd.grad(loss, leaf, retain_graph=True)[0] for _ in range(2)
        )
        found += [first, second]
    assert all(torch.equal(gradient, found[0]) for gradient in found)


def test_order_of_threads_does_not_matter(kernels: Any, route: Route) -> None:
    batch = route(300, 1500.0, 2)
    ascending = evaluate(*batch, kernels, Sigmoid())
    descending = evaluate(*batch, partial(kernels, descending=True), Sigmoid())
    assert torch.equal(ascending[0], descending[0])
    assert torch.equal(ascending[1], descending[1])


def test_no_number_is_left_as_it_was_allocated(
    kernels: Any, route: Route, request: pytest.FixtureRequest
) -> None:
    batch = route(300, 1500.0, 2)
    expected = evaluate(*batch, kernels, Sigmoid())
    request.getfixturevalue("filled_with_nan")
    found = evaluate(*batch, kernels, Sigmoid())
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_curve_is_that_of_the_cpu(kernels: Any, route: Route) -> None:
    positions = route(300, 5000.0, 1)[1]
    keys = torch.empty(300, dtype=torch.int64)
    lower, upper = torch.aminmax(positions, dim=0)
    launch = kernels(tiles_source(Sigmoid().device_code()))
    launch("curve_keys", (3, 1), (TILE, 1), positions, None, lower, upper, keys, 300)
    assert torch.equal(keys, hilbert_index(positions))
    region = torch.arange(300) % 3
    launch("curve_keys", (3, 1), (TILE, 1), positions, region, lower, upper, keys, 300)
    assert torch.equal(keys, hilbert_index(positions) + (region << 32))


@pytest.mark.parametrize("name", INFLUENCES)
def test_support_is_decided_in_float64(name: str, kernels: Any) -> None:
    influence = INFLUENCES[name]
    origin = 5_735_211.8
    for offset in (-1e-4, 1e-4):
        xs = [origin, origin + influence.support_m + offset]
        positions = torch.tensor([[x, 0.0] for x in xs], dtype=torch.float64)
        loss, _ = evaluate(
            torch.eye(2), positions, torch.zeros(2), kernels, influence, mining=False
        )
        expected = math.log1p(math.e**2) / 2 if offset < 0 else 0.0
        assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_width_of_tiles() -> None:
    for size in (1, 256, 300, 8192, 8193, 65_536, 65_537, 1_000_000):
        width = tile_width(size, 4096)
        assert width % BLOCK == 0
        assert width < max(size, BLOCK + 1)
        assert width <= (4096 if size <= 65_536 else 8192)
        assert width >= min(size // 2, 4096)


MUTATIONS = {
    "dropped barrier after loading": (
        "  __syncthreads();\n  tile += (long long)BLOCK * blockIdx.y",
        "  tile += (long long)BLOCK * blockIdx.y",
    ),
    "dropped barrier before combining": (
        "  __syncthreads();\n  if (thread < BLOCK) {\n    const int num_rows",
        "  if (thread < BLOCK) {\n    const int num_rows",
    ),
    "dropped barrier of boxes": ("  __syncthreads();\n    const int other", "const int other"),
    "half a warp": ("mask = 16; mask > 0; mask /= 2) {\n      float2",
        "mask = 8; mask > 0; mask /= 2) {\n      float2"),
    "padding counts": ("RAGGED && (i >= work.rows.size ||", "RAGGED && (false &&"),
    "rows left out": ("for (int r = warp; r < BLOCK;", "for (int r = warp; r < BLOCK - WARPS;"),
    "wrong sign": ("repelling - attracting", "repelling + attracting"),
    "wrong exponent": ("rule.beta * (n - rule.base)", "rule.beta * (n + rule.base)"),
    "low part of positions dropped": (" + (a.place.z - c.place.z)", ""),
    "low part with the wrong sign": (
        "(a.place.z - c.place.z)",
        "(c.place.z - a.place.z)",
    ),
    "image attracts itself": ("pair.attracts = near && !same", "pair.attracts = near"),
    "headings not wrapped": ("h = fminf(h, (6.2831855f", "fminf(h, (6.2831855f"),
    "no mirrored gradient": ("factor += !MINED || n > column.y ? column.w : 0.0f;", ""),
    "wrong threshold": ("p < column_keep.x)", "p < row_keep.x)"),
    "edge decided in float32": ("if (!unsure) return;", "return;"),
    "near blocks taken for far": ("return fmaf(x, x, fmaf(y, y, z * z)) > work",
        "return fmaf(x, x, fmaf(y, y, z * z)) >= 0.0f * work"),
    "far tiles left out of the largest n": ("side.keep[i].x = fmaxf(side.keep[i].x, (float)",
        "fmaxf(side.keep[i].x, (float)"),
    "mirrored rows left out": ("0, own_block, step", "0, 0, step"),
    "partial results left out": ("k < last; ++k", "k < last - 1; ++k"),
    "epsilon of repelling pairs": ("found.x - epsilon", "found.x"),
    "gradient along a row": ("__fdiv_rn(fmaf(-radial, u[k], g[k]), by.y)",
        "__fdiv_rn(fmaf(0.0f, u[k], g[k]), by.y)"),
}  # fmt: skip
ROUNDING = 2e-6


def _revealing_batch(route: Route) -> tuple[Tensor, Tensor, Tensor]:
    """Return clusters 10 km apart, of three blocks, with pairs a micrometre from the support.

    Headings are at random, and there are turns beyond 180 degrees.
    """
    embeddings, positions, headings = route(300, 300.0, 3)
    positions[140:, 0] += 10_000.0
    for k, offset_m in enumerate((-3e-6, -1e-6, 1e-6, 3e-6)):
        first, second = 2 * k, 2 * k + 1
        positions[second] = positions[first]
        positions[second, 1] += Sigmoid().support_m + offset_m
        headings[second] = headings[first]
    return embeddings, positions, headings


def _revealing(route: Route) -> tuple[tuple[tuple[Tensor, Tensor, Tensor], int], ...]:
    """Return the batches that reveal mutations, each with its width of tiles."""
    return (_revealing_batch(route), TILE), (route(300, 120.0, 3), 2 * TILE)


@pytest.mark.slow
def test_the_kernels_as_they_are_pass_what_mutated_ones_fail(
    kernels: Any, route: Route
) -> None:
    for batch, tile in _revealing(route):
        assert max(errors(batch, kernels, Sigmoid(), tile)) < ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_a_mutated_kernel_fails(mutation: str, kernels: Any, route: Route) -> None:
    old, new = MUTATIONS[mutation]

    def mutant(source: str, **order: Any) -> Any:
        assert old in source
        return kernels(source.replace(old, new), **order)

    found = 0.0
    for batch, tile in _revealing(route):
        if found < ROUNDING:
            found = max(errors(batch, mutant, Sigmoid(), tile))
    if "barrier" in mutation:
        batch = _revealing_batch(route)
        runs = [
            evaluate(*batch, partial(mutant, descending=order), Sigmoid())[1]
            for order in (True, False)
        ]
        found = max(found, float(not torch.equal(*runs)))
    assert not found < ROUNDING


def test_parameter_names_are_c_names() -> None:
    with pytest.raises(ConfigError, match="'cutoff m' is not a valid C ident"):
        tiles_source(DeviceCode("d", {"cutoff m": 1.0}))
