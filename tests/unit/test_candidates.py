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
