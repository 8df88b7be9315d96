"""Which images are near and far: what the radii decide to the last bit."""

from __future__ import annotations

import numpy as np

from mlcore.options.engine import SamplingOptions
from mlcore.sampling.candidates import Candidates
from mlcore.sampling.training_images import TrainingImages


def candidates_at(*eastings_m: float, near_radius_m: float = 5.0, far_radius_m: float = 10.0):
    positions_m = np.array([[easting, 0.0] for easting in eastings_m])
    images = TrainingImages(
        index=np.arange(len(positions_m)), positions_m=positions_m, headings_rad=None
    )
    return Candidates(
        images,
        near_radius_m=near_radius_m,
        far_radius_m=far_radius_m,
        heading_limit_rad=np.pi,
    )


def test_an_image_exactly_at_the_far_radius_is_not_far():
    rows = np.array([0, 1])
    assert not candidates_at(0.0, 10.0).have_far(rows).any()
    assert candidates_at(0.0, np.nextafter(10.0, 11.0)).have_far(rows).all()


def test_near_and_far_radius_may_be_the_same():
    options = SamplingOptions(near_radius_m=15.0, far_radius_m=15.0)
    images = TrainingImages(
        index=np.arange(2), positions_m=np.array([[0.0, 0.0], [15.0, 0.0]]), headings_rad=None
    )
    found = Candidates.of(images, options)
    assert (found.near_radius_m, found.far_radius_m) == (15.0, 15.0)


def test_the_quick_check_finds_a_near_image_far_from_the_origin():
    found = candidates_at(620_000.0, 620_004.0, 620_100.0).have_near(np.array([0, 1, 2]))
    assert found.tolist() == [True, True, False]


def test_near_images_are_drawn_as_from_a_sorted_list():
    """Whatever the search finds first: the same tuples, as before it was made faster."""
    crowd = np.random.default_rng(0).uniform(0, 40, (20_000, 2))
    images = TrainingImages(
        index=np.arange(20_000),
        positions_m=crowd,
        headings_rad=np.where(np.arange(20_000) % 3, 0.5, -2.0),
    )
    candidates = Candidates(images, near_radius_m=8.0, far_radius_m=9.0, heading_limit_rad=0.5)
    for anchor in range(20):
        near = candidates.near(anchor)
        assert (np.diff(near) > 0).all()
        assert anchor not in near
        for num in (3, 12, 200, 10_000):
            drawn = candidates.draw_near(anchor, num, np.random.default_rng(num))
            wanted = np.random.default_rng(num).choice(
                near, size=min(num, len(near)), replace=False
            )
            assert np.array_equal(drawn, wanted)
    rows = candidates.around(7)
    blocks = candidates.shuffled_around(7, 64, np.random.default_rng(1))
    assert np.array_equal(
        np.concatenate(list(blocks)), np.random.default_rng(1).permutation(rows)
    )


def test_far_images_are_the_first_that_keep_apart():
    positions_m = np.array([[0.0, 0], [5, 0], [30, 0], [60, 0], [66, 0], [90, 0], [0, 40]])
    images = TrainingImages(index=np.arange(7), positions_m=positions_m, headings_rad=None)
    candidates = Candidates(images, near_radius_m=8.0, far_radius_m=10.0, heading_limit_rad=0.5)
    taken = np.array([0])
    assert candidates.first_apart(taken, 3, np.array([2, 3, 5, 6])).tolist() == [2, 3, 5]
    assert candidates.first_apart(taken, 3, np.array([1, 3, 4, 6])).tolist() == [3, 6]
    assert candidates.first_apart(taken, 2, np.array([3, 3, 4, 2])).tolist() == [3, 2]
    assert candidates.first_apart(taken, 0, np.array([3])).tolist() == []
