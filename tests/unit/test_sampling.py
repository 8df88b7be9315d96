"""Tuples: what is near and far in them, what decides them, what is told of them."""

from __future__ import annotations

import math
import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from mlcore.errors import ConfigError, DataError
from mlcore.options.engine import SamplingOptions
from mlcore.protocols import Role, Split
from mlcore.sampling.planner import TuplePlanner
from tests.support.street_tuples import (
    NOTHING,
    OPTIONS,
    distances,
    make_table,
    rows_of,
    same,
    street,
    street_planner,
)


def test_a_batch_holds_the_tuples_asked_for():
    plan = street_planner().plan(0)
    assert plan.rows.dtype == plan.tuple_id.dtype == plan.role.dtype == np.int64
    assert plan.tuple_id.tolist() == [0] * 8 + [1] * 8 + [2] * 8
    one = [Role.ANCHOR] + [Role.NEAR] * 4 + [Role.FAR] * 3
    assert plan.role.tolist() == one * 3


def test_near_and_far_are_what_they_say():
    planner = street_planner(other_far=True)
    headings, everything = planner.images.headings_rad, np.arange(300)
    for step in range(30):
        plan = planner.plan(step)
        for number in range(3):
            anchor, near, far, other = (rows_of(plan, role, number) for role in Role)
            assert len(anchor) == 1
            close = distances(planner, anchor, everything)[0] <= 6
            close &= headings == headings[anchor[0]]
            close[anchor] = False
            assert set(near.tolist()) <= set(np.flatnonzero(close).tolist())
            assert len(set(near.tolist())) == len(near) == min(4, close.sum())
            apart = np.concatenate([anchor, far, other])
            between = distances(planner, apart, apart)[np.triu_indices(len(apart), 1)]
            assert (between > 20).all()


def test_headings_are_compared_across_the_wrap():
    """Half of the images look at 179 degrees, half at -179, which is 2 degrees apart."""
    headings = np.radians(np.where(np.arange(100) % 2, 179.0, -179.0))
    split = Split(references=make_table(street(), headings), queries=NOTHING)
    options = SamplingOptions(
        near_radius_m=3.0, far_radius_m=20.0, near_heading_limit_deg=2.1, far_per_tuple=2
    )
    planner = TuplePlanner(split, options, 0)
    plan = planner.plan(0)
    # The only images within 3 m are the direct neighbours, which look the other way.
    assert planner.num_locations == 100
    anchors, near = rows_of(plan, Role.ANCHOR, 0), rows_of(plan, Role.NEAR, 0)
    assert set(near.tolist()) <= {anchors[0] - 1, anchors[0] + 1}
    narrow = replace(options, near_heading_limit_deg=1.9)
    with pytest.raises(DataError, match="no tuple can be formed from the 100 training images"):
        TuplePlanner(split, narrow, 0)


def test_radii_are_inclusive_for_near_and_exclusive_for_far():
    positions = np.array([[0.0, 0], [6, 0], [20, 0], [20.001, 0]])
    split = Split(references=make_table(positions), queries=NOTHING)
    options = SamplingOptions(
        tuples_per_batch=1, near_radius_m=6.0, far_radius_m=20.0, far_per_tuple=4
    )
    planner = TuplePlanner(split, options, 0)
    tuples = [planner.plan(step) for step in range(planner.num_locations)]
    of_first = next(plan for plan in tuples if plan.rows[0] == 0)
    assert rows_of(of_first, Role.NEAR, 0).tolist() == [1]
    assert rows_of(of_first, Role.FAR, 0).tolist() == [3]


def test_one_epoch_visits_every_location_once():
    planner = street_planner()
    assert planner.num_locations == 100
    assert planner.steps_per_epoch == 34
    tuples = [planner.plan(step) for step in range(67)]
    anchors = np.concatenate([plan.rows[plan.role == Role.ANCHOR] for plan in tuples])
    # The nearest location of an anchor is its metre along the street.
    visited = anchors % 100
    for epoch in (visited[:100], visited[100:200]):
        assert Counter(epoch.tolist()) == Counter(range(100))
    assert visited[:100].tolist() != visited[100:200].tolist()
    assert [plan.epoch for plan in tuples[32:35]] == [0, 0, 1]


def test_every_lane_and_direction_takes_its_turn_as_anchor():
    planner = street_planner()
    anchors = np.concatenate(
        [plan.rows[plan.role == Role.ANCHOR] for plan in map(planner.plan, range(100))]
    )
    lanes = Counter((anchors // 100).tolist())
    assert sorted(lanes) == [0, 1, 2]
    assert min(lanes.values()) > 60  # of 300, in thirds but for chance


def test_a_plan_depends_on_seed_and_step_alone():
    planner, again = street_planner(), street_planner()
    forward = [planner.plan(step) for step in range(6)]
    backward = [again.plan(step) for step in reversed(range(6))][::-1]
    elsewhere = pickle.loads(pickle.dumps(planner))
    for step in range(6):
        assert same(forward[step], backward[step])
        assert same(forward[step], elsewhere.plan(step))
    assert not same(forward[0], street_planner(seed=1).plan(0))
    assert not np.array_equal(forward[0].rows, forward[1].rows)


def test_a_larger_batch_takes_the_same_tuples():
    small = street_planner()
    wide = replace(OPTIONS, tuples_per_batch=6)
    expected = np.concatenate([small.plan(step).rows for step in (2, 3)])
    assert np.array_equal(street_planner(wide).plan(1).rows, expected)


def test_a_loss_that_needs_other_far_sees_the_same_tuples_otherwise():
    without, with_it = street_planner(), street_planner(other_far=True)
    for step in range(10):
        first, second = without.plan(step), with_it.plan(step)
        rest = second.role != Role.OTHER_FAR
        assert (~rest).sum() == 3
        assert np.array_equal(first.rows, second.rows[rest])
        assert np.array_equal(first.tuple_id, second.tuple_id[rest])
        assert np.array_equal(first.role, second.role[rest])


def test_the_only_far_image_among_very_many_is_found():
    """One image in 20,000 is far, so that random draws hardly ever meet it."""
    crowd = np.random.default_rng(0).uniform(0, 5, (20_000, 2))
    crowd[0] = [100, 0]
    split = Split(references=make_table(crowd[1:3]), queries=make_table(crowd, first_index=2))
    planner = TuplePlanner(split, OPTIONS, 0)
    plan = planner.plan(0)
    far = plan.rows[plan.role == Role.FAR]
    assert planner.images.index[far].tolist() == [2, 2, 2]


def test_small_tuples_are_told():
    positions = np.concatenate([street(3), street(3) + np.array([50, 0])])
    planner = TuplePlanner(
        Split(references=make_table(positions), queries=NOTHING), OPTIONS, 0, other_far=True
    )
    plan = planner.plan(0)
    assert Counter(plan.role.tolist()) == {Role.ANCHOR: 3, Role.NEAR: 6, Role.FAR: 3}
    assert planner.notes[1] == (
        "of the first 6 tuples, 6 have fewer near images than requested, 6 fewer far images, "
        "6 no other-far image"
    )


def test_tuples_of_the_size_asked_for_are_not_mentioned():
    assert not [note for note in street_planner().notes if "fewer" in note]


def test_lonely_locations_are_left_out_and_told():
    positions = np.concatenate([street(50), [[400.0, 0], [500.0, 0]]])
    planner = TuplePlanner(Split(references=make_table(positions), queries=NOTHING), OPTIONS, 0)
    assert planner.num_locations == 50
    assert planner.notes[0] == "52 training images, 50 locations, 17 steps per epoch, 9 places"
    assert planner.notes[1] == (
        "2 of 52 locations are left out: no image there has both a near image (within 6 m) "
        "and a far one (beyond 20 m); the first is at (620400.0, 5735000.0) m"
    )
    rows = np.concatenate([planner.plan(step).rows for step in range(20)])
    assert {50, 51} & set(rows.tolist())  # they still serve as far images


def test_a_location_is_kept_for_the_images_beside_it():
    """Its own image looks where no other does; two beside it look alike."""
    references = make_table(np.array([[0.0, 0], [100, 0], [101, 0]]), np.array([0.0, 0, 0]))
    queries = make_table(np.array([[0.0, 3], [0.5, 3]]), np.array([2.0, 2.0]), 3)
    planner = TuplePlanner(Split(references=references, queries=queries), OPTIONS, 0)
    assert planner.num_locations == 2
    assert len(planner.notes) == 2
    rows = [planner.plan(step) for step in range(4)]
    anchors = np.concatenate([plan.rows[plan.role == Role.ANCHOR] for plan in rows])
    assert 0 not in anchors
    assert {3, 4} & set(anchors.tolist())


def test_headings_of_one_part_only_are_told():
    headings = np.zeros(100)
    split = Split(
        references=make_table(street(), headings),
        queries=make_table(street(aside_m=2), first_index=100),
    )
    planner = TuplePlanner(split, OPTIONS, 0)
    assert planner.images.headings_rad is None
    assert planner.notes[1].startswith("near images are drawn without regard to headings")


@pytest.mark.parametrize("num", [1, 2, 3])
def test_fewer_images_than_one_tuple_needs(num):
    split = Split(references=make_table(street(num)), queries=NOTHING)
    message = rf"from the {num} training images: .* --sampling.near_radius_m"
    with pytest.raises(DataError, match=message):
        TuplePlanner(split, OPTIONS, 0)


def test_no_references():
    with pytest.raises(DataError, match="no reference images"):
        TuplePlanner(Split(references=NOTHING, queries=make_table(street())), OPTIONS, 0)


@pytest.mark.parametrize("radii", [(7.0, 6.0), (None, 6.0), (6.0, None)])
def test_radii_that_make_no_sense(radii):
    options = SamplingOptions(near_radius_m=radii[0], far_radius_m=radii[1])
    with pytest.raises(ConfigError, match=r"--sampling\.near_radius_m"):
        TuplePlanner(Split(references=make_table(street()), queries=NOTHING), options, 0)


@pytest.mark.parametrize("limit_deg", [-1.0, 181.0, math.nan])
def test_a_heading_limit_that_is_no_angle(limit_deg):
    with pytest.raises(ValueError, match="near_heading_limit_deg must be between 0 and 180"):
        SamplingOptions(near_heading_limit_deg=limit_deg)


def test_no_step_looks_at_all_images(monkeypatch):
    """A step touches the images around its anchors and the few it draws, not the rest."""
    num = 200_000
    planner = TuplePlanner(
        Split(references=make_table(street(num)), queries=NOTHING), OPTIONS, 0
    )
    looked_at = 0

    class Counting(np.ndarray):
        def __getitem__(self, key):
            nonlocal looked_at
            looked_at += np.size(key)
            return np.ndarray.__getitem__(self.view(np.ndarray), key)

    candidates = planner._candidates
    monkeypatch.setattr(candidates, "_positions_m", candidates._positions_m.view(Counting))
    planner.plan(5)
    assert 0 < looked_at < 200
