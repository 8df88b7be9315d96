"""Columns of the training images, their locations and their places."""

from __future__ import annotations

import numpy as np
import pytest

from mlcore.protocols import PlaceTable, Split
from mlcore.sampling.training_images import TrainingImages, location_rows, place_ids


def make_table(
    east_m: list[float],
    traversal: list[int] | None = None,
    *,
    first_index: int = 0,
    headings_rad: list[float] | None = None,
    arc_length_m: list[float] | None = None,
) -> PlaceTable:
    codes = np.zeros(len(east_m), int) if traversal is None else np.array(traversal)
    positions = np.stack([np.array(east_m, float), np.zeros(len(east_m))], axis=1)
    return PlaceTable(
        index=np.arange(first_index, first_index + len(east_m)),
        positions_m=positions + np.array([620_000.0, 5_735_000.0]),
        headings_rad=None if headings_rad is None else np.array(headings_rad),
        arc_length_m=None if arc_length_m is None else np.array(arc_length_m),
        traversal=codes,
        traversals=("a", "b"),
        condition=codes,
        conditions=("a", "b"),
    )


def test_references_come_first():
    split = Split(
        references=make_table([0, 1], headings_rad=[0.1, 0.2]),
        queries=make_table([5], first_index=90, headings_rad=[0.3]),
    )
    images = TrainingImages.of(split)
    assert len(images) == 3
    assert images.index.tolist() == [0, 1, 90]
    assert images.positions_m[:, 0].tolist() == [620_000, 620_001, 620_005]
    assert images.headings_rad.tolist() == [0.1, 0.2, 0.3]


def test_columns_are_not_copied_without_queries():
    references = make_table([0, 1, 2])
    images = TrainingImages.of(Split(references=references, queries=make_table([])))
    assert images.positions_m is references.positions_m
    assert images.index is references.index


@pytest.mark.parametrize("which", [0, 1])
def test_headings_are_known_only_if_both_parts_have_them(which):
    given = [[0.1], None] if which == 0 else [None, [0.1]]
    split = Split(
        references=make_table([0], headings_rad=given[0]),
        queries=make_table([1], headings_rad=given[1]),
    )
    assert TrainingImages.of(split).headings_rad is None


@pytest.mark.parametrize(
    ("east_m", "rows"),
    [
        ([0, 0.4, 0.9, 1.0, 1.8, 2.1], [0, 3, 5]),  # denser than the spacing: thinned
        ([0, 5, 10], [0, 1, 2]),  # sparser: every image, nothing between them
        ([0, 0, 0], [0]),
        ([0, 1000], [0, 1]),  # nothing in the gap
        ([0], [0]),
        ([], []),
    ],
)
def test_a_location_is_the_first_image_of_every_metre(east_m, rows):
    assert location_rows(make_table(east_m), 1.0).tolist() == rows


def test_each_traversal_has_locations_of_its_own_though_rows_are_mixed():
    table = make_table([0, 100, 0.5, 100.5, 1.5, 101.5], [0, 1, 0, 1, 0, 1])
    assert sorted(location_rows(table, 1.0).tolist()) == [0, 1, 4, 5]


def test_a_traversal_is_measured_from_its_own_first_image():
    """The one before it is no whole number of metres long."""
    east_m = [0, 0.7, 50, 50.6, 51.1, 51.7, 52.1]
    table = make_table(east_m, [0, 0, 1, 1, 1, 1, 1])
    assert location_rows(table, 1.0).tolist() == [0, 2, 4, 6]


def test_arc_length_of_the_data_set_comes_before_the_distance_walked():
    table = make_table([0, 5, 10, 15], arc_length_m=[0, 0.2, 0.4, 1.1])
    assert location_rows(table, 1.0).tolist() == [0, 3]


def test_places_are_cells_of_one_grid_numbered_without_gaps():
    positions = np.array([[0.0, 0], [14.9, 14.9], [15.0, 0], [0, 15], [-0.1, 0], [900, 900]])
    place = place_ids(positions, 15.0)
    assert place.dtype == np.int64
    assert place[0] == place[1]
    assert sorted(set(place.tolist())) == list(range(5))


def test_places_do_not_depend_on_height_nor_on_the_order_of_images():
    generator = np.random.default_rng(0)
    positions = generator.uniform(0, 100, (300, 3)) + np.array([620_000.0, 5_735_000.0, 0])
    place = place_ids(positions, 15.0)
    order = generator.permutation(300)
    assert np.array_equal(place_ids(positions[order], 15.0), place[order])
    cells = {tuple(cell) for cell in np.floor(positions[:, :2] / 15).astype(int).tolist()}
    assert place.max() + 1 == len(cells)
