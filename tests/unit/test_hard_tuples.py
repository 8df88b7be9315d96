"""Hard images: which are chosen, from what, and that nothing else decides them."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

import numpy as np
import pytest

from mlcore.protocols import Role, Split
from mlcore.sampling.planner import TuplePlanner
from tests.support.street_tuples import (
    OPTIONS,
    distances,
    make_table,
    rows_of,
    same,
    street_planner,
)

HARD = replace(OPTIONS, hard_per_tuple=2, hard_pool=60, hard_refresh=12)


def feature(rows: np.ndarray) -> np.ndarray:
    """An angle in a plane, scattered over the rows; some embeddings longer than others."""
    angle = (rows * 0.618034) % 1.0 * math.pi
    length = 1 + rows % 3
    return (length * np.stack([np.cos(angle), np.sin(angle)])).T.astype(np.float32)


def embed(rows):
    return rows, feature(rows)


def planned(windows=(0, 1), embed=embed, **more):
    planner = street_planner(HARD, **more)
    for window in windows:
        planner.ahead.plan(window, embed)
    return planner


def similarity(row, others):
    directions = feature(np.append(others, row))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    return directions[:-1] @ directions[-1]


def test_hard_images_come_first_and_are_the_hardest():
    planner = planned()
    assert planner.ahead.steps_per_window == 4
    headings, everything = planner.images.headings_rad, np.arange(300)
    for step in range(8):
        plan = planner.plan(step)
        pool = np.random.default_rng((0, step // 4, 2)).choice(300, 60, replace=False)
        for number in range(3):
            anchor, near, far = (
                rows_of(plan, role, number) for role in (Role.ANCHOR, Role.NEAR, Role.FAR)
            )
            assert len(near) == 4
            assert len(far) == 3
            close = distances(planner, anchor, everything)[0] <= 6
            close &= headings == headings[anchor[0]]
            assert close[near].all()
            # Of up to six near images drawn, the two least alike lead.
            alike = similarity(anchor[0], near)
            assert alike[:2].max() <= alike[2:].min() + 1e-6
            # No image of the pool that is far from the anchor is more alike than the first.
            eligible = pool[distances(planner, anchor, pool)[0] > 20]
            best = similarity(anchor[0], eligible).max()
            assert similarity(anchor[0], far[:1])[0] == pytest.approx(best, abs=1e-6)
            assert np.isin(far[:2], pool).all()
            apart = np.concatenate([anchor, far])
            between = distances(planner, apart, apart)[np.triu_indices(4, 1)]
            assert (between > 20).all()


def test_anchors_are_those_of_random_tuples():
    hard, random = planned(), street_planner()
    for step in range(8):
        for number in range(3):
            first, second = (rows_of(p.plan(step), Role.ANCHOR, number) for p in (hard, random))
            assert first == second


def test_what_is_planned_survives_pickle_and_checkpoint():
    planner = planned()
    copied = pickle.loads(pickle.dumps(planner))
    restored = street_planner(HARD)
    restored.ahead.load_state_dict(planner.ahead.state_dict())
    for step in range(8):
        assert same(planner.plan(step), copied.plan(step))
        assert same(planner.plan(step), restored.plan(step))


def test_old_windows_are_forgotten():
    planner = planned(windows=(0, 1, 2))
    planner.plan(4)
    with pytest.raises(KeyError):
        planner.plan(3)
    assert len(planner.ahead.state_dict()) == 24


def test_a_window_is_planned_once():
    planner = planned(windows=(0, 1))
    assert [planner.ahead.has_planned(window) for window in range(4)] == [
        True,
        True,
        False,
        False,
    ]


def test_a_pool_without_far_images_leaves_the_rare_far_one():
    """One image in 20,000 is far, so that neither pool nor random draws meet it."""
    crowd = np.random.default_rng(0).uniform(0, 5, (20_000, 2))
    crowd[0] = [100, 0]
    split = Split(references=make_table(crowd[1:13]), queries=make_table(crowd, first_index=12))
    planner = TuplePlanner(split, replace(HARD, hard_pool=8), 0)
    planner.ahead.plan(0, embed)
    plan = planner.plan(0)
    far = plan.rows[plan.role == Role.FAR]
    assert planner.images.index[far].tolist() == [12, 12, 12]


def test_other_embeddings_give_other_tuples_of_the_same_size():
    first, second = planned(), planned(embed=lambda rows: (rows, feature(rows * 7 + 1)))
    plans = [(first.plan(step), second.plan(step)) for step in range(8)]
    assert not all(same(one, other) for one, other in plans)
    assert all(len(one.rows) == len(other.rows) for one, other in plans)


def test_images_that_cannot_be_read_are_not_hard():
    def without_even(rows):
        odd = rows[rows % 2 == 1]
        return embed(odd)

    planner = planned(embed=without_even)
    for step in range(8):
        plan = planner.plan(step)
        for number in range(3):
            (anchor,) = rows_of(plan, Role.ANCHOR, number)
            near, far = (rows_of(plan, role, number) for role in (Role.NEAR, Role.FAR))
            assert len(near) == 4
            assert len(set(near.tolist())) == 4
            assert len(far) == 3
            if anchor % 2 == 1:
                assert (far[:2] % 2 == 1).all()


def test_a_quadruplets_other_image_is_far_from_hard_ones_too():
    planner = planned(other_far=True)
    for step in range(8):
        plan = planner.plan(step)
        for number in range(3):
            rows = np.concatenate(
                [rows_of(plan, r, number) for r in (Role.ANCHOR, Role.FAR, Role.OTHER_FAR)]
            )
            assert len(rows) == 5
            between = distances(planner, rows, rows)[np.triu_indices(5, 1)]
            assert (between > 20).all()


def test_more_hard_images_than_there_are_images_is_refused():
    with pytest.raises(ValueError, match="hard_per_tuple 4 must not be larger"):
        replace(OPTIONS, hard_per_tuple=4)
