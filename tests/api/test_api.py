"""``import mlcore`` alone: the command line's options, errors and results, from Python."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import mlcore
from mlcore.cli.main import main
from mlcore.options import python_options, resolve_run, run_from_toml, run_to_toml
from mlcore.registry.discovery import Registry

TINY = {
    "dataset": "synthetic",
    "model": {"width": 8, "embedding_dim": 16},
    "sampling": {"tuples_per_batch": 2, "near_per_tuple": 3, "far_per_tuple": 3},
    "training": {"max_steps": 2},
    "evaluation": {"dimensions": 8, "baselines": False},
}
SUPPORT = Path(__file__).parents[1] / "support"

pytestmark = pytest.mark.usefixtures("synthetic_plugin")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SUPPORT)
        return mlcore.train(**TINY, out=tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


def test_importing_mlcore_imports_no_torch():
    script = "import sys, mlcore; mlcore.load_run; print({'torch', 'numpy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_training_is_that_of_the_command_line(trained, tmp_path):
    words = [
        *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
        *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
        *("--sampling.far_per_tuple", "3", "--training.max_steps", "2"),
        *("--evaluation.dimensions", "8", "--evaluation.baselines", "false"),
    ]
    assert main(["train", *words, "--out", str(tmp_path / "run")]) == 0
    for name in ("config.toml", "evaluation.json", "model/weights.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (trained.path / name).read_bytes()


def test_results_are_records_of_the_table(trained):
    table = pd.DataFrame(trained.table())
    overall = table[table["condition"] == "all queries"].iloc[0]
    (evaluation,) = trained.evaluations
    assert overall["model"] == "trained"
    assert overall["queries"] == evaluation.num_queries() == 120
    assert overall["< 10 m"] == evaluation.accuracy(10.0)
    assert overall["median (m)"] == evaluation.median_error()
    assert list(table["condition"]) == [*evaluation.present_conditions, "all queries"]
    shown = str(trained)
    assert f"{100 * evaluation.accuracy(10.0):.1f}" in shown
    assert repr(trained) == (
        f"<RunResult of {trained.path}: trained; print it, or see .table()>"
    )


def test_a_notebook_shows_tables_and_curves(trained):
    shown = trained._repr_html_()
    assert "all queries" in shown
    assert "data:image/png;base64,iVBOR" in shown
    assert "<html>" not in shown


def test_a_run_that_is_not_evaluated_has_an_empty_table(tmp_path):
    options = {**TINY, "training": {"max_steps": 1, "evaluate": False}}
    options["evaluation"] = {"dimensions": 8}
    run = mlcore.train(**options, out=tmp_path / "run")
    assert run.table() == []
    assert "not evaluated" in str(run)
    assert "not evaluated" in run._repr_html_()
    assert run.load().info.step == 1


def test_evaluating_again_takes_the_options_of_the_command(trained, tmp_path):
    again = mlcore.evaluate(trained.path, out=tmp_path / "same.json", baselines=False)
    assert again.table() == trained.table()
    other = mlcore.evaluate(
        trained.path, split="validation", whitening=None, evaluation={"recall_at": (1, 3)}
    )
    assert other.file.parent == trained.path / "evaluations"
    assert {one.whitening for one in other.evaluations} == {"none"}
    assert other.evaluations[0].protocol.recall_at == (1, 3)


def test_a_run_goes_on_from_python(trained, tmp_path):
    shutil.copytree(trained.path, tmp_path / "run")
    longer = mlcore.train(
        resume=tmp_path / "run", training={"max_steps": 3}, accept_changes=["config"]
    )
    assert longer.load().info.step == 3
    straight = mlcore.train(
        **{**TINY, "training": {"max_steps": 3, "schedule": "constant"}}, out=tmp_path / "b"
    )
    assert straight.load().info.step == 3


def test_a_comparison_has_a_record_for_each_loss_and_seed(tmp_path, capsys):
    found = mlcore.compare(
        ["proposed", "triplet"],
        out=tmp_path / "c",
        seeds=[0, 1],
        vary={"influence.cutoff_m": [10]},
        **TINY,
    )
    table = pd.DataFrame(found.table())
    assert list(zip(table["loss"], table["seed"], strict=True)) == [
        ("proposed cutoff_m=10", 0),
        ("proposed cutoff_m=10", 1),
        ("triplet", 0),
        ("triplet", 1),
        ("untrained", 0),
        ("untrained", 1),
        ("pixels", 0),
        ("pixels", 1),
    ]
    assert [entry.name for entry in found.entries] == list(table["loss"].unique())
    assert str(found).strip().startswith("Top-1 localization accuracy")
    written = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert [one["name"] for one in written["entries"]] == list(table["loss"].unique())
    assert "data:image/png" in found._repr_html_()
    assert "proposed cutoff_m=10, triplet, untrained, pixels;" in repr(found)


def test_several_data_sets_are_a_list_of_tables(tmp_path):
    tables = [
        {"name": "images", "root": tmp_path / "a", "accept_faults": ["coarse-grid"]},
        {"name": "images", "root": tmp_path / "b", "table": None},
    ]
    registry = Registry.discover()
    config = resolve_run(python_options({"dataset": tables}), registry)
    first, second = config.dataset.options.parts
    assert (first.options.root, second.options.root) == (tmp_path / "a", tmp_path / "b")
    assert first.options.accept_faults == ("coarse-grid",)
    file = tmp_path / "run.toml"
    file.write_text(run_to_toml(config))
    assert run_from_toml(file, registry) == config
    with pytest.raises(
        mlcore.DataError, match=r"^data set 'images 1': dataset.root is .*a, wh"
    ):
        mlcore.train(dataset=tables, out=tmp_path / "run")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: mlcore.train(dataset=["images"]),
            "dataset=[...] number 1 must be a table with",
        ),
        (
            lambda: mlcore.train(dataset=[{"name": "streets", "town_seed": torch}] * 2),
            "dataset.1.town_seed=<module 'torch'",
        ),
        (lambda: mlcore.train(loss="tripled"), "unknown loss 'tripled'; did you mean"),
        (
            lambda: mlcore.train(loss={"betta": 2.0}),
            "'--loss.betta'; did you mean '--loss.beta",
        ),
        (lambda: mlcore.train(training={"max_steps": 1.5}), "max_steps: expected int, got 1.5"),
        (
            lambda: mlcore.train(training={"max_steps": 0}),
            "--training.max_steps must be between 1 and",
        ),
        (lambda: mlcore.train(traning={"max_steps": 1}), "did you mean '--training.max_steps'"),
        (lambda: mlcore.train(loss=torch.nn.ReLU()), "loss=ReLU() is a ReLU"),
        (
            lambda: mlcore.train(accept_changes=["data"]),
            "accept_changes only works with resume",
        ),
        (lambda: mlcore.compare(["triplet", "triplet"], out="c"), "contains a value twice"),
        (lambda: mlcore.compare(["triplet"], out="c", seeds=[0.5]), "argument --seeds"),
        (lambda: mlcore.load_run("nowhere"), "no run folder at nowhere"),
        (lambda: mlcore.evaluate("nowhere"), "no run folder at nowhere"),
    ],
)
def test_errors_are_those_of_the_command_line(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(mlcore.MlcoreError) as raised:
        call()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_the_data_set_and_its_plugin_may_be_gone(trained, photos, tmp_path, monkeypatch):
    shutil.move(shutil.copytree(trained.path, tmp_path / "a"), tmp_path / "robot")
    shutil.rmtree(tmp_path / "robot" / "checkpoints")
    monkeypatch.delenv("PYTHONPATH")
    there = mlcore.load_run(tmp_path / "robot", block=["synthetic", "soft-contrastive"])
    assert np.array_equal(there.embed(photos), trained.load().embed(photos))
    assert there.info.dimensions == 8
    assert repr(there).endswith("8 dimensions, whitening train, step 2>")


def test_every_form_of_an_image_has_the_same_embedding(trained, photos):
    run = trained.load()
    paths = sorted(photos.iterdir())
    pictures = [Image.open(path) for path in paths]
    arrays = np.stack([np.asarray(picture) for picture in pictures])
    tensors = torch.tensor(arrays).permute(0, 3, 1, 2)
    expected = run.embed(photos)
    assert expected.shape == (4, 8)
    assert expected.dtype == np.float32
    bgr = arrays[..., ::-1]
    for form in (
        paths,
        [str(path) for path in paths],
        (path for path in paths),
        pictures,
        arrays,
        tensors,
        list(arrays),
        list(tensors),
        [paths[0], pictures[1], arrays[2:], []],
        bgr[..., ::-1],
    ):
        assert np.array_equal(run.embed(form), expected)
    np.testing.assert_allclose(run.embed(pictures[2]), expected[2:3], atol=1e-4)
    assert run.embed([]).shape == (0, 8)
    raw = run.embed(photos, whiten=False)
    assert raw.shape == (4, 16)
    assert np.array_equal(run.whitening(raw), expected)
    with torch.inference_mode():
        size = run.info.input_size
        assert run.model(torch.zeros(2, 3, *size, dtype=torch.uint8)).shape == (2, 16)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (3.0, "images must be paths, Pillow images, NumPy arrays or tensors, got float"),
        (np.zeros((4, 4)), "an array of images must be (H, W, 3) or (N, H, W, 3), got (4, 4)"),
        (np.zeros((3, 4, 8), np.uint8), "must be (H, W, 3) or (N, H, W, 3), got (3, 4, 8)"),
        (np.zeros((4, 4, 3)), "an array of images must be uint8, 0 to 255, got float64"),
        (torch.zeros(3, 4, 4), "a tensor of images must be uint8, 0 to 255, got float32"),
        (torch.zeros(4, 4, 3, dtype=torch.uint8), "must be (3, H, W) or (N, 3, H, W), got"),
        (torch.zeros(3, 0, 4, dtype=torch.uint8), "(3, 0, 4)"),
        (Image.new("F", (4, 4)), "a Pillow image cannot be used: its pixels are"),
        ("nowhere.jpg", "no image at nowhere.jpg"),
        (["a.png", 3], "got int"),
        (b"bytes", "got bytes"),
    ],
)
def test_what_is_no_image_is_refused(trained, images, message):
    with pytest.raises(mlcore.DataError) as raised:
        trained.load().embed(images)
    assert message in str(raised.value)


def test_a_map_is_searched_as_by_the_command(trained, photos, tmp_path, capsys):
    made = tmp_path / "map"
    assert main(["index", str(trained.path), "--images", str(photos), "--out", str(made)]) == 0
    capsys.readouterr()
    query = str(photos / "2.png")
    assert main(["localize", str(made), query, "--top", "2", "--json"]) == 0
    ((expected,),) = [one["matches"][:1] for one in json.loads(capsys.readouterr().out)]
    for found in (
        trained.load().localize(query, made, top=2),
        trained.load().localize([query], [made], top=2),
        mlcore.load_run(made).localize(query, top=2),
    ):
        assert len(found) == 1
        assert found[0][0].image == "2.png"
        first, second = found.table()
        assert first == {"query": query, "rank": 1, "confidence": "sure", **expected}
        assert (second["rank"], second["confidence"]) == (2, None)
        assert [answer.confidence for answer in found.answers] == ["sure"]
        assert "2.png" in str(found)
        assert "2.png" in found._repr_html_()
    assert repr(found) == "<Matches of 1 images; print it, or see .table()>"


def test_bad_maps_are_refused(trained, photos, tmp_path):
    run = trained.load()
    with pytest.raises(mlcore.ConfigError, match=r"localize needs maps=\.\.\."):
        run.localize(photos)
    with pytest.raises(mlcore.DataError, match="photos is not a map"):
        run.localize(photos, photos)
    other = mlcore.train(**TINY, seed=1, out=tmp_path / "other")
    made = tmp_path / "map"
    assert main(["index", str(other.path), "--images", str(photos), "--out", str(made)]) == 0
    with pytest.raises(mlcore.DataError, match="was made with another model than"):
        run.localize(photos, made)
    with pytest.raises(mlcore.ConfigError, match="top must be at least 1, got 0"):
        run.localize(photos, made, top=0)
