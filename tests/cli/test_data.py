"""``mlcore data check`` on a folder of images that the test makes."""

from __future__ import annotations

import json

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
    assert "these have: images" in capsys.readouterr().err
