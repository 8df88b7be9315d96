"""What options of training do to the weights and to the rows of ``metrics.jsonl``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mlcore.experiment import Experiment, assemble
from mlcore.options import RunConfig, parse_run
from mlcore.registry.discovery import Registry
from mlcore.run_folder import RunFolder
from mlcore.training import fit

TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.near_per_tuple", "3", "--sampling.far_per_tuple", "3"),
    *("--training.log_every", "1", "--training.accelerator", "cpu"),
    *("--training.schedule", "constant", "--training.max_steps", "3"),
]


@pytest.fixture(scope="module")
def config(module_synthetic_plugin) -> RunConfig:
    return parse_run(
        TINY, Registry.discover(only=["synthetic", "soft-contrastive", "networks"])
    )


def train(config: RunConfig, path: Path, **options: object) -> tuple[Experiment, RunFolder]:
    experiment = assemble(replace(config, training=replace(config.training, **options)))
    run = RunFolder.create(path, "")
    assert fit(experiment, run) == "finished"
    return experiment, run


def rates_of(run: RunFolder) -> list[float]:
    return [json.loads(row)["learning_rate"] for row in run.metrics.read_text().splitlines()]


def test_the_schedule_reaches_the_optimizer(config, tmp_path):
    _, run = train(config, tmp_path / "run", warmup_steps=4, learning_rate=0.01, max_steps=6)
    assert rates_of(run) == pytest.approx([0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01])


def test_epochs_of_the_schedule_are_those_of_the_planner(config, tmp_path):
    experiment = assemble(config)
    # One location per 6 m of a loop of 126 m, so that an epoch is short.
    sampling = replace(config.sampling, location_spacing_m=25.0)
    few = replace(config, sampling=sampling)
    steps_per_epoch = assemble(few).planner.steps_per_epoch
    assert steps_per_epoch < experiment.planner.steps_per_epoch
    _, run = train(
        few, tmp_path / "run", schedule="halve-each-epoch", max_steps=2 * steps_per_epoch
    )
    expected = [3e-3] * steps_per_epoch + [1.5e-3] * steps_per_epoch
    assert rates_of(run) == pytest.approx(expected)


def test_weight_decay_is_decoupled_from_the_gradient(config, tmp_path):
    """AdamW (Loshchilov and Hutter, 2019): after one step the weights differ by lr * decay."""
    start = {name: p.clone() for name, p in assemble(config).model.named_parameters()}
    options = {"max_steps": 1, "learning_rate": 0.01}
    plain, _ = train(config, tmp_path / "plain", **options)
    decayed, _ = train(config, tmp_path / "decayed", weight_decay=0.5, **options)
    others = dict(decayed.model.named_parameters())
    for name, parameter in plain.model.named_parameters():
        difference = parameter.detach() - others[name].detach()
        torch.testing.assert_close(difference, 0.005 * start[name], rtol=1e-3, atol=1e-7)


def test_gradients_are_clipped_to_their_norm(config, tmp_path, monkeypatch):
    norms: list[float] = []
    step = torch.optim.Adam.step

    def step_and_keep(self, closure=None):
        result = step(self, closure)
        gradients = [p.grad for group in self.param_groups for p in group["params"]]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)))
        return result

    monkeypatch.setattr(torch.optim.Adam, "step", step_and_keep)
    train(config, tmp_path / "plain")
    free, norms[:] = norms.copy(), []
    limit = min(free) / 2
    train(config, tmp_path / "clipped", gradient_clip=limit)
    assert norms == pytest.approx([limit] * 3, rel=1e-4)
