"""``mlcore data draft``: from a folder of photographs to a table that opens without a warning."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlcore.cli.main import main
from mlcore_images.config import ImagesConfig
from mlcore_images.dataset import open_images
from tests.support.image_folders import save

SENECA = Path(__file__).parents[2] / "examples" / "seneca"
DEGREES_PER_M = 1 / 111_195


def photograph(path, north_m, east_m, *, at=(47.37, 8.54), taken="", heading=None):
    exif = Image.Exif()
    latitude = at[0] + north_m * DEGREES_PER_M
    longitude = at[1] + east_m * DEGREES_PER_M / np.cos(np.radians(at[0]))
    exif.get_ifd(0x8825).update({1: "N", 2: parts(latitude), 3: "E", 4: parts(longitude)})
    if heading is not None:
        exif.get_ifd(0x8825)[17] = heading
    if taken:
        exif.get_ifd(0x8769)[0x9003] = taken
    save(path, (int(north_m) % 256, int(east_m) % 256, 9), (16, 12), exif=exif)


def parts(degrees):
    minutes = degrees * 60 % 60
    return (float(int(degrees)), float(int(minutes)), minutes * 60 % 60)


def walk(folder, num=60, *, day="01", step_m=8.0, aside_m=0.0, **options):
    """A straight walk; one photograph per ten seconds."""
    for i in range(num):
        taken = f"2024:05:{day} 10:{i * 10 // 60:02d}:{i * 10 % 60:02d}"
        photograph(folder / f"{i:03d}.jpg", aside_m, i * step_m, taken=taken, **options)


def draft(folder, out, capsys, *words):
    assert main(["data", "draft", str(folder), "--out", str(out), "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)


def warnings_of(folder, table, capsys):
    words = ["--dataset.root", str(folder), "--dataset.table", str(table), "--json"]
    assert main(["data", "check", "images", *words]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    return [one["message"] for one in found if one["severity"] != "info"]


def rows_of(table):
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


def apart_m(folder, table):
    """The least distance of images of two splits."""
    data = open_images(ImagesConfig(root=folder, table=table))
    positions = [
        np.concatenate([split.references.positions_m, split.queries.positions_m])
        for split in data.splits.values()
    ]
    return min(
        np.linalg.norm(one[:, None] - other, axis=2).min(initial=np.inf)
        for k, one in enumerate(positions)
        for other in positions[k + 1 :]
    )


def test_an_example_of_photographs(tmp_path, capsys):
    table, picture = tmp_path / "positions.csv", tmp_path / "map.png"
    report = draft(SENECA, table, capsys, "--map", str(picture))
    assert warnings_of(SENECA, table, capsys) == []
    assert apart_m(SENECA, table) > 25
    rows = rows_of(table)
    assert len(rows) == report["facts"]["images with a position"] == 150
    assert rows[0]["timestamp"].startswith("2013-06-04T13:")
    for split, least in {"train": 60, "validation": 5, "test": 20}.items():
        roles = [row["role"] for row in rows if row["split"] == split]
        assert len(roles) >= least
        assert roles.count("query") == report["facts"][f"{split}: queries"] > 0
    assert sum(not row["split"] for row in rows) == report["facts"]["left out at the edges"]
    assert "table decides" in " ".join(one["message"] for one in report["findings"])
    with Image.open(picture) as image:
        assert image.size[0] > 400


def test_two_visits_with_headings_and_what_has_none(tmp_path, capsys):
    folder, table = tmp_path / "photos", tmp_path / "p.csv"
    walk(folder / "first", heading=90.0)
    walk(folder / "again", day="09", aside_m=3.0, heading=270.0)
    save(folder / "again" / "indoors.jpg")
    report = draft(folder, table, capsys)
    assert warnings_of(folder, table, capsys) == []
    (without,) = [one for one in report["findings"] if one["severity"] == "warning"]
    assert (without["count"], without["examples"]) == (1, ["again/indoors.jpg"])
    rows = rows_of(table)
    assert len(rows) == 120
    assert {row["heading_deg"] for row in rows} == {"90", "270"}
    # Whoever came later is the query, wherever a reference of the split is near.
    used = [row for row in rows if row["split"]]
    assert {row["path"].split("/")[0] for row in used if row["role"] == "query"} == {"again"}
    assert {row["path"].split("/")[0] for row in used if row["role"] == "reference"} == {
        "first"
    }
    data = open_images(ImagesConfig(root=folder, table=table))
    positions_m = np.concatenate([s.references.positions_m for s in data.splits.values()])
    # Of 60 photographs in 472 m, the edges hold those less than 25 m from the next split.
    assert len(positions_m) == 60 - 2 * 3
    steps_m = np.diff(np.sort(positions_m[:, 0]))
    np.testing.assert_allclose(sorted(steps_m)[-2:], 32, atol=0.1)
    np.testing.assert_allclose(sorted(steps_m)[:-2], 8, atol=0.1)


@pytest.mark.parametrize("other", [(46.95, 7.45), (35.69, 139.69)], ids=["95 km", "9600 km"])
def test_two_towns_are_regions_and_each_is_cut(tmp_path, capsys, other):
    folder, table = tmp_path, tmp_path / "p.csv"
    for town, at in {"zurich": (47.37, 8.54), "other": other}.items():
        for day in ("01", "02"):
            walk(folder / town / day, day=day, at=at)
    report = draft(folder, table, capsys)
    assert report["facts"]["regions"] == 2
    assert warnings_of(folder, table, capsys) == []
    for code in ("1", "2"):
        inside = [row for row in rows_of(table) if row["region"] == code]
        assert {row["path"].split("/")[0] for row in inside} in ({"zurich"}, {"other"})
        assert {row["split"] for row in inside} == {"", "train", "validation", "test"}


def test_an_image_far_from_all_is_left_out(tmp_path, capsys):
    walk(tmp_path / "1")
    walk(tmp_path / "2", day="02")
    photograph(tmp_path / "1" / "wrong.jpg", 40_000, 0, taken="2024:05:01 10:30:00")
    report = draft(tmp_path, tmp_path / "p.csv", capsys)
    (far,) = [one for one in report["findings"] if "far from all" in one["message"]]
    assert far["examples"] == ["1/wrong.jpg"]
    assert warnings_of(tmp_path, tmp_path / "p.csv", capsys) == []


def test_one_visit_has_no_query_and_says_so(tmp_path, capsys):
    walk(tmp_path, num=40)
    report = draft(tmp_path, tmp_path / "p.csv", capsys)
    assert report["facts"]["test: queries"] == 0
    (said,) = [one["message"] for one in report["findings"] if one["severity"] == "warning"]
    assert "no place was photographed again within 10 m" in said


def test_without_dates_names_are_the_order(tmp_path, capsys):
    for visit in ("a", "b"):
        for i in range(40):
            photograph(tmp_path / f"{visit}{i:02d}.jpg", 0, 8 * i)
    report = draft(tmp_path, tmp_path / "p.csv", capsys)
    assert any("order of names" in one["message"] for one in report["findings"])
    queries = [row["path"] for row in rows_of(tmp_path / "p.csv") if row["role"] == "query"]
    assert queries
    assert all(name.startswith("b") for name in queries)
    assert warnings_of(tmp_path, tmp_path / "p.csv", capsys) == []


def test_positions_alone(tmp_path, capsys):
    photograph(tmp_path / "only.jpg", 0, 0)
    report = draft(tmp_path, tmp_path / "p.csv", capsys, "--test", "0", "--validation", "0")
    assert list(rows_of(tmp_path / "p.csv")[0]) == ["path", "latitude", "longitude"]
    assert report["facts"] == {"images with a position": 1}


def none_has_exif(folder):
    save(folder / "a.jpg")
    save(folder / "b.jpg")


def one_image(folder):
    photograph(folder / "a.jpg", 0, 0)


def all_at_one_point(folder):
    for i in range(30):
        photograph(folder / f"{i}.jpg", 0, 0)


@pytest.mark.parametrize(
    ("make", "words", "said"),
    [
        (none_has_exif, (), "the 2 images in .* have no positions: looked for EXIF GPS"),
        (
            one_image,
            (),
            r"with a position in .* \(1\) cover 0 x 0 m, too little for a test 25 m from",
        ),
        (all_at_one_point, (), r"\(30\) cover 0 x 0 m, too little for a test"),
        (one_image, ("--test", "0.6"), "test must be between 0 and 0.5, got 0.6"),
        (one_image, ("--test", "0"), "validation is 0.1 and test is 0; set both"),
        (one_image, ("--buffer_m", "0"), "buffer_m must be greater than 0, got 0"),
        (one_image, ("--bufer_m", "3"), "'--bufer_m'; did you mean '--buffer_m'?"),
        (one_image, ("--dataset", "streets"), "drafts no table; these do: images"),
        (one_image, ("--map", "no/such/folder.png"), "--map no/such/folder.png: the folder"),
    ],
)
def test_what_cannot_be_drafted_writes_nothing(tmp_path, capsys, make, words, said):
    make(tmp_path / "photos")
    table = tmp_path / "p.csv"
    assert main(["data", "draft", str(tmp_path / "photos"), "--out", str(table), *words]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert re.search(said, message), message
    assert not table.exists()


@pytest.mark.parametrize("flag", ["--out", "--map"])
def test_nothing_is_overwritten(tmp_path, capsys, flag):
    walk(tmp_path / "photos")
    files = {"--out": tmp_path / "p.csv", "--map": tmp_path / "m.png"}
    files[flag].write_text("mine")
    words = [word for name, file in files.items() for word in (name, str(file))]
    assert main(["data", "draft", str(tmp_path / "photos"), *words]) == 2
    assert "already exists" in capsys.readouterr().err
    assert [file.exists() for file in files.values()].count(True) == 1
    assert files[flag].read_text() == "mine"


@pytest.mark.parametrize("words", [[], ["FOLDER"], ["no/such/folder", "--out", "p.csv"]])
def test_what_is_missing_is_named(tmp_path, monkeypatch, capsys, words):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "draft", *words]) == 2
    said = {0: "name the folder of the images", 1: "--out is missing", 3: "does not exist"}
    assert said[len(words)] in " ".join(capsys.readouterr().err.split())


def test_help_shows_the_options(capsys):
    assert main(["data", "draft", "--help"]) == 0
    assert "--buffer_m" in capsys.readouterr().out
