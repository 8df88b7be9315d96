"""``mlcore data check`` on a folder of images that the test makes."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from mlcore.cli.main import main


@pytest.fixture
def photos(tmp_path):
    rows = ["path,easting_m,northing_m,frame"]
    for frame in range(6):
        Image.new("RGB", (64, 32), (40 * frame, 90, 20)).save(tmp_path / f"{frame}.jpg")
        rows.append(f"{frame}.jpg,{458000 + 30 * frame}.5,5550000.25,{frame}")
    (tmp_path / "positions.csv").write_text("\n".join(rows) + "\n")
    return tmp_path


def check(photos, *words):
    split = ["--dataset.train", "frame=0..3", "--dataset.references", "frame=0..9"]
    return main(
        ["data", "check", "--dataset", "images", "--dataset.root", str(photos), *split, *words]
    )


def test_whole_data_pass(capsys, photos):
    assert check(photos) == 0
    assert "images" in capsys.readouterr().out


def test_a_missing_file_is_a_fault_named(capsys, photos):
    (photos / "2.jpg").unlink()
    assert check(photos, "--json") == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["ok"]
    faults = [one for one in report["findings"] if one["severity"] == "fault"]
    assert any("2.jpg" in name for one in faults for name in one["examples"])


def test_a_data_set_without_check_says_which_have_one(capsys):
    assert main(["data", "check", "--dataset", "streets"]) == 2
    assert "these do: images" in capsys.readouterr().err


def test_a_sample_is_decoded_or_all(capsys, photos, monkeypatch):
    monkeypatch.setattr("mlcore.data.checks.NUM_DECODED", 2)
    (photos / "3.jpg").write_bytes(b"no image")
    assert check(photos) == 0
    assert check(photos, "--full") == 1
    assert "3.jpg" in capsys.readouterr().out


def test_a_map_of_the_positions(capsys, photos, tmp_path):
    assert check(photos, "--map", str(tmp_path / "map.png")) == 0
    assert "positions of 4 images" in capsys.readouterr().err
    with Image.open(tmp_path / "map.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    blue = np.abs(pixels - (0, 114, 178)).max(axis=2) < 40
    assert blue.sum() > 4 * 50


def test_a_bare_name_and_its_options(capsys, photos):
    words = ["data", "check", "images", "--root", str(photos), "--train=frame=0..9"]
    assert main([*words, "--references", "frame=0..9", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["train: references"] == 6
    assert main(["data", "check", "images", "--rot", str(photos)]) == 2
    assert "did you mean '--dataset.root'" in capsys.readouterr().err
    assert main(["data", "check", "imges"]) == 2
    assert "did you mean 'images'" in capsys.readouterr().err


def test_what_needs_no_preparation_says_what_does(capsys, tmp_path):
    assert main(["data", "prepare", "streets", "--out", str(tmp_path)]) == 2
    assert "these do: robotcar" in capsys.readouterr().err
    assert main(["data", "prepare", "robotcar", "--root", str(tmp_path)]) == 2
    assert "--out is missing" in capsys.readouterr().err
    assert main(["data", "check", "streets", "--out", str(tmp_path)]) == 2
