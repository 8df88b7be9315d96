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
    *("--training.log_every", "1"),
]
EVALUATED = ["--evaluation.dimensions", "8", "--evaluation.baselines", "false"]
ONLY_TRAINED = ["--training.evaluate", "false", "--evaluation.whitening", "none"]
PROGRAM = """
import contextlib, io, json, sys
from mlcore.cli.main import main
for words in json.load(sys.stdin):
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(words)
    print(json.dumps([code, said.getvalue(), "torch" in sys.modules]))
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


def run(*commands):
    """Run commands one after the other in a fresh process; return the last line of each.

    Each must end with exit code 2 before torch is imported.
    """
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=json.dumps([[str(word) for word in command] for command in commands]),
        capture_output=True,
        text=True,
        timeout=200,
        check=True,
    )
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == len(commands)
    for command, (code, said, torch_imported) in zip(commands, results, strict=True):
        assert (code, torch_imported) == (2, False), (command, said)
        assert "Traceback" not in said
    return [said.splitlines()[-1] for _, said, _ in results]


def mlcore(*words):
    return main([str(word) for word in words])


def commands(folder, out):
    data = ["--dataset", "images", "--dataset.root", folder, *TINY, *EVALUATED, "--out", out]
    yield ["train", *data]
    yield ["compare", "--losses", "proposed,triplet", *data]


CASES = {
    "no queries": (["--dataset.references", "*"], "has no queries"),
    "no test": (["--dataset.test", "condition=fog"], "condition=fog"),
    "wrong table": (["--dataset.table", "nowhere.csv"], "nowhere.csv does not exist"),
    "wrong folder": (["--dataset.root", "/nowhere"], "/nowhere"),
}


def test_a_data_set_that_cannot_be_evaluated(tmp_path):
    folder = write_route(tmp_path / "data")
    asked = [
        ([*command, *words], message)
        for words, message in CASES.values()
        for command in commands(folder, tmp_path / "out")
    ]
    errors = run(*(words for words, _ in asked))
    for (words, message), last in zip(asked, errors, strict=True):
        assert message in last, words
        assert last.startswith("mlcore: error: "), words
    assert not (tmp_path / "out" / "checkpoints").exists()


def test_an_image_file_that_is_missing(tmp_path):
    asked = []
    for name in ("day_03.png", "night_39.png"):
        folder = write_route(tmp_path / name)
        (folder / name).unlink()
        asked += [(words, folder, name) for words in commands(folder, tmp_path / "out")]
    errors = run(*(words for words, _, _ in asked))
    for (_, folder, name), last in zip(asked, errors, strict=True):
        assert f"1 of 20 image files checked are missing, the first is {folder}" in last
        assert name in last
        assert "--training.skip_unreadable true" in last


def test_a_wrong_root_of_every_data_set(tmp_path):
    names = ("images", "robotcar", "pittsburgh")
    root = ["--dataset.root", tmp_path / "nowhere", "--out", tmp_path / "out"]
    errors = run(*(["train", "--dataset", name, *root] for name in names))
    for name, last in zip(names, errors, strict=True):
        assert str(tmp_path / "nowhere") in last, name


def test_faults_stop_train_compare_and_evaluate_until_they_are_accepted(tmp_path, capsys):
    folder = write_route(tmp_path / "data", far=4)
    for last in run(*commands(folder, tmp_path / "out")):
        assert "[far-rows]" in last
        assert "day_00.png" in last
        assert "--dataset.accept_faults far-rows" in last
    out = tmp_path / "accepted"
    words, _ = commands(folder, out)
    assert mlcore(*words, "--dataset.accept_faults", "far-rows") == 0
    assert 'accept_faults = [\n    "far-rows",\n]' in (out / "config.toml").read_text()
    notes = json.loads((out / "environment.json").read_text())["notes"]
    assert any(
        note.startswith("accepted by dataset.accept_faults [far-rows]") for note in notes
    )
    assert mlcore("report", out, "--explained", "0", "--pictures", "0") == 0
    page = (out / "report.html").read_text()
    assert "accepted by dataset.accept_faults [far-rows]" in page
    assert mlcore("evaluate", out, "--dataset.accept_faults", "") == 2
    assert "[far-rows]" in capsys.readouterr().err.splitlines()[-1]
    assert mlcore("evaluate", out) == 0


def test_a_name_that_no_fault_has(tmp_path, capsys):
    words, _ = commands(write_route(tmp_path / "data"), tmp_path / "out")
    assert mlcore(*words, "--dataset.accept_faults", "far-row") == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "'far-row'" in last
    assert "did you mean 'far-rows'" in last


@pytest.mark.parametrize(
    ("shapes", "size", "noted"),
    [
        # The first image is not the typical one.
        ([(48, 64), *[(64, 48)] * 19], "64 48", False),
        ([(64, 48)], "64 48", False),
        # One too small to be a model's input has no say.
        ([(1, 1), *[(64, 48)] * 19], "64 48", False),
        ([(400, 2), *[(64, 48)] * 19], "64 48", False),
        # A third is letterboxed whatever the size.
        ([(64, 48), (64, 48), (48, 64)], "64 48", True),
        ([(48, 64), (64, 48), (48, 64)], "48 64", True),
    ],
)
def test_the_typical_image_decides_the_input(tmp_path, shapes, size, noted):
    folder, out = write_route(tmp_path / "data", shapes=shapes), tmp_path / "out"
    words = ["--dataset", "images", "--dataset.root", folder, *TINY, *ONLY_TRAINED]
    assert mlcore("train", *words, "--model.longest_side_px", "64", "--out", out) == 0
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
