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
    split = ["--dataset.train", "frame=0..3", "--dataset.test", "frame=4..5"]
    split += ["--dataset.queries", "frame=5..5"]
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


def test_data_without_queries_are_a_fault_as_train_finds_them(capsys, photos):
    words = ["data", "check", "images", "--root", str(photos), "--train=*", "--json"]
    assert main(words) == 1
    report = json.loads(capsys.readouterr().out)
    (fault,) = [one for one in report["findings"] if one["severity"] == "fault"]
    assert fault["message"].startswith("test has no references and no queries")


def test_a_data_set_without_a_check_of_its_own_is_checked_as_any_other(capsys):
    town = [f"--{part}_length_m=60" for part in ("train", "validation", "test")]
    size = ["--image_width_px=32", "--image_height_px=32", "--num_processes=1"]
    assert main(["data", "check", "streets", *town, *size, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["facts"]["test: queries"] > 0
    assert not [one for one in report["findings"] if one["severity"] != "info"]


def test_a_map_of_data_that_do_not_open_leaves_the_report(capsys, tmp_path):
    words = ["data", "check", "images", "--root", str(tmp_path), "--json"]
    assert main([*words, "--map", str(tmp_path / "map.png")]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [one["message"].partition(":")[0] for one in report["findings"]][1] == (
        "no map was drawn"
    )
    assert not (tmp_path / "map.png").exists()


def test_a_sample_is_decoded_or_all(capsys, photos, monkeypatch):
    monkeypatch.setattr("mlcore.data.checks.NUM_DECODED", 2)
    (photos / "3.jpg").write_bytes(b"no image")
    assert check(photos) == 0
    assert check(photos, "--full") == 1
    assert "3.jpg" in capsys.readouterr().out


def test_a_map_of_the_positions(capsys, photos, tmp_path):
    assert check(photos, "--map", str(tmp_path / "map.png")) == 0
    assert "positions of 6 images" in capsys.readouterr().err
    with Image.open(tmp_path / "map.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    blue = np.abs(pixels - (0, 114, 178)).max(axis=2) < 40
    assert blue.sum() > 4 * 50


def test_a_bare_name_and_its_options(capsys, photos):
    words = ["data", "check", "images", "--root", str(photos), "--train=frame=0..3"]
    words += ["--test=frame=4..5"]
    assert main([*words, "--queries", "frame=5..5", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["train: references"] == 4
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
