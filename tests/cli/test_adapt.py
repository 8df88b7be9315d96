"""Training on a map of one's own, with or without queries to evaluate on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlcore.cli.main import main

REPOSITORY = Path(__file__).parents[2]
SENECA = REPOSITORY / "examples" / "seneca"
QUICK = (
    *("--model", "small-cnn", "--model.longest_side_px", "64", "--model.embedding_dim", "8"),
    *("--training.max_steps", "2", "--training.num_workers", "0"),
)


@pytest.fixture
def config(tmp_path):
    """The example without its pretrained backbone."""
    text = (REPOSITORY / "examples" / "adapt.toml").read_text()
    path = tmp_path / "adapt.toml"
    path.write_text(text.replace('[backbone]\nname = "efficientnet-lite0"\n', ""))
    return ["--config", str(path), "--dataset.root", str(SENECA), *QUICK]


def test_only_the_references_of_the_test_are_trained_on(config, tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", *config, "--evaluation.whitening", "train", "--out", str(out)]) == 0
    (one, *_) = json.loads((out / "evaluation.json").read_text())["evaluations"]
    assert one["protocol"]["num_references"] == 35
    assert one["whitening_images"] == 35, "whitening is fitted to the map too"
    capsys.readouterr()
    assert main(["evaluate", str(out), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["evaluations"]
    assert {entry["whitening_images"] for entry in again if entry["whitening"] == "train"} == {
        35
    }


def test_a_map_without_queries_trains_and_localizes(config, tmp_path, capsys):
    images = SENECA / "test" / "database"
    words = [*config, "--dataset.root", str(images), "--dataset.train", "*"]
    out = tmp_path / "run"
    assert main(["train", *words, "--training.images", "train", "--out", str(out)]) == 2
    assert "or set training.evaluate to false" in capsys.readouterr().err
    assert not out.exists()
    words += ["--training.images", "train", "--training.evaluate", "false", "--out", str(out)]
    assert main(["train", *words, "--evaluation.whitening", "references"]) == 2
    assert "choose train or none" in capsys.readouterr().err
    assert main(["train", *words, "--evaluation.whitening", "train"]) == 0
    assert not (out / "evaluation.json").exists()
    model = json.loads((out / "model" / "model.json").read_text())
    assert model["whitening"] == "train"
    made = tmp_path / "map"
    assert main(["index", str(out), "--split", "train", "--out", str(made)]) == 0
    assert "35 references, 35 of them with a position" in capsys.readouterr().out
    photograph = sorted(images.glob("*.jpg"))[3]
    assert main(["localize", str(made), str(photograph), "--json"]) == 0
    assert photograph.name in capsys.readouterr().out


def test_a_comparison_evaluates(config, tmp_path, capsys):
    words = [
        "compare",
        "--losses",
        "proposed,log-ratio",
        *config,
        "--training.evaluate",
        "false",
    ]
    assert main([*words, "--out", str(tmp_path / "compared")]) == 2
    assert "training.evaluate must be true" in capsys.readouterr().err
    assert not (tmp_path / "compared").exists()
