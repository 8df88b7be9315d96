"""Every scheme of batches: the same for each loss, for any workers, and after a stop."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from mlcore.cli.main import main
from mlcore.experiment import assemble
from mlcore.options import parse_run
from mlcore.protocols import Role
from mlcore.registry.discovery import Registry
from tests.cli.test_train import assert_same_run, full_at, kept_plans

PLACES = ("--sampling.places_per_batch", "3", "--sampling.images_per_place", "3")
SCHEMES = {
    "tuples": ("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    "places": ("--sampling.scheme", "places", *PLACES),
    "cliques": (
        *("--sampling.scheme", "cliques", *PLACES, "--sampling.hard_refresh", "9"),
        *("--sampling.clique_radius_m", "10"),
        *("--sampling.hard_pool", "40", "--sampling.clique_centers", "4"),
    ),
}
TINY = (
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--training.checkpoint_every", "4", "--training.log_every", "1"),
    *("--training.evaluate", "false", "--evaluation.whitening", "none"),
)


def train(*words: object) -> int:
    return main(["train", *map(str, words)])


@pytest.mark.usefixtures("synthetic_plugin")
@pytest.mark.parametrize("scheme", ["places", "cliques"])
def test_a_run_goes_on_bit_for_bit_and_losses_share_batches(tmp_path, scheme, monkeypatch):
    words = [*TINY, *SCHEMES[scheme], "--training.max_steps", "9"]
    whole, working, stopped, other = (tmp_path / name for name in "abcd")
    plans = kept_plans(monkeypatch)
    assert train(*words, "--out", whole) == 0
    seen = plans.copy()
    plans.clear()
    assert train(*words, "--loss", "quadruplet", "--out", other) == 0
    assert seen == plans
    assert train(*words, "--training.num_workers", "1", "--out", working) == 0
    assert (working / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    stop_and_resume(words, stopped, monkeypatch)
    assert_same_run(stopped, whole)


@pytest.mark.usefixtures("synthetic_plugin")
def test_cliques_of_the_live_network_are_each_losss_own_and_kept(tmp_path, monkeypatch):
    words = [*TINY, *SCHEMES["cliques"], "--sampling.hard_features", "live"]
    words += ["--training.max_steps", "14", "--training.learning_rate", "0.02"]
    whole, stopped, other = (tmp_path / name for name in "abc")
    plans = kept_plans(monkeypatch)
    assert train(*words, "--out", whole) == 0
    seen = plans.copy()
    plans.clear()
    assert train(*words, "--loss", "triplet", "--out", other) == 0
    differ = {step for step in seen if seen[step] != plans[step]}
    assert differ
    assert min(differ) >= 6  # two windows of three steps are the untrained network's
    stop_and_resume(words, stopped, monkeypatch)
    assert_same_run(stopped, whole)


def stop_and_resume(words: list[str], run: Path, monkeypatch) -> None:
    """Train until the disk is full at the second checkpoint, then resume."""
    with monkeypatch.context() as patch:
        patch.setattr("mlcore.training.checkpoint_io.atomic_write", full_at(8))
        assert train(*words, "--out", run) != 0
    assert max((run / "checkpoints").iterdir()).name == "step-000000004.ckpt"
    assert train("--resume", run) == 0


@pytest.mark.usefixtures("synthetic_plugin")
@pytest.mark.parametrize("scheme", SCHEMES)
def test_data_sets_share_batches_of_every_scheme_and_stay_apart(scheme):
    """Two loops of equal numbers: what is 0 m away by them is in the other data set."""
    both = ["--dataset", "synthetic,synthetic", "--dataset.2.broken", "9999"]
    both += ["--sampling.balance", "datasets"]
    words = [*both, "--model.width", "8", *SCHEMES[scheme]]
    experiment = assemble(parse_run(words, Registry.discover()))
    planner = experiment.planner
    if planner.ahead is not None:
        planner.ahead.plan(0, lambda rows: (rows, np.cos(np.outer(rows, [1.0, 2.0]))))
    part_of = experiment.dataset.part_of(planner.images.index)
    positions_m = planner.images.positions_m
    seen = set()
    for step in range(3):
        plan = planner.plan(step)
        for number in range(plan.tuple_id.max() + 1):
            own = plan.rows[(plan.tuple_id == number) & (plan.role <= Role.NEAR)]
            assert len(set(part_of[own].tolist())) == 1
            assert np.linalg.norm(positions_m[own] - positions_m[own[0]], axis=1).max() < 15
            seen.add(int(part_of[own[0]]))
        region = experiment.batches[step].batch.region
        assert region.tolist() == part_of[plan.rows].tolist()
    assert seen == {0, 1}


@pytest.mark.usefixtures("synthetic_plugin")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "--sampling.scheme places --sampling.places_per_batch 500",
            r"--sampling.places_per_batch 500 is more than the data have: there are \d+ places",
        ),
        (
            "--sampling.scheme places --sampling.places_per_batch 8 --sampling.far_radius_m 70",
            r"there are about \d places .* that lie beyond 70 m of each other, of \d+; lower it",
        ),
        (
            "--sampling.scheme places --sampling.images_per_place 99",
            r"no place has 99 images to draw: of \d+ places, the largest has \d+;",
        ),
        (
            "--sampling.scheme cliques --sampling.places_per_batch 500",
            r"--sampling.places_per_batch 500 is more than the data have: there are about \d+ p",
        ),
        (
            "--sampling.scheme cliques --sampling.images_per_place 99",
            r"no place has 99 images to draw: at none of 60 locations",
        ),
        (
            "--sampling.scheme places --sampling.tuples_per_batch 2",
            r"tuples_per_batch has no effect with --sampling.scheme places; choose tuples",
        ),
        (
            "--sampling.places_per_batch 4",
            r"has no effect with --sampling.scheme tuples; choose places or cliques",
        ),
        (
            "--sampling.scheme places --sampling.hard_features live",
            r"has no effect with --sampling.scheme places; choose tuples or cliques",
        ),
        (
            "--sampling.far_per_tuple 0",
            r"far_per_tuple 0 needs tuples_per_batch of at least 2, got 1",
        ),
        (
            "--sampling.far_per_tuple 0 --sampling.tuples_per_batch 2 --loss triplet",
            r"far_per_tuple 0 cannot be combined with --loss triplet, which compares each anch",
        ),
        (
            "--sampling.images_per_place 1 --sampling.scheme places",
            r"images_per_place.*at least 2.*1",
        ),
    ],
)
def test_bad_options_of_a_scheme_are_one_sentence(words, said, tmp_path, capsys):
    out = tmp_path / "run"
    assert train("--dataset", "synthetic", *words.split(), "--out", out) == 2
    lines = capsys.readouterr().err.splitlines()
    errors = [line for line in lines if "error:" in line]
    assert len(errors) == 1
    assert re.search(said, errors[0]), errors[0]
    assert not (out / "metrics.jsonl").exists()


@pytest.mark.usefixtures("synthetic_plugin")
def test_tuples_without_far_images_train_a_loss_over_all_pairs(tmp_path):
    words = [*TINY, "--sampling.far_per_tuple", "0", "--sampling.tuples_per_batch", "3"]
    words += ["--sampling.near_per_tuple", "2"]
    batch = assemble(parse_run(words, Registry.discover())).batches[0].batch
    assert batch.role.tolist() == [0, 1, 1] * 3
    assert train(*words, "--training.max_steps", "3", "--out", tmp_path / "run") == 0
