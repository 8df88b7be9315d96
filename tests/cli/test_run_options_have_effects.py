"""Every option of the engine changes something of a run that can be seen, or is refused.

A tiny run is trained with and without the option. What may change is the exit code, what is
printed, the rows of ``metrics.jsonl``, the results, the weights, the names of the checkpoints,
or what Lightning and the loader are given.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch

from mlcore.cli.main import main
from mlcore.models.embedding import EmbeddingModel
from mlcore.option_types import options_of
from mlcore.options import ENGINE
from mlcore.options.engine import TrainingOptions
from mlcore.training.strategy import Processes

SUPPORT = Path(__file__).parents[1] / "support"
TUPLES = "--sampling.near_per_tuple 3 --sampling.far_per_tuple 3 --sampling.tuples_per_batch 2 "
BASE = (
    f"train --dataset synthetic --model.embedding_dim 16 {TUPLES}"
    "--training.max_steps 8 --training.log_every 1 --training.checkpoint_every 4 "
    "--training.accelerator cpu --evaluation.whitening train --evaluation.dimensions 8 "
    "--evaluation.baselines false"
)
SMALL = "--model.width 8"
HARD = "--sampling.hard_per_tuple 1 --sampling.hard_refresh 4"
PLACES = "--sampling.scheme places --sampling.places_per_batch 4"
CLIQUES = (
    "--sampling.scheme cliques --sampling.places_per_batch 4 --sampling.images_per_place 3 "
    "--sampling.hard_refresh 8 --sampling.hard_pool 40"
)
PROXIES = "--loss pml-proxy-anchor"
NETWORK = "--backbone resnet18 --pooling gem --model.weights none --training.max_steps 2"
VALIDATED = "--training.validate_every 2 --training.learning_rate 1"
SAMPLING = {
    "tuples_per_batch": "3",
    "near_per_tuple": "2",
    "far_per_tuple": "2",
    "near_radius_m": "4",
    "far_radius_m": "30",
    "near_heading_limit_deg": "5",
    "location_spacing_m": "9",
    "balance": "datasets",
    "scheme": "places --sampling.places_per_batch 4",
    "places_per_batch": "3 --sampling.scheme places",
    "images_per_place": f"3 {PLACES}",
    "clique_centers": f"2 {CLIQUES}",
    "clique_radius_m": f"9 {CLIQUES}",
    "place_cell_m": f"40 {PROXIES}",
    "hard_per_tuple": "1",
    "hard_features": f"live {HARD}",
    "hard_pool": f"7 {HARD}",
    "hard_refresh": "2 --sampling.hard_per_tuple 1 --sampling.hard_features live",
}
TRAINING = {
    "images": "references",
    "evaluate": "false",
    "max_steps": "6",
    "optimizer": "sgd",
    "learning_rate": "0.01",
    "backbone_rate": f"0.1 {NETWORK}",
    "layer_decay": f"0.5 {NETWORK}",
    "weight_decay": "0.5",
    "schedule": "constant",
    "warmup_steps": "4",
    "gradient_clip": "0.001",
    "augment": "false",
    "checkpoint_every": "2",
    "log_every": "2",
    "precision": "bf16-mixed",
    "accelerator": "gpu",
    "devices": "2",
    "num_nodes": "2",
    "chunk_size": "5",
    "batch_norm": f"frozen {NETWORK}",
    "compile": "true",
    "check_memory": "false",
    "num_workers": "1",
    "validate_every": "4",
    "checkpoint": f"best {VALIDATED}",
    "patience": f"1 {VALIDATED}",
    "ema_decay": "0.5",
    "accumulate": "2",
    "memory": "20",
    "memory_start": "2 --training.memory 20",
    "augmentations": "flip",
    "loggers": "csv",
    "skip_unreadable": "true --dataset.broken 3,425",
}
EVALUATION = {
    "whitening": "references",
    "dimensions": "4",
    "whitening_images": "40",
    "spacing_m": "5",
    "thresholds_m": "3",
    "auc_limits_m": "7",
    "recall_at": "2",
    "recall_radius_m": "3",
    "order_limits_m": "6",
    "ndcg_at": "3",
    "gain_cutoff_m": "5",
    "gain_steepness_per_m": "0.3",
    "batch_size": "7",
    "baselines": "true",
}
VALUES = {"sampling": SAMPLING, "training": TRAINING, "evaluation": EVALUATION}
NOT_RUN = {
    "balance",
    "devices",
    "num_nodes",
    "compile",
    "num_workers",
    "check_memory",
    "loggers",
}
"""These change how a machine is used, and no number: what is asked of it is looked at.

``balance`` needs several data sets: tests/unit/test_several.py; ``loggers``:
tests/cli/test_loggers.py.
"""


def test_the_tables_have_every_option_of_the_engine():
    for section, values in VALUES.items():
        assert {*values} == {option.name for option in options_of(ENGINE[section])}


@pytest.fixture(scope="module")
def outcome_of(tmp_path_factory):
    """Return what can be seen of a run with further words."""
    sizes: list[int] = []
    seen: dict[str, object] = {}
    forward = EmbeddingModel.forward

    def counted(self, images, *rest):
        sizes.append(len(images))
        return forward(self, images, *rest)

    def outcome(words):
        if words in seen:
            return seen[words]
        run = tmp_path_factory.mktemp("runs") / "run"
        with pytest.MonkeyPatch.context() as patch:
            patch.syspath_prepend(SUPPORT)
            patch.setattr(EmbeddingModel, "forward", counted)
            sizes.clear()
            small = "" if "--backbone" in words else SMALL
            base = BASE.replace(TUPLES, "") if "--sampling.scheme" in words else BASE
            code = main([*f"{base} {small} {words}".split(), "--out", str(run)])
        seen[words] = (code, tuple(sizes), *written(run))
        return seen[words]

    return outcome


def written(run):
    """Return rows without what they took, results, and the weights of every checkpoint."""
    metrics = run / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    rows = [{k: v for k, v in json.loads(line).items() if "_s" not in k} for line in lines]
    results = run / "evaluation.json"
    yield rows
    yield results.read_text() if results.exists() else ""
    for path in sorted(run.glob("checkpoints/*.ckpt")):
        yield path.name
        for weights in torch.load(path, weights_only=True)["state_dict"].values():
            yield hashlib.sha256(weights.numpy().tobytes()).hexdigest()


@pytest.mark.walk
@pytest.mark.parametrize(
    ("option", "words"),
    [
        (f"--{section}.{name}", words)
        for section, values in VALUES.items()
        for name, words in values.items()
        if name not in NOT_RUN
    ],
)
def test_an_option_of_the_engine_has_an_effect(outcome_of, option, words):
    value, _, others = words.partition(" ")
    assert outcome_of(others) != outcome_of(f"{option} {value} {others}")


@pytest.mark.walk
def test_a_run_does_the_same_twice(outcome_of):
    """Else the comparisons above would see differences that no option made."""
    assert outcome_of("") == outcome_of(" ")


def test_options_of_the_machine_are_asked_of_it(tmp_path, monkeypatch, synthetic_plugin):
    asked = []
    loader = torch.utils.data.DataLoader.__init__

    def spied(self, *args, **options):
        asked.append(options.get("num_workers"))
        loader(self, *args, **{**options, "num_workers": 0})

    monkeypatch.setattr(torch.utils.data.DataLoader, "__init__", spied)
    monkeypatch.setattr(torch.nn.Module, "compile", lambda _: asked.append("compiled"))
    words = ["--training.num_workers", "3", "--training.compile", "true"]
    assert main([*BASE.split(), *words, "--out", str(tmp_path / "run")]) == 0
    assert {3, "compiled"} <= {*asked}
    several = Processes.of(TrainingOptions(devices=2, num_nodes=3))
    assert (several.devices, several.num_nodes, several.count) == (2, 3, 6)
