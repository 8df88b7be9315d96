"""Searches by KD-tree against explicit loops over every pair, on raw UTM coordinates."""

from __future__ import annotations

import math
import pickle

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcore.data import grid_search, positions
from mlcore.data.grid import largest_square
from mlcore.data.positions import (
    PositionIndex,
    heading_difference_rad,
    wrap_rad,
)

UTM = np.array([620_000.0, 5_735_000.0, 110.0])


def scattered(num: int, dimensions: int, seed: int = 0) -> np.ndarray:
    grid = np.random.default_rng(seed).integers(0, 12, (num, dimensions))
    return UTM[:dimensions] + grid * 2.5  # many ties and coincident points


@pytest.mark.parametrize(
    ("angle", "wrapped"),
    [
        (0.0, 0.0),
        (math.pi, math.pi),
        (-math.pi, math.pi),
        (1.5 * math.pi, -0.5 * math.pi),
        (-7 * math.pi, math.pi),
        (0.25 - 6 * math.pi, 0.25),
    ],
)
def test_angles_wrap_to_the_half_open_circle(angle, wrapped):
    assert wrap_rad(np.array([angle]))[0] == pytest.approx(wrapped, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.floats(-20, 20), st.floats(-20, 20))
def test_heading_difference_is_the_angle_between_two_directions(first, second):
    dot = math.cos(first) * math.cos(second) + math.sin(first) * math.sin(second)
    expected = math.acos(max(-1.0, min(1.0, dot)))
    difference = float(heading_difference_rad(first, second))
    assert 0 <= difference <= math.pi
    assert difference == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("radius_m", [0.0, 2.5, 5.0, math.hypot(2.5, 2.5), 7.3])
def test_within_is_what_a_loop_over_all_points_finds(dimensions, radius_m):
    points = scattered(200, dimensions)
    index = PositionIndex(points)
    for point in points[:20]:
        distance = np.linalg.norm(points - point, axis=1)
        expected = np.flatnonzero(distance <= radius_m)  # inclusive, ties and all
        assert np.array_equal(index.within(point, radius_m), expected)
        assert index.all_within(point, radius_m) == bool((distance <= radius_m).all())


def test_all_within():
    points = scattered(50, 2)
    index = PositionIndex(points)
    farthest = np.linalg.norm(points - points[7], axis=1).max()
    assert index.all_within(points[7], farthest)
    assert not index.all_within(points[7], farthest - 1e-6)


def test_neighbours_come_nearest_first(monkeypatch):
    monkeypatch.setattr(positions, "LOCAL_BLOCK", 7)  # several blocks
    points = scattered(100, 2) + np.random.default_rng(1).normal(0, 0.1, (100, 2))
    rows = PositionIndex(points).neighbours(points[:30] + 0.05, 5)
    distance = np.linalg.norm(points[:30, None] + 0.05 - points[None], axis=2)
    assert rows.dtype == np.int64
    assert np.array_equal(rows, np.argsort(distance, axis=1)[:, :5])
    assert np.array_equal(PositionIndex(points).nearest(points[:30] + 0.05), rows[:, 0])


def test_there_are_no_more_neighbours_than_points():
    points = scattered(3, 2)
    assert PositionIndex(points).neighbours(points, 8).shape == (3, 3)
    assert PositionIndex(points).neighbours(points[:0], 8).shape == (0, 3)


def test_the_tree_is_not_pickled_and_the_positions_not_copied():
    points = scattered(1000, 2)
    index = PositionIndex(points)
    assert index.positions_m is points
    before = len(pickle.dumps(index))
    found = index.within(points[0], 5.0)
    content = pickle.dumps(index)
    assert len(content) == before
    assert np.array_equal(pickle.loads(content).within(points[0], 5.0), found)


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("radius_m", [2.5, 20.0, 1e4])
def test_many_images_are_found_as_a_loop_finds_them(dimensions, radius_m):
    """Enough of them for the grid; positions on a lattice, so that distances meet the radius."""
    generator = np.random.default_rng(3)
    spread = generator.integers(0, 120, (12_000, dimensions)) * 2.5
    positions = UTM[:dimensions] + spread
    index = PositionIndex(positions)
    index.within(positions[0], 10.0)  # which decides the cells
    for point in (*positions[:5], positions.min(axis=0) - 7.0, positions.max(axis=0) + 1e5):
        found = index.within(point, radius_m)
        expected = np.linalg.norm(positions - point, axis=1) <= radius_m
        assert np.array_equal(found, np.flatnonzero(expected))


def test_headings_beyond_a_turn_differ_as_wrapped_ones_do():
    degrees = np.arange(-1080, 1081, 15)
    found = heading_difference_rad(np.radians(degrees), np.radians(10.0))
    expected = np.abs(np.angle(np.exp(1j * np.radians(degrees - 10.0))))
    assert np.allclose(found, expected)


@pytest.mark.parametrize("num", [400, 12_000], ids=["tree", "grid"])
@pytest.mark.parametrize("turns", [0, 2])
@pytest.mark.parametrize("limit_deg", [0.0, 30.0, 90.0, 179.0, 180.0])
def test_headings_agree_as_their_difference_says(num, turns, limit_deg):
    """In whole degrees, many differ by exactly the limit, across the wrap too."""
    generator = np.random.default_rng(0)
    points = scattered(num, 2)
    degrees = generator.integers(-179, 181, num).astype(float)
    headings = np.radians(degrees) + turns * 2 * np.pi
    index = PositionIndex(points, headings)
    near = np.linalg.norm(points - points[0], axis=1) <= 7.5
    for own in (*headings[:20], 0.3, math.pi, -0.0):
        found = index.looking_alike(points[0], 7.5, own, math.radians(limit_deg))
        alike = heading_difference_rad(headings, own) <= math.radians(limit_deg)
        assert np.array_equal(found, np.flatnonzero(near & alike))
    assert np.array_equal(index.looking_alike(points[0], 7.5, None, 0.0), np.flatnonzero(near))


@settings(max_examples=200, deadline=None)
@given(st.floats(1e-3, 1e6))
def test_the_largest_square_decides_as_the_root_does(radius_m):
    square = largest_square(radius_m)
    assert math.sqrt(square) <= radius_m < math.sqrt(math.nextafter(square, math.inf))


@pytest.mark.parametrize("radius_m", [0.3, 5.0, 37.0, 400.0])
def test_whole_cells_lie_within_a_radius(radius_m):
    """Points on the lines of the grid, and at the radius, in the plane."""
    lattice = np.stack(np.meshgrid(np.arange(120.0), np.arange(120.0)), axis=2).reshape(-1, 2)
    points = lattice * 1.25 + [620_000.0, 5_735_000.0]
    index = PositionIndex(points)
    index.within(points[0], 5.0)  # cells are a part of the first radius
    for point in points[[0, 77, 7_260, 14_399]]:
        expected = np.flatnonzero(np.sqrt(((points - point) ** 2).sum(axis=1)) <= radius_m)
        assert np.array_equal(index.within(point, radius_m), expected)


def test_without_a_folder_for_compiled_code_the_search_is_compiled_anew(monkeypatch):
    """As in a container whose file system and home are read-only."""
    monkeypatch.setattr(numba.core.caching.CacheImpl, "_locator_classes", [])
    compiled = grid_search._compiled(grid_search._turned.py_func)
    assert type(compiled._cache) is numba.core.caching.NullCache
    assert compiled(0.5, -0.25) == 0.75
