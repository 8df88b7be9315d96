"""Distances and headings as every loss and miner computes them."""

from __future__ import annotations

import math

import pytest
import torch

from mlcore.errors import ConfigError
from mlcore.factories import BuildContext
from mlcore.geometry import NearFar, heading_difference_rad, pairwise_distance_m
from mlcore.protocols import Batch

CONTEXT = BuildContext(near_radius_m=10, far_radius_m=20, near_heading_limit_rad=0.5)


def make_batch(along_m: list[float], headings_rad: list[float] | None) -> Batch:
    zeros = torch.zeros(len(along_m), dtype=torch.int64)
    along = torch.tensor(along_m, dtype=torch.float64)
    return Batch(
        positions_m=torch.stack([along + 458_000, torch.full_like(along, 5_549_000)], dim=1),
        headings_rad=(
            None if headings_rad is None else torch.tensor(headings_rad, dtype=torch.float64)
        ),
        tuple_id=zeros,
        role=zeros,
        place_id=zeros,
        index=zeros,
    )


@pytest.mark.parametrize("dimensions", [2, 3])
def test_distances_of_raw_utm_positions_are_exact_to_a_micrometre(dimensions: int) -> None:
    generator = torch.Generator().manual_seed(0)
    positions = 1e4 * torch.rand(40, dimensions, generator=generator, dtype=torch.float64)
    positions[:, :2] += torch.tensor([458_000.0, 5_549_000.0], dtype=torch.float64)
    distance = pairwise_distance_m(positions, positions[:7])
    assert distance.shape == (40, 7)
    for i in range(40):
        for j in range(7):
            expected = math.dist(positions[i].tolist(), positions[j].tolist())
            assert abs(distance[i, j].item() - expected) < 1e-6


def test_float32_positions_are_widened_before_they_are_subtracted() -> None:
    positions = torch.tensor([[16_777_216.0, 0.0], [1.0, 0.0]])
    assert pairwise_distance_m(positions)[0, 1].item() == 16_777_215.0


@pytest.mark.parametrize(
    ("first", "second", "difference"),
    [
        (0.1, -0.1, 0.2),
        (math.pi, -math.pi, 0.0),
        (3.0, -3.0, 2 * math.pi - 6),
        (-3.0, 3.0, 2 * math.pi - 6),
        (0.0, math.pi, math.pi),
    ],
)
def test_headings_wrap(first: float, second: float, difference: float) -> None:
    headings = torch.tensor([first, second], dtype=torch.float64)
    angle = heading_difference_rad(headings[0], headings[1])
    assert angle.item() == pytest.approx(difference, abs=1e-12)


def test_near_pairs_that_look_elsewhere_are_neither_near_nor_far() -> None:
    relation = NearFar.resolve(CONTEXT)
    along, headings = [0.0, 5.0, 9.0, 40.0], [3.0, -3.0, 0.0, 3.0]
    near, far = relation(make_batch(along, headings))
    assert near.nonzero().tolist() == [[0, 1], [1, 0]]
    assert far.nonzero().tolist() == [[0, 3], [1, 3], [2, 3], [3, 0], [3, 1], [3, 2]]
    near, _ = relation(make_batch(along, None))
    assert near.sum() == 6


def test_what_is_given_takes_the_place_of_the_samplers() -> None:
    assert NearFar.resolve(CONTEXT) == NearFar(
        near_radius_m=10, far_radius_m=20, heading_limit_rad=0.5
    )
    given = NearFar.resolve(CONTEXT, near_radius_m=1, far_radius_m=2, heading_limit_deg=90)
    assert given == NearFar(near_radius_m=1, far_radius_m=2, heading_limit_rad=math.pi / 2)


@pytest.mark.parametrize("radii", [(-1.0, 5.0), (6.0, 5.0), (math.nan, 5.0)])
def test_radii_that_contradict_each_other(radii: tuple[float, float]) -> None:
    with pytest.raises(ConfigError, match="near_radius_m must be at least 0"):
        NearFar(near_radius_m=radii[0], far_radius_m=radii[1])
