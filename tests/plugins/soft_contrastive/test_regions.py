"""Images of different regions attract by exactly 0 and repel by exactly 1, everywhere alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore_soft_contrastive import (
    Sigmoid,
    SoftContrastiveConfig,
    dispatch,
    soft_contrastive_loss,
)
from mlcore_soft_contrastive.cuda.walk import CudaKernels
from mlcore_soft_contrastive.dispatch import MOST_REGIONS, choose, plan_tiles
from mlcore_soft_contrastive.geometry import Geometry, pair_weights
from mlcore_soft_contrastive.inputs import checked_geometry
from mlcore_soft_contrastive.tiled.layout import blocks, tile_pairs

Route = Callable[[int, float, int], tuple[Tensor, Tensor, Tensor]]
APART_M = 2.0**23


class Everywhere:
    """Attracts at any distance: only the region can stop it."""

    support_m = float("inf")
    repulsion_start_m = 0.0

    def __call__(self, distance_m: Tensor) -> Tensor:
        return 1.0 / (1.0 + distance_m)


def two_cities(route: Route, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return embeddings, positions with equal numbers in both cities, and regions, mixed."""
    embeddings, positions, _ = route(size, 300.0, 5)
    embeddings = torch.cat([embeddings, embeddings.roll(1, 0) + 0.05])
    mixed = torch.randperm(2 * size, generator=torch.Generator().manual_seed(1))
    region = torch.arange(2 * size) // size * 3 + 4  # any codes do
    return embeddings[mixed], torch.cat([positions, positions])[mixed].round(), region[mixed]


def value_and_gradient(embeddings: Tensor, *args: Any, **options: Any) -> tuple[Tensor, Tensor]:
    leaf = embeddings.clone().requires_grad_()
    loss = soft_contrastive_loss(leaf, *args, **options)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient


def geometry_of(embeddings: Tensor, positions: Tensor, region: Tensor) -> Geometry:
    return checked_geometry(
        embeddings,
        positions,
        None,
        region=region,
        influence=Sigmoid(),
        heading_limit_rad=None,
    )


@pytest.mark.parametrize("influence", [Sigmoid(), Everywhere()])
def test_weights_across_regions_are_exactly_0_and_1(route: Route, influence: Any) -> None:
    embeddings, positions, region = two_cities(route, 20)
    geometry = geometry_of(embeddings, positions, region)
    weights = pair_weights(replace(geometry, influence=influence))
    across = region[:, None] != region
    assert (weights.attraction[across] == 0.0).all()
    assert (weights.repulsion[across] == 1.0).all()
    assert not weights.attracts[across].any()
    assert weights.repels[across].all()


@pytest.mark.parametrize("mining", [True, False])
def test_regions_are_as_cities_out_of_reach(route: Route, mining: bool) -> None:
    embeddings, positions, region = two_cities(route, 40)
    apart = positions + APART_M * (region == 7)[:, None]
    options: Any = {"implementation": "dense", "mining": mining}
    found = value_and_gradient(embeddings, positions, region=region, **options)
    expected = value_and_gradient(embeddings, apart, **options)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])


def test_cities_that_do_not_look_alike_add_up_exactly() -> None:
    size = 32
    one_hot = torch.eye(4, dtype=torch.float64)[torch.arange(size) % 2]
    embeddings = torch.cat([one_hot, one_hot.roll(2, 1)])  # similarity 0 across
    positions = torch.arange(size, dtype=torch.float64)[:, None].repeat(2, 2)
    region = torch.arange(2 * size) // size
    loss = partial(soft_contrastive_loss, aggregation="plain", mining=False)
    together = loss(embeddings, positions, region=region)
    alone = [loss(embeddings[part], positions[part]) for part in (region == 0, region == 1)]
    assert together == sum(alone) / 2
    without = loss(embeddings, positions)
    assert without == together  # nothing is similar across: the next test is the other case
    alike = torch.cat([one_hot, one_hot])
    assert loss(alike, positions, region=region) != loss(alike, positions)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mining", [True, False])
def test_tiles_equal_dense(route: Route, dtype: torch.dtype, mining: bool) -> None:
    """numba's tiles in float32, torch's in float64."""
    embeddings, positions, region = two_cities(route, 700)
    dense = value_and_gradient(
        embeddings, positions, region=region, mining=mining, implementation="dense"
    )
    tiled = value_and_gradient(
        embeddings.to(dtype), positions, region=region, mining=mining, implementation="tiled"
    )
    # A float32 similarity is off by 6e-8, its exponent by beta = 50 times that.
    tolerance = 1e-12 if dtype == torch.float64 else 3e-6
    assert abs(tiled[0] - dense[0]) <= tolerance * dense[0].abs()
    assert (tiled[1] - dense[1]).norm() <= tolerance * dense[1].norm()
    without = value_and_gradient(embeddings, positions, mining=mining, implementation="dense")
    assert abs(without[0] - dense[0]) > 1e-3 * dense[0].abs()


@pytest.mark.parametrize("regions", [2, 5, 100])
def test_the_kernels_text_equals_dense(
    regions: int, route: Route, kernels: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of few regions, most blocks of 128 images have one; of many, all have several."""
    embeddings, positions, region = two_cities(route, 200)
    if regions != 2:
        region = torch.arange(len(region)) % regions - 50
    dense = value_and_gradient(embeddings, positions, region=region, implementation="dense")
    made = ("kernels", 128, CudaKernels(kernels))
    monkeypatch.setattr(dispatch, "choose", lambda *_: made)
    found = value_and_gradient(
        embeddings.float(), positions, region=region, implementation="tiled"
    )
    assert abs(found[0] - dense[0]) <= 1e-5 * dense[0].abs()
    # A float32 similarity is off by 6e-8, its exponent by beta = 50 times that.
    assert (found[1] - dense[1]).norm() <= 3e-6 * dense[1].norm()


def test_no_tile_has_two_regions_and_tiles_across_are_far(route: Route) -> None:
    embeddings, positions, region = two_cities(route, 100)
    geometry = geometry_of(embeddings, positions, region)
    order = blocks(geometry.rows, 32)
    sorted_region = region[order.order]
    assert sorted(order.order.tolist()) == list(range(200))
    for pair in tile_pairs(order, order, symmetric=True):
        rows, columns = sorted_region[pair.rows].unique(), sorted_region[pair.columns].unique()
        assert len(rows) == len(columns) == 1
        assert (pair.gap_m == float("inf")) == bool(rows != columns)


def test_one_region_is_laid_out_as_none(route: Route) -> None:
    embeddings, positions, _ = route(600, 3000.0, 2)
    one = torch.full((600,), 9)
    plain = value_and_gradient(embeddings.float(), positions, implementation="tiled")
    named = value_and_gradient(
        embeddings.float(), positions, region=one, implementation="tiled"
    )
    assert torch.equal(plain[0], named[0])
    assert torch.equal(plain[1], named[1])


def test_very_many_regions_are_compared_pair_by_pair(route: Route) -> None:
    embeddings, positions, _ = route(600, 50.0, 2)
    region = torch.arange(600) % (MOST_REGIONS + 1)
    geometry = geometry_of(embeddings.float(), positions, region)
    config = SoftContrastiveConfig(implementation="tiled")
    chosen = choose(geometry, config, embeddings.float())
    name, _, make = chosen
    assert not isinstance(make, CudaKernels)
    plan = plan_tiles(geometry, config, torch.float32, (*chosen[:2], make), square=True)
    assert name == "tiled-torch"
    assert len(plan.rows.spans) == 2
    few = geometry_of(embeddings.float(), positions, region % MOST_REGIONS)
    assert choose(few, config, embeddings.float())[0] == "tiled-numba"
    dense = value_and_gradient(embeddings, positions, region=region, implementation="dense")
    tiled = value_and_gradient(embeddings, positions, region=region, implementation="tiled")
    assert abs(tiled[0] - dense[0]) <= 1e-12 * dense[0].abs()
    assert (tiled[1] - dense[1]).norm() <= 1e-11 * dense[1].norm()


def test_references_have_regions_of_their_own(route: Route) -> None:
    embeddings, positions, region = two_cities(route, 300)
    queries, references = slice(0, 200), slice(200, None)
    found = [
        soft_contrastive_loss(
            embeddings[queries],
            positions[queries],
            region=region[queries],
            references=embeddings[references],
            reference_positions_m=positions[references],
            reference_region=region[references],
            implementation=implementation,
        )
        for implementation in ("dense", "tiled")
    ]
    apart = positions + APART_M * (region == 7)[:, None]
    expected = soft_contrastive_loss(
        embeddings[queries],
        apart[queries],
        references=embeddings[references],
        reference_positions_m=apart[references],
    )
    assert found[0] == expected
    assert abs(found[1] - expected) <= 1e-12 * expected.abs()


@pytest.mark.parametrize(
    ("region", "message"),
    [
        (torch.zeros(3, dtype=torch.int64), r"region must be \(4,\), got \(3,\)"),
        (torch.zeros(4), "region must be integer codes, got torch.float32"),
    ],
)
def test_a_wrong_region_is_refused(region: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        soft_contrastive_loss(torch.ones(4, 2), torch.zeros(4, 2), region=region)


def test_regions_of_one_side_alone_are_refused() -> None:
    with pytest.raises(ValueError, match="must be given together, or neither"):
        soft_contrastive_loss(
            torch.ones(4, 2),
            torch.zeros(4, 2),
            region=torch.zeros(4, dtype=torch.int64),
            references=torch.ones(2, 2),
            reference_positions_m=torch.zeros(2, 2),
        )
