"""Several batches per optimizer step: the mean of their gradients, and exact resuming."""

from __future__ import annotations

import json

import pytest
import torch

from mlcore.errors import ConfigError
from mlcore.experiment import assemble
from mlcore.options import parse_run, run_to_toml
from mlcore.registry.discovery import Registry
from mlcore.run_folder import RunFolder
from mlcore.training import fit

pytestmark = pytest.mark.usefixtures("synthetic_plugin")

TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.schedule", "constant"),
    *("--training.optimizer", "sgd", "--training.learning_rate", "0.1"),
    *("--training.log_every", "1", "--training.checkpoint_every", "2"),
]


def config_of(*words):
    return parse_run([*TINY, *words], Registry.discover())


def trained(path, *words):
    experiment = assemble(config_of(*words))
    folder = RunFolder(path)
    if not path.exists():
        folder = RunFolder.create(path, run_to_toml(experiment.config))
    assert fit(experiment, folder) == "finished"
    return experiment, folder


def test_a_step_follows_the_mean_gradient_of_its_batches(tmp_path):
    words = ["--training.max_steps", "1", "--training.accumulate", "3"]
    experiment, folder = trained(tmp_path / "run", *words)
    by_hand = assemble(config_of(*words))
    losses = []
    for number in range(3):
        item = by_hand.batches[number]
        loss = by_hand.loss(by_hand.model.train()(item.images), item.batch).loss
        (loss / 3).backward()
        losses.append(float(loss.detach()))
    for found, start in zip(
        experiment.model.parameters(), by_hand.model.parameters(), strict=True
    ):
        expected = start.detach() - 0.1 * start.grad
        torch.testing.assert_close(found.detach(), expected, rtol=1e-4, atol=1e-6)
    (row,) = map(json.loads, folder.metrics.read_text().splitlines())
    assert row["step"] == 1
    assert row["loss"] == pytest.approx(sum(losses) / 3, rel=1e-5)


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    words = ["--training.accumulate", "2"]
    whole, folder = trained(tmp_path / "whole", *words, "--training.max_steps", "4")
    trained(tmp_path / "parts", *words, "--training.max_steps", "3")
    parts, other = trained(tmp_path / "parts", *words, "--training.max_steps", "4")
    for one, two in zip(whole.model.parameters(), parts.model.parameters(), strict=True):
        assert torch.equal(one, two)
    assert folder.metrics.read_text() == other.metrics.read_text()
    assert len(folder.metrics.read_text().splitlines()) == 4
    assert folder.newest_step() == 4


def test_epochs_count_batches(tmp_path):
    """Halved each epoch: twice as early in steps with two batches per step."""
    words = ["--training.schedule", "halve-each-epoch", "--sampling.location_spacing_m", "30"]
    rates = {}
    for accumulate in (1, 2):
        many = ["--training.accumulate", str(accumulate), "--training.max_steps", "6"]
        experiment, folder = trained(tmp_path / str(accumulate), *words, *many)
        rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
        rates[accumulate] = [row["learning_rate"] for row in rows]
    steps = experiment.planner.steps_per_epoch
    assert rates[1] == [0.1 * 0.5 ** (step // steps) for step in range(6)]
    assert rates[2] == [0.1 * 0.5 ** (step // -(-steps // 2)) for step in range(6)]


def test_hard_images_are_planned_by_step():
    words = ["--training.accumulate", "2", "--sampling.hard_per_tuple", "1"]
    with pytest.raises(ConfigError, match=r"accumulate 2 cannot be combined with .*hard_per"):
        assemble(config_of(*words))
