"""The data set ``images`` end to end: layouts, splits, order, opening, checking."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mlcore.errors import ConfigError, DataError
from mlcore.factories import BuildContext
from mlcore.options import parse_run
from mlcore.registry import Registry
from mlcore.testing import checks
from mlcore_images.config import ImagesConfig
from mlcore_images.dataset import open_images
from mlcore_images.folders import image_folders
from mlcore_images.layouts import find_listing
from mlcore_images.names import list_names
from mlcore_images.plugin import mlcore_datasets
from mlcore_images.positions import read_headings, read_positions
from mlcore_images.selection import parse, select

EXAMPLES = Path(__file__).parents[2] / "examples"
FACTORY = mlcore_datasets()[0]
SEASONS = {"references": "condition=autumn", "train": "frame=0..3", "test": "frame=4..5"}


def save(path, colour=(10, 20, 30), size=(8, 6), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)


@pytest.fixture
def route(tmp_path):
    """Six places of a straight path in two seasons."""
    lines = ["path,easting_m,northing_m,condition,frame"]
    for season in ("autumn", "snow"):
        for frame in range(6):
            lines.append(f"{season}/{frame}.png,{frame}.0,0.0,{season},{frame}")
            save(tmp_path / season / f"{frame}.png", colour=(frame, 0, 0))
    (tmp_path / "positions.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


def build(folder, **options):
    return FACTORY.build(ImagesConfig(root=folder, **options), BuildContext())


def error_of(folder, kind=DataError, **options):
    with pytest.raises(kind) as caught:
        build(folder, **options)
    return str(caught.value)


# Tables and selections


def test_a_flat_table_is_split_by_selections(route):
    data = build(route, **SEASONS)
    assert data.train.references.index.tolist() == [0, 1, 2, 3]
    assert data.train.queries.index.tolist() == [6, 7, 8, 9]
    assert data.test.references.index.tolist() == [4, 5]
    assert data.test.queries.index.tolist() == [10, 11]
    assert data.test.queries.positions_m.tolist() == [[4.0, 0.0], [5.0, 0.0]]
    assert len(data.validation.references) == len(data.validation.queries) == 0
    table = data.test.queries
    assert [table.conditions[code] for code in table.condition] == ["snow", "snow"]
    assert [table.traversals[code] for code in table.traversal] == ["snow", "snow"]
    assert data.image_name(11) == "snow/5.png"
    assert data.load_image(11)[:, 0, 0].tolist() == [5, 0, 0]
    assert data.load_image(11).shape == (3, 6, 8)


def test_what_is_in_no_split_is_said(route):
    data = build(route, train="frame=0..2&condition=autumn", test="frame=5..")
    assert any("7 images are in no split" in note for note in data.notes)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "nothing says which images"),
        ({"train": "frame=0..3", "test": "frame=3..5"}, "the first at line 5, are selected by"),
        ({"train": "frames=0..3"}, "dataset.train is 'frames=0..3'"),
        ({"train": "frames=0..3"}, "no column 'frames'; did you mean 'frame'?"),
        ({"train": "frame=7..9"}, "selects none of the 12 images"),
        ({"train": "condition=rain"}, "condition is one of 'autumn', 'snow'"),
        ({"train": "condition=0..1"}, "line 2: condition 'autumn' is no number"),
        (
            {"train": "frame=0..3", "test": "frame=4..5", "queries": "frame=0..9"},
            "split 'train' has 8 queries and no references",
        ),
    ],
)
def test_selections_that_cannot_work_say_why(route, options, said):
    assert said in error_of(route, **options)


@pytest.mark.parametrize("expression", ["frame", "=3", "frame=", "frame=0..3&", "frame=3..0"])
def test_malformed_selections_are_configuration_errors(route, expression):
    assert f"dataset.train is {expression!r}" in error_of(route, ConfigError, train=expression)


def test_the_split_and_role_columns_are_used(tmp_path):
    save(tmp_path / "a.jpg")
    (tmp_path / "positions.csv").write_text(
        "path,easting_m,northing_m,split,role\n"
        "a.jpg,0,0,Train,database\nb.jpg,1,0,train,query\nc.jpg,2,0,val,\n"
        "d.jpg,3,0,test,references\ne.jpg,4,0,test,queries\nf.jpg,5,0,,query\n"
    )
    data = build(tmp_path)
    assert data.train.references.index.tolist() == [0]
    assert data.train.queries.index.tolist() == [1]
    assert data.test.queries.index.tolist() == [4]
    assert any("1 images are in no split" in note for note in data.notes)
    assert any("1 images are neither" in note for note in data.notes)
    assert build(tmp_path, train="split=val", references="*").train.references.index == [2]


def test_an_unknown_split_is_refused(tmp_path):
    text = "path,easting_m,northing_m,split\na.jpg,0,0,train\nb.jpg,1,0,learn\n"
    (tmp_path / "positions.csv").write_text(text)
    said = error_of(tmp_path)
    assert "line 3: split 'learn' is unknown; write one of train, val" in said


def test_a_split_without_queries_says_so_when_it_is_used(route):
    data = build(route, train="frame=0..3", test="frame=4..5")
    assert len(data.train.references) == 8
    with pytest.raises(DataError, match=r"split 'test' of .* has no queries"):
        _ = data.test
    only_test = build(route, test="*", queries="condition=snow")
    with pytest.raises(DataError, match=r"split 'train' of .* has no references"):
        _ = only_test.train


@pytest.mark.parametrize(
    "stamps", [["30", "4", "200"], ["2024-02-01", "2024-01-01", "2024-03-01"]]
)
def test_images_of_a_traversal_are_in_the_order_of_time(tmp_path, stamps):
    rows = [f"{i}.png,{i},0,day,{stamp}" for i, stamp in enumerate(stamps)]
    rows.append("z.png,9,0,night,1")
    save(tmp_path / "0.png")
    (tmp_path / "positions.csv").write_text(
        "\n".join(["path,easting_m,northing_m,traversal,timestamp", *rows])
    )
    table = build(tmp_path, train="*").train.references
    assert table.index.tolist() == [1, 0, 2, 3]
    assert table.traversals == ("day", "night")


NUMBER = st.integers(-20, 20)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(low=NUMBER, high=NUMBER, season=st.sampled_from(["autumn", "snow"]))
def test_a_selection_is_what_a_loop_over_rows_selects(route, low, high, season):
    listing = find_listing(ImagesConfig(root=route, train="frame=0..1"))
    expression = f" condition={season} & frame = {low}..{high}"
    expected = [
        s == season and low <= frame <= high for s in ("autumn", "snow") for frame in range(6)
    ]
    try:
        assert select(listing, "train", expression).tolist() == expected
    except ConfigError:
        assert low > high
    except DataError:
        assert not any(expected)


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_any_selection_is_parsed_or_refused(expression):
    try:
        clauses = parse("train", expression)
    except ConfigError:
        return
    assert expression.strip() == "*" or all(c.column and c.value for c in clauses)


# File names


def name_of(easting, northing, *, zone="33U", heading="", stamp=""):
    letters = (zone[:2], zone[2:])
    fields = (easting, northing, *letters, "", "", "", "", heading, "", "", "", stamp, "")
    return "@" + "@".join(str(field) for field in fields) + "@"


def test_file_names_in_the_usual_folders(tmp_path):
    root = tmp_path / "images@1@2"  # only the name of the file is parsed
    save(root / "train/database" / f"{name_of(500000.5, 5e6, heading=90)}.jpg")
    save(root / "train/queries" / f"{name_of(500001, 5000001, heading=180)}.PNG")
    save(root / "test/database/000" / f"{name_of(500100, 5000100, heading=0)}.jpeg")
    save(root / "test/queries_night" / f"{name_of(500101, 5000100, heading=0)}.JPG")
    save(root / "test/queries_night" / "map.png")
    data = build(root)
    assert data.train.references.positions_m.tolist() == [[500000.5, 5000000.0]]
    np.testing.assert_allclose(np.degrees(data.train.queries.headings_rad), [180])
    assert data.image_name(int(data.test.queries.index[0])).startswith("test/queries_night/@")
    queries = data.test.queries
    assert [queries.conditions[code] for code in queries.condition] == ["night"]
    assert len(data.test.references) == 1
    assert any(
        "1 images have no position in their name, left out: test/queries_night/map.png" in note
        for note in data.notes
    )


def test_folders_without_a_split_take_selections(tmp_path):
    save(tmp_path / "database/@1.5@2.5@.jpg")
    save(tmp_path / "queries/@3@4.jpg")
    data = build(tmp_path, test="*")
    assert data.test.references.positions_m.tolist() == [[1.5, 2.5]]
    assert data.test.queries.positions_m.tolist() == [[3, 4]]
    assert build(tmp_path, test="*", queries="folder=queries").test.queries.index.tolist() == [
        1
    ]


def test_positions_of_several_zones_are_noted(tmp_path):
    for zone in ("32U", "33U"):
        save(tmp_path / "train" / f"{name_of(500000, 5e6, zone=zone)}.jpg")
    assert any("2 UTM zones (32U, 33U)" in note for note in build(tmp_path).notes)


@pytest.mark.parametrize("name", ["@.jpg", "@1.jpg", "@x@2@.jpg", "@1@nan@.png", "@1@@2@.png"])
def test_names_without_a_position_are_refused_by_name(tmp_path, name):
    save(tmp_path / "train" / "@1@2@.jpg")
    save(tmp_path / "train" / name)
    assert f"train/{name}" in error_of(tmp_path)


FIELD = st.one_of(
    st.floats(-1e6, 1e6).map(repr),
    st.text(st.characters(exclude_characters="@/\x00\n\\", codec="utf-8")),
)


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    position=st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
    rest=st.lists(FIELD, max_size=14),
)
def test_names_are_parsed_or_refused(tmp_path, position, rest):
    name = "@" + "@".join([*map(repr, position), *rest]) + "@.jpg"
    folders = [(next(iter(image_folders_of(tmp_path))), [name])]
    listing = list_names(tmp_path, folders)
    try:
        headings_rad, _ = read_headings(listing, "clockwise-from-north")
    except DataError:
        headings_rad = None
    positions_m, _ = read_positions(listing, swap_axes=False)
    np.testing.assert_array_equal(positions_m, [position])
    assert headings_rad is None or np.isfinite(headings_rad).all()


def image_folders_of(folder):
    save(folder / "x.jpg")
    return [found for found, _ in image_folders(folder)]


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    save(tmp_path / "good.jpg")
    (tmp_path / "good.jpg").rename(tmp_path / os.fsdecode(b"@1@2@\xe9.jpg"))
    assert "not valid UTF-8; rename it" in error_of(tmp_path)


def test_links_that_run_in_circles_end(tmp_path):
    save(tmp_path / "a/@1@2@.jpg")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert [str(folder) for folder, _ in image_folders(tmp_path)] == ["a"]


# EXIF


def save_with_gps(path, latitude, longitude, heading=None):
    exif = Image.Exif()
    gps = exif.get_ifd(0x8825)
    gps[1], gps[3] = ("S" if latitude < 0 else "N"), ("W" if longitude < 0 else "E")
    gps[2], gps[4] = (dms(abs(latitude)), dms(abs(longitude)))
    if heading is not None:
        gps[17] = heading
    save(path, exif=exif)


def dms(degrees):
    minutes = degrees * 60 % 60
    return (float(int(degrees)), float(int(minutes)), round(minutes * 60 % 60, 4))


def test_exif_positions_become_metres_in_one_zone(tmp_path):
    for i in range(3):
        save_with_gps(tmp_path / f"train/{i}.jpg", -33.86, 151.21 + i * 1e-4, heading=90.0)
    save(tmp_path / "train/indoors.jpg")
    (tmp_path / "train/broken.jpg").write_bytes(b"\xff\xd8\xff\xe1\x00\x10Exif")
    data = build(tmp_path)
    table = data.train.references
    steps_m = np.linalg.norm(np.diff(table.positions_m, axis=0), axis=1)
    np.testing.assert_allclose(steps_m, 9.25, atol=0.02)
    np.testing.assert_allclose(table.headings_rad, np.pi / 2)
    assert data.layout == "EXIF"
    note = "2 images have no EXIF GPS and are left out: train/broken.jpg, train/indoors.jpg"
    assert note in data.notes
    assert any("zone 56S" in note for note in data.notes)


# Opening and checking


def test_nothing_to_open_is_told_apart(tmp_path, route):
    with pytest.raises(ConfigError, match=r"needs dataset\.root"):
        FACTORY.build(ImagesConfig(), BuildContext())
    assert "which does not exist" in error_of(tmp_path / "nowhere")
    assert "which is a file" in error_of(tmp_path / "positions.csv")
    (tmp_path / "empty").mkdir()
    assert "holds no image" in error_of(tmp_path / "empty")
    assert "nothing tells the positions of the 6 images" in error_of(route / "snow")
    assert "there is no table" in error_of(route, table=route / "other.csv")
    assert "leave one out" in error_of(
        route, ConfigError, table=route / "positions.csv", layout="exif"
    )


def test_the_table_alone_is_enough(route):
    config = ImagesConfig(table=route / "positions.csv", **SEASONS)
    assert len(open_images(config).train.references) == 4


def test_a_wrong_root_is_noticed_on_opening(route, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    said = error_of(elsewhere, table=route / "positions.csv", **SEASONS)
    assert "none of the 2 images looked for is in" in said
    assert "autumn/0.png, snow/0.png" in said


def test_a_missing_image_is_named_when_it_is_read(route):
    (route / "snow/0.png").unlink()
    data = build(route, **SEASONS)
    assert any("1 of the 2 images looked for are missing: snow/0.png" in n for n in data.notes)
    with pytest.raises(DataError, match=r"snow/0.png"):
        data.load_image(6)


def test_a_pickled_copy_reads_the_same(route):
    data = build(route, **SEASONS)
    copy = pickle.loads(pickle.dumps(data))
    assert copy.fingerprint == data.fingerprint
    assert copy.notes == data.notes
    assert copy.load_image(3).equal(data.load_image(3))


def test_the_fingerprint_sees_positions_splits_and_images(route):
    first = build(route, **SEASONS).fingerprint
    assert build(route, **SEASONS).fingerprint == first
    assert build(route, **{**SEASONS, "test": "frame=5..5"}).fingerprint != first
    text = (route / "positions.csv").read_text()
    (route / "positions.csv").write_text(text.replace("snow/3.png,3.0", "snow/3.png,3.5"))
    moved = build(route, **SEASONS).fingerprint
    assert moved != first
    save(route / "snow/3.png", size=(80, 60))
    assert build(route, **SEASONS).fingerprint not in (first, moved)


def test_check_names_missing_and_unreadable_files(route):
    (route / "snow/2.png").unlink()
    (route / "autumn/1.png").write_bytes(b"<html>")
    report = FACTORY.check(ImagesConfig(root=route, **SEASONS))
    assert not report.ok
    assert report.facts["images"] == 12
    assert report.facts["missing files"] == 1
    assert report.facts["test: queries"] == 2
    faults = {f.message.split(";")[0]: f for f in report.findings if f.severity == "fault"}
    missing, unreadable = sorted(faults.values(), key=lambda fault: fault.examples[0][-5:])
    assert {missing.examples[0], unreadable.examples[0]} == {
        "snow/2.png",
        f"{route / 'autumn/1.png'} is not an image of a known format",
    }


def test_check_finds_files_with_odd_names(tmp_path):
    names = ["a b.png", "ü.png", "line\nbreak.png", "gone\n.png"]
    rows = [f'"train/{name}",{i},0,train' for i, name in enumerate(names)]
    text = "\n".join(["path,easting_m,northing_m,split", *rows])
    (tmp_path / "positions.csv").write_text(text, encoding="utf-8")
    for name in names[:3]:
        save(tmp_path / "train" / name)
    report = FACTORY.check(ImagesConfig(root=tmp_path))
    assert report.facts["missing files"] == 1
    assert [f.examples for f in report.findings if f.severity == "fault"] == [
        ("train/gone\n.png",)
    ]


def test_check_of_sound_images_is_ok_and_looks_at_the_split(route):
    report = FACTORY.check(ImagesConfig(root=route, **SEASONS))
    assert report.ok
    messages = [f.message for f in report.findings]
    assert "12 images decoded: 8 x 6 px (12)" in messages
    assert "test images lie within 25 m of a training image" in messages


def test_check_reports_queries_without_a_reference(tmp_path):
    save(tmp_path / "test/database/@0@0@.jpg")
    save(tmp_path / "test/queries/@5@0@.jpg")
    save(tmp_path / "test/queries/@20@0@.jpg")
    report = FACTORY.check(ImagesConfig(root=tmp_path))
    alone = {f.message: f.count for f in report.findings if f.severity == "warning"}
    assert alone == {"test: queries have no reference within 10 m": 1}


def test_check_turns_what_stops_opening_into_a_fault(tmp_path):
    report = FACTORY.check(ImagesConfig(root=tmp_path / "nowhere"))
    assert not report.ok
    assert "does not exist" in report.findings[0].message


def test_listing_the_plugin_imports_no_heavy_library():
    code = (
        "import sys, mlcore_images.plugin as p; p.mlcore_datasets();"
        "print([m for m in ('torch', 'numpy', 'pyarrow', 'PIL') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True
    )
    assert result.stdout.strip() == "[]", result.stderr


def test_the_data_set_keeps_the_contract(tmp_path):
    lines = ["path,easting_m,northing_m,heading_deg,condition,split"]
    for number in range(120):
        season, split = ("sun", "rain")[number % 2], ("train", "test")[number // 60]
        easting = 620000 + 2 * (number % 60) + 1000 * (number // 60)
        lines.append(f"{number}.png,{easting},5735000,90,{season},{split}")
        save(tmp_path / f"{number}.png", colour=(number, 0, 0))
    (tmp_path / "positions.csv").write_text("\n".join(lines))
    config = ImagesConfig(root=tmp_path, references="condition=sun")
    for check in checks("images", only="dataset/*", configs={"images": config}):
        check()


def test_the_example_of_two_seasons_is_a_configuration(tmp_path):
    arguments = ["--config", str(EXAMPLES / "stromovka.toml"), "--dataset.root", str(tmp_path)]
    config = parse_run(arguments, Registry.discover())
    assert isinstance(config.dataset.options, ImagesConfig)
    assert config.influence.options.cutoff_m == config.sampling.near_radius_m == 3.0
    assert config.evaluation.recall_radius_m == 2.0
