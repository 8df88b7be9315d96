"""The miners by geometry, against explicit loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcore import Batch, BuildContext, ConfigError, Pairs, Triplets
from mlcore_baselines.config import GeometricPairsOptions, GeometricTripletsOptions
from mlcore_baselines.plugin import mlcore_miners

NEAR_M, FAR_M, LIMIT_RAD = 10.0, 25.0, math.radians(30)
MINERS = {factory.name: factory for factory in mlcore_miners()}


def make_batch(size: int, seed: int = 0, *, headings: bool = True) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    # Raw UTM coordinates: float32 arithmetic would be half a metre off.
    positions = 60 * torch.rand(size, 2, generator=generator, dtype=torch.float64)
    positions += torch.tensor([458_123.0, 5_548_901.0], dtype=torch.float64)
    turns = (2 * torch.rand(size, generator=generator, dtype=torch.float64) - 1) * math.pi
    zeros = torch.zeros(size, dtype=torch.int64)
    return Batch(
        positions_m=positions,
        headings_rad=turns if headings else None,
        tuple_id=zeros,
        role=zeros,
        place_id=zeros,
        index=torch.arange(size),
    )


def context(**changes: object) -> BuildContext:
    known = {
        "near_radius_m": NEAR_M,
        "far_radius_m": FAR_M,
        "near_heading_limit_rad": LIMIT_RAD,
    }
    return BuildContext(**(known | changes))


def mine(name: str, batch: Batch, options: object | None = None, **changes: object) -> tuple:
    factory = MINERS[name]
    miner = factory.build(options or factory.config(), context(**changes))
    return miner(torch.zeros(len(batch), 2), batch)


def is_near(batch: Batch, i: int, j: int) -> bool:
    turn = 0.0
    if batch.headings_rad is not None:
        first, second = batch.headings_rad[i].item(), batch.headings_rad[j].item()
        turn = abs(math.atan2(math.sin(first - second), math.cos(first - second)))
    near = math.dist(batch.positions_m[i].tolist(), batch.positions_m[j].tolist()) <= NEAR_M
    return i != j and near and turn <= LIMIT_RAD


def is_far(batch: Batch, i: int, j: int) -> bool:
    return math.dist(batch.positions_m[i].tolist(), batch.positions_m[j].tolist()) > FAR_M


def rows(tuples: tuple[torch.Tensor, ...]) -> list[tuple[int, ...]]:
    return list(zip(*(column.tolist() for column in tuples), strict=True))


@settings(max_examples=15, deadline=None)
@given(size=st.integers(0, 14), seed=st.integers(0, 10_000), headings=st.booleans())
def test_pairs_and_triplets_equal_explicit_loops(size: int, seed: int, headings: bool) -> None:
    batch = make_batch(size, seed, headings=headings)
    every = range(size)
    near = [(i, j) for i in every for j in every if is_near(batch, i, j)]
    far = [(i, j) for i in every for j in every if is_far(batch, i, j)]
    pairs = mine("geometric-pairs", batch)
    triplets = mine("geometric-triplets", batch)
    assert isinstance(pairs, Pairs)
    assert isinstance(triplets, Triplets)
    assert rows(pairs[:2]) == near
    assert rows(pairs[2:]) == far
    assert rows(triplets) == [(a, p, n) for a, p in near for b, n in far if a == b]
    assert all(column.dtype == torch.int64 for column in (*pairs, *triplets))


def test_the_band_between_the_radii_is_left_out_and_both_edges_are_decided() -> None:
    batch = make_batch(4, headings=False)
    batch.positions_m[:, 0] = torch.tensor([0.0, 10.0, 25.0, 25.000001])
    batch.positions_m[:, 1] = 0.0
    pairs = mine("geometric-pairs", batch)
    assert (0, 1) in rows(pairs[:2])
    assert rows(pairs[2:]) == [(0, 3), (3, 0)]


def test_options_override_the_sampler() -> None:
    batch = make_batch(12)
    options = GeometricPairsOptions(near_radius_m=0, far_radius_m=0, heading_limit_deg=180)
    pairs = mine("geometric-pairs", batch, options)
    assert len(pairs.positives) == 0
    assert len(pairs.negatives) == 12 * 11
    everything = GeometricPairsOptions(
        near_radius_m=100, far_radius_m=100, heading_limit_deg=180
    )
    assert len(mine("geometric-pairs", batch, everything).positives) == 12 * 11


def test_a_sample_is_drawn_from_the_triplets_and_depends_on_seed_and_images() -> None:
    batch = make_batch(30, headings=False)
    every = rows(mine("geometric-triplets", batch))
    options = GeometricTripletsOptions(max_triplets_per_anchor=3)
    sample = rows(mine("geometric-triplets", batch, options, seed=1))
    assert set(sample) < set(every)
    assert len(set(sample)) == len(sample)
    for anchor in range(30):
        available = sum(a == anchor for a, _, _ in every)
        assert sum(a == anchor for a, _, _ in sample) == min(3, available)
    assert rows(mine("geometric-triplets", batch, options, seed=1)) == sample
    assert rows(mine("geometric-triplets", batch, options, seed=2)) != sample


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("geometric-pairs", GeometricPairsOptions(near_radius_m=30), "got 30 and 25"),
    ],
)
def test_options_that_cannot_work(name: str, options: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        MINERS[name].build(options, context())


def test_a_sample_has_at_least_one_triplet() -> None:
    with pytest.raises(ConfigError, match="max_triplets_per_anchor must be at least 1, got 0"):
        GeometricTripletsOptions(max_triplets_per_anchor=0)
