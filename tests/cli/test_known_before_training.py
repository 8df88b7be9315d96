"""What the data set alone decides is said before torch is imported, not after training."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from mlcore.cli.main import main

TINY = [
    *("--dataset.references", "condition=day", "--model", "small-cnn", "--model.width", "8"),
    *("--model.embedding_dim", "16", "--model.longest_side_px", "48"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.max_steps", "2"),
    *("--training.log_every", "1", "--evaluation.dimensions", "8"),
    *("--evaluation.baselines", "false"),
]
PROGRAM = """
import sys
from mlcore.cli.main import main
code = main(sys.argv[1:])
print("torch" in sys.modules)
sys.exit(code)
"""


def write_route(folder, *, far=0, split="{}", shapes=((64, 48),)):
    """40 places 4 m apart by day and by night, the first half to train on."""
    folder.mkdir()
    noise = np.random.default_rng(0)
    rows = ["path,easting_m,northing_m,condition,split"]
    for condition in ("day", "night"):
        for place in range(40):
            size = shapes[place % len(shapes)]
            pixels = noise.integers(0, 255, (6, 8, 3)).astype(np.uint8)
            name = f"{condition}_{place:02}.png"
            Image.fromarray(pixels).resize(size).save(folder / name)
            east = 458_000 + 4 * place + (9_000 if place < far else 0)
            part = "train" if place < 20 else "test"
            rows.append(f"{name},{east},5550000,{condition},{split.format(part)}")
    (folder / "positions.csv").write_text("\n".join(rows) + "\n")
    return folder


def run(*words):
    """Run a command; returns its exit code, last line of stderr, and whether torch came in."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert "Traceback" not in done.stderr
    said = done.stderr.splitlines()
    return done.returncode, said[-1], done.stdout.splitlines()[-1] == "True"


def commands(folder, out):
    data = ["--dataset", "images", "--dataset.root", folder, *TINY, "--out", out]
    yield ["train", *data]
    yield ["compare", "--losses", "proposed,triplet", *data]


CASES = {
    "no queries": (["--dataset.references", "*"], "has no queries"),
    "no test": (["--dataset.test", "condition=fog"], "condition=fog"),
    "wrong table": (["--dataset.table", "nowhere.csv"], "nowhere.csv does not exist"),
    "wrong folder": (["--dataset.root", "/nowhere"], "/nowhere"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_data_set_that_cannot_be_evaluated(tmp_path, case):
    words, message = CASES[case]
    folder = write_route(tmp_path / "data")
    for number, command in enumerate(commands(folder, tmp_path / "out")):
        code, last, torch_imported = run(*command, *words)
        assert (code, torch_imported) == (2, False), command[0]
        assert message in last
        assert last.startswith("mlcore: error: "), number
    assert not (tmp_path / "out" / "checkpoints").exists()


@pytest.mark.parametrize("name", ["day_03.png", "night_39.png"])
def test_an_image_file_that_is_missing(tmp_path, name):
    folder = write_route(tmp_path / "data")
    (folder / name).unlink()
    for command in commands(folder, tmp_path / "out"):
        code, last, torch_imported = run(*command)
        assert (code, torch_imported) == (2, False), command[0]
        assert f"1 of 20 image files checked are missing, the first is {folder}" in last
        assert name in last
        assert "--training.skip_unreadable true" in last


@pytest.mark.parametrize("dataset", ["images", "robotcar", "pittsburgh"])
def test_a_wrong_root_of_every_data_set(tmp_path, dataset):
    words = ["--dataset", dataset, "--dataset.root", tmp_path / "nowhere"]
    code, last, torch_imported = run("train", *words, "--out", tmp_path / "out")
    assert (code, torch_imported) == (2, False)
    assert str(tmp_path / "nowhere") in last


@pytest.mark.slow
def test_faults_stop_train_compare_and_evaluate_until_they_are_accepted(tmp_path):
    folder, out = write_route(tmp_path / "data", far=4), tmp_path / "out"
    for command in commands(folder, out):
        code, last, torch_imported = run(*command)
        assert (code, torch_imported) == (2, False), command[0]
        assert "[far-rows]" in last
        assert "day_00.png" in last
        assert "--dataset.accept_faults far-rows" in last
    out = tmp_path / "accepted"
    words = ["train", "--dataset", "images", "--dataset.root", folder, *TINY, "--out", out]
    assert run(*words, "--dataset.accept_faults", "far-rows")[0] == 0
    assert 'accept_faults = [\n    "far-rows",\n]' in (out / "config.toml").read_text()
    notes = json.loads((out / "environment.json").read_text())["notes"]
    assert any(
        note.startswith("accepted by dataset.accept_faults [far-rows]") for note in notes
    )
    assert run("report", out, "--explained", "0", "--pictures", "0")[0] == 0
    page = (out / "report.html").read_text()
    assert "accepted by dataset.accept_faults [far-rows]" in page
    code, last, _ = run("evaluate", out, "--dataset.accept_faults", "")
    assert code == 2
    assert "[far-rows]" in last
    assert run("evaluate", out)[0] == 0


def test_a_name_that_no_fault_has(tmp_path):
    folder = write_route(tmp_path / "data")
    command = next(commands(folder, tmp_path / "out"))
    code, last, _ = run(*command, "--dataset.accept_faults", "far-row")
    assert code == 2
    assert "'far-row'" in last
    assert "did you mean 'far-rows'" in last


@pytest.mark.parametrize(
    ("shapes", "size", "noted"),
    [
        # The first image is not the typical one.
        ([(48, 64), *[(64, 48)] * 19], "64 48", False),
        pytest.param([(64, 48)], "64 48", False, marks=pytest.mark.slow),
        # One too small to be a model's input has no say.
        ([(1, 1), *[(64, 48)] * 19], "64 48", False),
        pytest.param([(400, 2), *[(64, 48)] * 19], "64 48", False, marks=pytest.mark.slow),
        # A third is letterboxed whatever the size.
        ([(64, 48), (64, 48), (48, 64)], "64 48", True),
        pytest.param([(48, 64), (64, 48), (48, 64)], "48 64", True, marks=pytest.mark.slow),
    ],
)
def test_the_typical_image_decides_the_input(tmp_path, shapes, size, noted):
    folder, out = write_route(tmp_path / "data", shapes=shapes), tmp_path / "out"
    words = ["train", "--dataset", "images", "--dataset.root", folder, *TINY, "--out", out]
    assert run(*words, "--model.longest_side_px", "64")[0] == 0
    config = (out / "config.toml").read_text()
    width, height = size.split()
    assert f"input_width_px = {width}\n" in config
    assert f"input_height_px = {height}\n" in config
    notes = json.loads((out / "environment.json").read_text())["notes"]
    assert any("are letterboxed" in note for note in notes) == noted


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is there")
def test_a_gpu_that_is_not_there_is_one_sentence(tmp_path, capsys, synthetic_plugin):
    words = ["--dataset", "synthetic", "--training.accelerator", "gpu"]
    assert main(["train", *words, "--out", str(tmp_path / "run")]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        "mlcore: error: --training.accelerator gpu needs a GPU, and PyTorch finds none; use auto "
        "or cpu"
    )
    assert not (tmp_path / "run").exists()
