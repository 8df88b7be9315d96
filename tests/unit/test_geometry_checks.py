"""Positions that cannot be right are found, and those of published sets are not."""

from __future__ import annotations

import numpy as np
import pytest

from mlcore.data.geometry_checks import crowded, find_clusters, grid_step, too_fast

ORIGIN_M = np.array([458_000.0, 5_550_000.0])


def moved(positions_m, east_m, north_m=0.0):
    return positions_m + np.array([east_m, north_m])


def campus(size=300, seed=0):
    return ORIGIN_M + np.random.default_rng(seed).uniform(0, 600, (size, 2))


@pytest.mark.parametrize("num", [1, 3, 9])
@pytest.mark.parametrize("away_m", [1_000.0, 2_500.0, 4_000.0, 5_000_000.0])
def test_a_few_rows_off_a_campus_are_far(num, away_m):
    wrong = campus(num, seed=1) + [[away_m * (1 + k), 0.0] for k in range(num)]
    found = find_clusters(np.concatenate([campus(), wrong]))
    assert np.flatnonzero(found.far).tolist() == list(range(300, 300 + num))
    assert not found.separate.any()


def test_scattered_rows_are_far_though_they_are_many():
    scattered = ORIGIN_M + np.random.default_rng(2).uniform(-4e6, 4e6, (60, 2))
    assert find_clusters(np.concatenate([campus(), scattered])).far[300:].all()


def test_half_of_the_rows_in_another_hemisphere_are_a_separate_group():
    both = np.concatenate([campus(), moved(campus(300), 0.0, -7_500_000.0)])
    found = find_clusters(both)
    assert found.separate.sum() == 300
    assert not found.far.any()
    assert found.distance_m == pytest.approx(7_500_000, rel=1e-3)


@pytest.mark.parametrize(
    "positions_m",
    [
        campus(),
        campus(8),
        np.stack([np.arange(3000.0), np.zeros(3000)], 1),  # Nordland's numbers of frames
        ORIGIN_M + np.stack([4.0 * np.arange(400), np.zeros(400)], 1),
        ORIGIN_M + np.stack([1_000.0 * np.arange(60), np.zeros(60)], 1),  # a country road
        np.repeat(campus(40), 24, axis=0),  # panoramas of Pittsburgh
        np.concatenate([campus(200), moved(campus(200, seed=3), 3_000.0)]),  # two sequences
        ORIGIN_M + np.random.default_rng(4).uniform(0, 10_000, (2000, 2)),  # GSV-Cities
    ],
)
def test_what_is_published_lies_together(positions_m):
    found = find_clusters(positions_m)
    assert not found.far.any()
    assert not found.separate.any()


def drive(num=80, step_m=2.0):
    return ORIGIN_M + np.stack([step_m * np.arange(num), np.zeros(num)], 1)


@pytest.mark.parametrize(
    ("jump_m", "num_fast"), [(20.0, 0), (30.0, 2), (300.0, 2), (5_000.0, 2)]
)
def test_a_jump_within_an_eighth_of_a_second_is_too_fast(jump_m, num_fast):
    positions_m = drive()
    positions_m[20:30, 1] += jump_m
    fast = too_fast(positions_m, np.arange(80) / 8, np.zeros(80, int))
    assert fast.sum() == num_fast
    if num_fast:
        assert np.flatnonzero(fast).tolist() == [20, 30]


def test_speed_is_of_rows_of_one_traversal_in_the_order_of_time():
    positions_m = np.concatenate([drive(), moved(drive(), 0.0, 900.0)])
    traversal = np.repeat([0, 1], 80)
    times_s = np.tile(np.arange(80) / 8, 2)
    order = np.random.default_rng(0).permutation(160)
    assert not too_fast(positions_m[order], times_s[order], traversal[order]).any()
    assert not too_fast(positions_m, np.full(160, np.nan), traversal).any()


def test_more_than_the_views_of_a_panorama_on_one_point():
    assert not crowded(np.repeat(drive(3), 24, axis=0), np.zeros(72, int)).any()
    spots = np.concatenate([drive(), np.repeat(drive(1), 40, axis=0)])
    found = crowded(spots, np.zeros(120, int))
    assert np.flatnonzero(found).tolist() == [0, *range(80, 120)]


def test_a_vehicle_that_waits_is_not_a_crowd_and_a_frozen_receiver_is():
    start, stop = drive(10), moved(drive(10), 20.0)
    waiting = np.concatenate([start, np.repeat(start[-1:], 40, axis=0), stop])
    assert not crowded(waiting, np.zeros(60, int)).any()
    frozen = np.concatenate([start, np.repeat(start[-1:], 40, axis=0), moved(stop, 500.0)])
    assert crowded(frozen, np.zeros(60, int)).sum() == 41


@pytest.mark.parametrize("step_m", [5.0, 10.0, 100.0])
def test_lost_digits_of_metres(step_m):
    rounded = np.round(campus() / step_m) * step_m
    rounded = np.concatenate([rounded, rounded[:60]])
    assert grid_step(rounded, np.zeros(360, int)) == pytest.approx(step_m)


@pytest.mark.parametrize(("digits", "step_deg"), [(2, 0.01), (3, 0.001), (4, 0.0001)])
def test_lost_digits_of_degrees(digits, step_deg):
    route = np.stack([14.4 + 2e-5 * np.arange(400), 50.1 + 1e-5 * np.arange(400)], 1)
    assert grid_step(route, np.zeros(400, int), in_degrees=True) is None
    found = grid_step(np.round(route, digits), np.zeros(400, int), in_degrees=True)
    if digits > 2:  # with two digits the route is one point
        assert found == pytest.approx(step_deg)


@pytest.mark.parametrize(
    "positions_m",
    [
        ORIGIN_M + np.stack([10.0 * np.arange(80), np.zeros(80)], 1),  # places 10 m apart
        np.repeat(campus(40), 24, axis=0),
        np.round(campus(), 1),
        np.stack([np.arange(300.0), np.zeros(300)], 1),
    ],
)
def test_regular_and_repeated_places_have_lost_nothing(positions_m):
    assert grid_step(positions_m, np.zeros(len(positions_m), int)) is None
