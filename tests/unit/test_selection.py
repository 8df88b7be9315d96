"""Which weights a run ends with: validated, averaged, the best, after enough patience."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from mlcore.errors import ConfigError, DataError
from mlcore.experiment import assemble, require_validation, restore
from mlcore.options import parse_run, run_to_toml
from mlcore.options.engine import TrainingOptions
from mlcore.registry.discovery import Registry
from mlcore.run_folder import RunFolder
from mlcore.sampling.schemes import batches_of, planner_of
from mlcore.seeding import derive_seed
from mlcore.training import fit
from mlcore.training.selection import Selection

pytestmark = pytest.mark.usefixtures("synthetic_plugin")

TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.schedule", "constant"),
]


class Trained:
    """A run of so many steps, and the weights that it ended with."""

    def __init__(self, path: Path, *words: str, steps: int = 6) -> None:
        config = parse_run([*TINY, *words, "--training.max_steps", str(steps)], self.registry)
        self.experiment = assemble(config)
        self.folder = RunFolder(path)
        if not path.exists():
            self.folder = RunFolder.create(path, run_to_toml(self.experiment.config))
        assert fit(self.experiment, self.folder) == "finished"

    registry = Registry.discover()

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return self.experiment.model.state_dict()

    @property
    def rows(self) -> list[dict[str, float]]:
        return [json.loads(line) for line in self.folder.validation.read_text().splitlines()]

    def checkpoint(self) -> dict[str, object]:
        path = self.folder.newest_checkpoint()
        assert path is not None
        return RunFolder.load_checkpoint(path)


@pytest.fixture(autouse=True)
def registry(synthetic_plugin):
    Trained.registry = Registry.discover()


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.fixture
def areas(monkeypatch):
    """Make validation find these areas, one after the other; return what it evaluated."""

    class Found:
        seen: ClassVar[list[dict[str, torch.Tensor]]] = []

        class protocol:
            area_limit_m, thresholds_m = 25.0, (10.0,)

        def __init__(self, area: float) -> None:
            self.value = area

        def area(self, limit_m: float) -> float:
            return self.value

        def accuracy(self, threshold_m: float) -> float:
            return 0.5

    def install(*values: float) -> type[Found]:
        left = list(values)
        Found.seen = []

        def validate(self: Selection, _embedder: object) -> Found:
            weights = self._averaged or self._experiment.model.state_dict()
            Found.seen.append({name: value.clone() for name, value in weights.items()})
            return Found(left.pop(0))

        monkeypatch.setattr(Selection, "_validate", validate)
        return Found

    return install


def test_validation_changes_no_weight(tmp_path):
    plain = Trained(tmp_path / "plain")
    validated = Trained(tmp_path / "validated", "--training.validate_every", "2")
    assert equal(plain.weights, validated.weights)
    assert not plain.folder.validation.exists()
    assert [row["step"] for row in validated.rows] == [2, 4, 6]
    areas = [row["area"] for row in validated.rows]
    best = [2, 4, 6][int(np.argmax(areas))]
    assert validated.rows[-1]["best_step"] == best
    assert 0 < validated.rows[0]["accuracy_10_m"] <= 1
    _, restored = restore(validated.folder, Trained.registry)
    assert equal(restored.state_dict(), plain.weights)


def test_the_last_step_is_validated(tmp_path, areas):
    areas(0.1, 0.2)
    run = Trained(tmp_path / "run", "--training.validate_every", "4", steps=5)
    assert [row["step"] for row in run.rows] == [4, 5]


def test_the_best_weights_are_kept(tmp_path, areas):
    found = areas(0.2, 0.4, 0.4)
    words = ["--training.validate_every", "2", "--training.checkpoint", "best"]
    run = Trained(tmp_path / "run", *words)
    assert [row["best_step"] for row in run.rows] == [2, 4, 4]
    assert equal(run.weights, found.seen[1])
    assert not equal(run.weights, found.seen[2])
    _, restored = restore(run.folder, Trained.registry)
    assert equal(restored.state_dict(), found.seen[1])
    start = ["--model.weights", str(run.folder.path)]
    follower = assemble(parse_run([*TINY, *start], Trained.registry))
    assert equal(follower.untrained.state_dict(), found.seen[1])


def test_training_stops_when_nothing_improves(tmp_path, areas):
    words = ["--training.validate_every", "1", "--training.patience", "2"]
    areas(0.3, 0.5, 0.5, 0.4, 0.9)
    run = Trained(tmp_path / "run", *words, steps=9)
    assert [row["step"] for row in run.rows] == [1, 2, 3, 4]
    assert run.folder.newest_step() == 4
    areas(0.9)
    with pytest.warns(UserWarning, match="no step is taken: 2 validations in a row were not"):
        again = Trained(tmp_path / "run", *words, steps=9)
    assert again.folder.newest_step() == 4
    assert equal(again.weights, run.weights)


def test_the_average_is_that_of_the_formula(tmp_path):
    """Against the weights after each step, averaged by hand."""
    history = [Trained(tmp_path / str(steps), steps=steps).weights for steps in (1, 2, 3)]
    expected = Trained(tmp_path / "first", steps=1).experiment.untrained.state_dict()
    for step, weights in enumerate(history, start=1):
        decay = min(0.3, (1 + step) / (10 + step))
        expected = {
            name: decay * expected[name].double() + (1 - decay) * weights[name].double()
            for name in weights
        }
    run = Trained(tmp_path / "averaged", "--training.ema_decay", "0.3", steps=3)
    for name, value in run.weights.items():
        torch.testing.assert_close(
            value.double(), expected[name].double(), rtol=1e-5, atol=1e-7
        )
    state = run.checkpoint()["state_dict"]
    assert equal({k: state[f"model.{k}"] for k in history[2]}, history[2])


def test_a_resumed_run_chooses_as_an_uninterrupted_one(tmp_path):
    words = [
        *("--training.validate_every", "1", "--training.checkpoint", "best"),
        *("--training.ema_decay", "0.5", "--training.checkpoint_every", "3"),
    ]
    whole = Trained(tmp_path / "whole", *words)
    Trained(tmp_path / "parts", *words, steps=3)
    parts = Trained(tmp_path / "parts", *words)
    assert parts.rows == whole.rows
    assert equal(parts.weights, whole.weights)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"checkpoint": "best"}, "checkpoint best needs validate_every"),
        ({"patience": 3}, "patience 3 needs validate_every"),
        ({"ema_decay": 1.0}, "ema_decay must be"),
    ],
)
def test_options_that_would_do_nothing_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainingOptions(**options)


def test_a_split_without_queries_cannot_validate(synthetic_dataset):
    config = parse_run([*TINY, "--training.validate_every", "2"], Trained.registry)
    require_validation(config, synthetic_dataset)
    nothing = synthetic_dataset.validation.queries.take(slice(0))

    class Without:
        validation = replace(synthetic_dataset.validation, queries=nothing)

    with pytest.raises(ConfigError, match="validation split has no query image"):
        require_validation(config, Without())
    require_validation(parse_run(TINY, Trained.registry), Without())


def test_the_loss_is_that_of_the_same_batches_each_time(tmp_path):
    """With a learning rate of nearly 0, so that nothing else can change it."""
    words = ["--training.validate_every", "2", "--training.learning_rate", "1e-30"]
    run = Trained(tmp_path / "run", *words)
    first, *others = [row["loss"] for row in run.rows]
    assert first > 0
    assert others == [first, first]


def test_the_loss_on_validation_is_that_of_the_validated_weights(tmp_path):
    """Against batches of the validation split, embedded in evaluation mode by hand."""
    run = Trained(
        tmp_path / "run", "--training.validate_every", "6", "--training.augment", "false"
    )
    config, dataset = run.experiment.config, run.experiment.dataset
    seed = derive_seed(config.seed, "validation loss")
    planner = planner_of(config, dataset, dataset.validation, seed)
    batches = batches_of(config, dataset, planner)
    model = run.experiment.model.cpu().eval()
    with torch.no_grad():
        items = [batches[number] for number in range(16)]
        losses = [
            float(run.experiment.loss(model(item.images), item.batch).loss) for item in items
        ]
    validation = {*dataset.validation.references.index, *dataset.validation.queries.index}
    assert {int(index) for item in items for index in item.batch.index} <= validation
    assert run.rows[-1]["loss"] == pytest.approx(float(np.mean(losses)), rel=1e-5)


@pytest.mark.parametrize(
    "words",
    [
        "--sampling.hard_per_tuple 1 --training.ema_decay 0.5",
        "--sampling.scheme cliques --sampling.places_per_batch 4 --sampling.images_per_place 3",
        "--loss pml-triplet-margin --training.memory 30",
    ],
)
def test_every_scheme_and_regime_has_a_validation_loss(tmp_path, words):
    run = Trained(tmp_path / "run", "--training.validate_every", "2", *words.split(), steps=2)
    assert np.isfinite(run.rows[0]["loss"])


def test_a_loss_with_proxies_has_none(tmp_path):
    words = ["--training.validate_every", "2", "--loss", "pml-proxy-anchor"]
    run = Trained(tmp_path / "run", *words, steps=2)
    assert "loss" not in run.rows[0]
    assert "area" in run.rows[0]


def test_a_validation_split_without_a_batch_is_said(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise DataError("no tuple can be formed")

    monkeypatch.setattr("mlcore.training.validation_loss.planner_of", refuse)
    with pytest.warns(UserWarning, match=r"has no loss: no batch .*: no tuple can be formed"):
        run = Trained(tmp_path / "run", "--training.validate_every", "2", steps=2)
    assert "loss" not in run.rows[0]


def test_validation_images_that_cannot_be_read_are_left_out(tmp_path):
    broken = ",".join(str(number) for number in range(180, 360, 2))
    words = ["--dataset.broken", broken, "--training.skip_unreadable", "true"]
    run = Trained(tmp_path / "run", "--training.validate_every", "2", *words, steps=2)
    assert np.isfinite(run.rows[0]["loss"])
