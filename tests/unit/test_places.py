"""Batches of places: their images, their distances, and that every loss learns from them."""

from __future__ import annotations

import pickle
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from mlcore.cli.main import main
from mlcore.errors import DataError
from mlcore.experiment import assemble
from mlcore.options import parse_run
from mlcore.options.engine import SamplingOptions
from mlcore.protocols import PlaceTable, Role, Split
from mlcore.registry.discovery import Registry
from mlcore.sampling.places import PlacePlanner
from mlcore_baselines.tuples import TupleRows

OPTIONS = SamplingOptions(
    scheme="places",
    places_per_batch=6,
    images_per_place=4,
    near_radius_m=10.0,
    far_radius_m=25.0,
    place_cell_m=10.0,
)
PLACES = ("--sampling.scheme", "places", "--sampling.places_per_batch", "3")
PLACES = (*PLACES, "--sampling.images_per_place", "3", "--dataset", "synthetic")


def street(num_places=40, per_place=5, spacing_m=20.0, **columns):
    """Return places ``spacing_m`` apart, their images within 4 m."""
    size = num_places * per_place
    along_m = np.repeat(np.arange(num_places) * spacing_m + 3.0, per_place)
    table = PlaceTable(
        index=np.arange(size),
        positions_m=np.stack(
            [along_m + np.tile(np.arange(per_place), num_places), np.zeros(size)], 1
        ),
        traversal=np.zeros(size, np.int64),
        traversals=("only",),
        condition=np.zeros(size, np.int64),
        conditions=("all",),
        place=np.repeat(np.arange(num_places) * 7 + 3, per_place),
    )
    table = replace(table, **columns)
    return Split(references=table, queries=table.take(slice(0)))


@pytest.mark.parametrize("own", [True, False])
def test_a_batch_has_images_of_places_far_from_each_other(own):
    split = street() if own else street(place=None)
    planner = PlacePlanner(split, OPTIONS, 0)
    assert planner.num_locations == planner.num_places == 40
    for step in range(30):
        plan = planner.plan(step)
        assert plan.rows.shape == (24,)
        assert len(set(plan.rows.tolist())) == 24
        place = planner.place_id[plan.rows].reshape(6, 4)
        assert (place == place[:, :1]).all()
        assert plan.tuple_id.tolist() == np.repeat(np.arange(6), 4).tolist()
        assert (plan.role.reshape(6, 4) == [Role.ANCHOR, Role.NEAR, Role.NEAR, Role.NEAR]).all()
        anchors = split.references.positions_m[plan.rows.reshape(6, 4)[:, 0], 0]
        apart = np.abs(anchors[:, None] - anchors) + 1e9 * np.eye(6)
        assert apart.min() > 25.0


def test_an_epoch_visits_places_in_turn():
    planner = PlacePlanner(street(spacing_m=100.0), replace(OPTIONS, places_per_batch=8), 0)
    assert planner.steps_per_epoch == 5
    plans = [planner.plan(step) for step in range(15)]
    visits = Counter(np.concatenate([planner.place_id[p.rows[::4]] for p in plans]).tolist())
    assert sorted(visits.values()) == [3] * 40
    assert [plan.epoch for plan in plans[:6]] == [0] * 5 + [1]


def test_a_plan_depends_on_seed_and_step_alone():
    planner, other = PlacePlanner(street(), OPTIONS, 0), PlacePlanner(street(), OPTIONS, 1)
    again = pickle.loads(pickle.dumps(planner))
    assert np.array_equal(planner.plan(9).rows, again.plan(9).rows)
    assert not np.array_equal(planner.plan(9).rows, other.plan(9).rows)
    assert not np.array_equal(planner.plan(9).rows, planner.plan(9, attempt=1).rows)


def test_images_that_look_elsewhere_are_of_no_one_place_of_the_grid():
    headings = np.tile([0.0, 0.0, 0.0, 3.0, 3.0], 40)
    with pytest.raises(
        DataError, match="no place has 4 images to draw: of 40 places, the largest has 5"
    ):
        PlacePlanner(street(place=None, headings_rad=headings), OPTIONS, 0)
    three = replace(OPTIONS, images_per_place=3)
    planner = PlacePlanner(street(place=None, headings_rad=headings), three, 0)
    assert set((planner.plan(0).rows % 5).tolist()) == {0, 1, 2}


def test_places_with_fewer_images_are_left_out_and_counted():
    place = np.repeat(np.arange(40), 5)
    place[:10] = 100 + np.arange(10)  # two places become ten of one image
    planner = PlacePlanner(street(place=place), OPTIONS, 0)
    assert "48 places of the data set, 38 of them with 4 images or more" in planner.notes[0]
    with pytest.raises(
        DataError, match=r"no place has 9 images to draw.*lower --sampling.images_per"
    ):
        PlacePlanner(street(), replace(OPTIONS, images_per_place=9), 0)


def test_regions_take_turns():
    region = np.repeat(np.arange(2), [150, 50])
    columns = {"region": region, "regions": ("a", "b"), "place": np.repeat(np.arange(40), 5)}
    planner = PlacePlanner(street(**columns), replace(OPTIONS, balance="regions"), 0)
    rows = np.concatenate([planner.plan(step).rows[::4] for step in range(10)])
    share = region[rows].mean()
    assert 0.35 < share < 0.6


@pytest.mark.usefixtures("synthetic_plugin")
def test_tuple_losses_take_the_anchors_of_other_places_as_far():
    batch = (
        assemble(parse_run([*PLACES, "--model.width", "8"], Registry.discover()))
        .batches[0]
        .batch
    )
    rows = TupleRows.of(batch)
    assert rows.anchor.tolist() == [0, 3, 6]
    assert rows.far.tolist() == [3, 6, 0, 6, 0, 3]
    assert rows.far_tuple.tolist() == [0, 0, 1, 1, 2, 2]
    assert rows.other_far.tolist() == [3, 6, 0]


@pytest.mark.usefixtures("synthetic_plugin")
@pytest.mark.parametrize(
    "loss",
    ["proposed", "triplet", "quadruplet", "log-ratio", "multi-similarity-paper", "soft-supcon"],
)
def test_every_kind_of_loss_learns_from_them(loss):
    argv = [*PLACES, "--model.width", "8", "--loss", loss]
    experiment = assemble(parse_run(argv, Registry.discover()))
    item = experiment.batches[0]
    embeddings = torch.nn.functional.normalize(experiment.model(item.images.float() / 255))
    embeddings.retain_grad()
    experiment.loss(embeddings, item.batch).loss.backward()
    assert embeddings.grad.abs().sum() > 0


@pytest.mark.usefixtures("synthetic_plugin")
def test_all_losses_get_the_same_batches_and_a_run_goes_on(tmp_path):
    plans = [
        assemble(parse_run([*PLACES, "--loss", loss], Registry.discover())).planner.plan(3).rows
        for loss in ("proposed", "quadruplet", "pml-contrastive")
    ]
    assert all(np.array_equal(plans[0], other) for other in plans)
    tiny = [
        *PLACES,
        "--model.width",
        "8",
        "--training.schedule",
        "constant",
        "--training.log_every",
        "1",
    ]
    tiny += ["--evaluation.baselines", "false", "--evaluation.dimensions", "8"]
    whole, run = str(tmp_path / "whole"), str(tmp_path / "run")
    assert main(["train", *tiny, "--training.max_steps", "4", "--out", whole]) == 0
    assert main(["train", *tiny, "--training.max_steps", "2", "--out", run]) == 0
    assert main(["train", "--resume", run, "--training.max_steps", "4"]) == 0
    states = [
        torch.load(max((tmp_path / name / "checkpoints").glob("*.ckpt")), weights_only=True)
        for name in ("whole", "run")
    ]
    for name, value in states[0]["state_dict"].items():
        assert torch.equal(value, states[1]["state_dict"][name])
