"""Batches of cliques: their distances, what looks alike, and that nothing else decides them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from mlcore.errors import ConfigError, DataError
from mlcore.options import parse_run
from mlcore.options.engine import SamplingOptions
from mlcore.protocols import PlaceTable, Role, Split
from mlcore.registry.discovery import Registry
from mlcore.sampling.cliques import CliquePlanner

NEAR_M, FAR_M = 6.0, 9.0
OPTIONS = SamplingOptions(
    scheme="cliques",
    places_per_batch=6,
    images_per_place=4,
    near_radius_m=NEAR_M,
    far_radius_m=FAR_M,
    clique_centers=3,
    clique_radius_m=30.0,
    hard_pool=100,
    hard_refresh=12,
)
LENGTH_M = 600.0


def table_of(positions_m, **columns):
    size = len(positions_m)
    table = PlaceTable(
        index=np.arange(size),
        positions_m=np.asarray(positions_m, float),
        traversal=np.zeros(size, np.int64),
        traversals=("only",),
        condition=np.zeros(size, np.int64),
        conditions=("all",),
    )
    return replace(table, **columns)


def street(num=600, **columns):
    """Return images along a street, in order, in lanes up to 3 m aside."""
    generator = np.random.default_rng(5)
    along_m = np.sort(generator.uniform(0, LENGTH_M, num))
    aside_m = generator.uniform(-3, 3, num)
    table = table_of(np.stack([along_m, aside_m], axis=1), **columns)
    return Split(references=table, queries=table.take(slice(0)))


def make(split=None, options=OPTIONS, seed=0, windows=(0, 1), look=None):
    split = street() if split is None else split
    planner = CliquePlanner(split, options, seed)
    along_m = split.references.positions_m[:, 0]
    for window in windows:
        planner.ahead.plan(window, lambda rows: (rows, (look or repeating)(along_m[rows])))
    return planner


def repeating(along_m):
    """Return embeddings by which the street repeats itself every 150 m."""
    turn = along_m / 150.0 * 2 * np.pi
    return np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float32)


def distances(planner, rows, others):
    positions = planner.images.positions_m
    return np.linalg.norm(positions[rows][:, None] - positions[others], axis=2)


def test_images_of_a_place_are_near_each_other_and_far_from_all_others():
    planner = make()
    assert planner.ahead.steps_per_window == 2
    for step in range(4):
        plan = planner.plan(step)
        assert plan.rows.shape == (24,)
        assert plan.tuple_id.tolist() == np.repeat(np.arange(6), 4).tolist()
        assert (plan.role.reshape(6, 4) == [Role.ANCHOR, Role.NEAR, Role.NEAR, Role.NEAR]).all()
        cliques = plan.rows.reshape(6, 4)
        for clique in cliques:
            assert len(set(clique.tolist())) == 4
            assert distances(planner, clique, clique).max() <= NEAR_M
        for one, other in combinations(cliques, 2):
            assert distances(planner, one, other).min() > FAR_M


def test_places_lie_around_images_that_look_alike():
    """The street repeats every 150 m: anchors are 0, 150, 300 or 450 m on, up to 30 m."""
    for step in range(4):
        planner = make(options=replace(OPTIONS, clique_radius_m=20.0))
        along_m = planner.images.positions_m[planner.plan(step).rows[::4], 0]
        beside_m = (along_m - along_m[0] + 75.0) % 150.0 - 75.0
        assert np.abs(beside_m).max() < 40.0
        assert np.ptp(along_m) > 100.0
    random = CliquePlanner(street(), OPTIONS, 0)
    along_m = random.images.positions_m[random.plan(0, attempt=1).rows[::4], 0]
    assert np.abs((along_m - along_m[0] + 75.0) % 150.0 - 75.0).max() > 40.0


def test_other_embeddings_give_other_batches_of_the_same_size():
    one, other = make(), make(look=lambda along_m: repeating(along_m * 3.1))
    plans = [(one.plan(step).rows, other.plan(step).rows) for step in range(4)]
    assert all(first.shape == second.shape for first, second in plans)
    assert not any(np.array_equal(first, second) for first, second in plans)
    # A scale of an embedding is no matter, and the first anchor is the location's in turn.
    long = make(look=lambda along_m: repeating(along_m) * (1 + along_m[:, None] % 3))
    assert all(np.array_equal(one.plan(k).rows, long.plan(k).rows) for k in range(4))
    assert all(first[0] == second[0] for first, second in plans)


def test_what_is_planned_survives_pickle_and_checkpoint():
    planner = make()
    copied = pickle.loads(pickle.dumps(planner))
    restored = make(windows=())
    restored.ahead.load_state_dict(planner.ahead.state_dict())
    for step in range(4):
        assert np.array_equal(planner.plan(step).rows, copied.plan(step).rows)
        assert np.array_equal(planner.plan(step).rows, restored.plan(step).rows)
    assert not np.array_equal(planner.plan(0).rows, make(seed=1).plan(0).rows)
    planner.ahead.plan(2, lambda rows: (rows, repeating(rows / 1.0)))
    assert [planner.ahead.has_planned(window) for window in range(4)] == [
        False,
        True,
        True,
        False,
    ]
    with pytest.raises(KeyError):
        planner.plan(1)


def test_images_that_cannot_be_read_lead_to_no_other_place():
    def embed(rows):
        rows = rows[:0]
        return rows, np.zeros((0, 2), np.float32)

    planner = make(windows=())
    planner.ahead.plan(0, embed)
    assert planner.plan(0).rows.shape == (24,)


def test_an_epoch_draws_as_many_cliques_as_there_are_locations():
    planner = make()
    assert planner.num_locations <= LENGTH_M
    assert planner.steps_per_epoch == -(-planner.num_locations // 6)
    assert f"{planner.num_locations} locations with cliques of 4 images" in planner.notes[0]


def test_headings_and_regions_part_images():
    headings = np.where(np.arange(600) % 2, 1.0, -1.0)
    planner = make(street(headings_rad=headings))
    for clique in planner.plan(0).rows.reshape(-1, 4):
        assert len(set((clique % 2).tolist())) == 1
    region = np.arange(600) % 2
    planner = make(street(region=region, regions=("a", "b")))
    cliques = np.concatenate([planner.plan(step).rows.reshape(-1, 4) for step in range(4)])
    assert all(len(set((clique % 2).tolist())) == 1 for clique in cliques)
    assert {*(cliques[:, 0] % 2).tolist()} == {0, 1}


def test_a_dense_crowd_does_not_make_a_large_graph():
    crowd = np.random.default_rng(0).uniform(0, 60, (20_000, 2))
    table = table_of(crowd)
    planner = make(Split(references=table, queries=table.take(slice(0))))
    cliques = planner.plan(0).rows.reshape(-1, 4)
    assert len(cliques) == 6
    assert max(distances(planner, c, c).max() for c in cliques) <= NEAR_M


def test_too_few_places_are_refused_with_their_number():
    with pytest.raises(
        DataError, match=r"batch 99 is more than the data have: .* about 3\d pl"
    ):
        make(options=replace(OPTIONS, places_per_batch=99))
    with pytest.raises(
        DataError,
        match=r"no place has 90 images to draw: at none of \d+ locations are .* within 6 m",
    ):
        make(options=replace(OPTIONS, images_per_place=90))


def test_half_a_radius_is_no_limit_of_what_is_found():
    """Three images in a row 6 m long: the middle one is near both ends, the ends near too."""
    rows = [[k * 50.0 + x, 0.0] for k in range(4) for x in (0.0, 5.9, 3.0)]
    options = replace(OPTIONS, images_per_place=3, places_per_batch=3)
    table = table_of(rows)
    planner = make(Split(references=table, queries=table.take(slice(0))), options, windows=(0,))
    assert planner.num_locations == 12
    assert planner.plan(0).rows.shape == (9,)


@pytest.mark.usefixtures("synthetic_plugin")
def test_what_cannot_be_combined_is_refused():
    words = ["--dataset", "synthetic", "--sampling.scheme", "cliques"]
    with pytest.raises(
        ConfigError, match=r"accumulate 2 cannot be combined with --sampling.scheme cliques"
    ):
        parse_run([*words, "--training.accumulate", "2"], Registry.discover())
    with pytest.raises(
        ConfigError, match="hard_per_tuple must be 0 with scheme cliques, got 2"
    ):
        parse_run([*words, "--sampling.hard_per_tuple", "2"], Registry.discover())
