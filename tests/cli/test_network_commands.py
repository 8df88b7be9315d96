"""What works with a named pair works with timm's networks, whatever the pooling.

Two processes are in test_processes.py.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from mlcore.cli.main import main
from mlcore.experiment import restore
from mlcore.registry.discovery import Registry
from mlcore.run_folder import RunFolder

pytest.importorskip("timm")

BACKBONES = {
    "vit": ["--backbone", "timm", "--backbone.model", "test_vit"],
    "lite0": ["--backbone", "efficientnet-lite0", "--training.batch_norm", "frozen"],
}
POOLINGS = {
    "gem": ["--pooling", "gem"],
    "salad": ["--pooling", "salad", "--pooling.num_clusters", "4", "--pooling.channels", "8"],
    "boq": ["--pooling", "boq", "--pooling.channels", "32", "--pooling.num_queries", "4"],
}
# Of these poolings only SALAD takes the token, which lite0 lacks.
NETWORKS = [
    pytest.param(("vit", "salad"), id="vit-salad"),
    pytest.param(("vit", "boq"), id="vit-boq", marks=pytest.mark.slow),
    pytest.param(("lite0", "gem"), id="lite0-gem", marks=pytest.mark.slow),
    pytest.param(("lite0", "salad"), id="lite0-salad", marks=pytest.mark.slow),
]
QUICK = [
    *("--dataset", "synthetic", "--model.weights", "none", "--evaluation.whitening", "none"),
    *("--sampling.near_per_tuple", "2", "--sampling.far_per_tuple", "2"),
    *("--training.checkpoint_every", "1"),
]
ONLY_TRAINED = ["--training.evaluate", "false"]


@pytest.fixture(scope="module", params=NETWORKS)
def words(request, module_synthetic_plugin):
    backbone, pooling = request.param
    return [*BACKBONES[backbone], *POOLINGS[pooling], *QUICK]


@pytest.fixture(scope="module")
def run(words, tmp_path_factory):
    """Return the folder of a run of two steps."""
    out = tmp_path_factory.mktemp("runs") / "run"
    argv = [*words, "--training.max_steps", "2", "--evaluation.baselines", "false"]
    assert main(["train", *argv, "--out", str(out)]) == 0
    return out


def weights(run):
    folder = RunFolder(run)
    return folder.load_checkpoint(folder.newest_checkpoint())["state_dict"]


def test_a_resumed_run_has_the_bits_of_one_that_never_stopped(run, tmp_path):
    stopped = tmp_path / "stopped"
    shutil.copytree(run, stopped)
    for path in (stopped / "checkpoints").iterdir():
        if "1" not in path.stem:
            path.unlink()
    assert main(["train", "--resume", str(stopped)]) == 0
    wanted, found = weights(run), weights(stopped)
    assert wanted.keys() == found.keys()
    assert all(torch.equal(wanted[name], found[name]) for name in wanted)


# A step of 64-bit SGD, whose size is the gradient's; AdamW makes rounding as large as the rest.
ONE_STEP = [
    *(*ONLY_TRAINED, "--training.max_steps", "1", "--training.precision", "64-true"),
    *("--training.optimizer", "sgd", "--training.learning_rate", "0.1"),
]


def test_chunks_give_the_plain_step(words, tmp_path):
    states = []
    for size in ("0", "2"):
        out = tmp_path / size
        argv = [*words, *ONE_STEP, "--training.chunk_size", size, "--out", str(out)]
        assert main(["train", *argv]) == 0
        states.append(weights(out))
    for name, wanted in states[0].items():
        torch.testing.assert_close(states[1][name], wanted, rtol=1e-6, atol=1e-9)


def test_bf16(words, tmp_path):
    out = tmp_path / "run"
    argv = [*ONLY_TRAINED, "--training.max_steps", "1", "--training.precision", "bf16-mixed"]
    assert main(["train", *words, *argv, "--out", str(out)]) == 0
    assert all(value.isfinite().all() for value in weights(out).values())


@pytest.mark.slow
@pytest.mark.parametrize("backbone", BACKBONES)
def test_compiled_training_is_the_plain_one(backbone, tmp_path, synthetic_plugin):
    """The backbone is compiled, whatever the pooling."""
    words = [*BACKBONES[backbone], *POOLINGS["gem"], *QUICK]
    states = []
    for compiled in ("false", "true"):
        out = tmp_path / compiled
        argv = [*words, *ONE_STEP, "--training.compile", compiled, "--out", str(out)]
        assert main(["train", *argv]) == 0
        states.append(weights(out))
    for name, wanted in states[0].items():
        torch.testing.assert_close(states[1][name], wanted, rtol=1e-6, atol=1e-8)


def test_localize_embed_tsne_explain_report_sweep(run, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((32, 48, 3), 90, dtype=np.uint8)).save(photo)
    assert main(["localize", str(run), str(photo), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)
    for command in (
        ["embed", "--out", str(tmp_path / "e.parquet")],
        ["tsne", "--method", "pca", "--out", str(tmp_path / "t.png")],
        ["explain", "--out", str(tmp_path / "explained.png")],
        ["report"],
        ["sweep", "--dimensions", "4,8", "--whitening", "references"],
    ):
        assert main([command[0], str(run), *command[1:]]) == 0, command
    assert (tmp_path / "e.parquet").stat().st_size > 0
    assert (tmp_path / "explained.png").stat().st_size > 0


def test_the_trained_network_is_restored(run):
    _, model = restore(RunFolder(run), Registry.discover())
    wanted = weights(run)
    for name, value in model.state_dict().items():
        assert torch.equal(wanted[f"model.{name}"], value)
