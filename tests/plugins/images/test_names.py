"""Positions that come with each file: in its name, or in its EXIF."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from mlcore.data import ImageWalk
from mlcore.errors import DataError
from mlcore_images.checks.positions import read_headings, read_positions
from mlcore_images.config import ImagesConfig
from mlcore_images.readers.names import list_names
from tests.support.image_folders import build, error_of, save


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
        "have no position in their name and are left out (1: test/queries_night/map.png)"
        in note
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
    assert any(
        "2 regions, infinitely far from each other: 32N (1 images), 33N" in note
        for note in build(tmp_path).notes
    )


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
    try:
        positions_m = read_positions(listing, ImagesConfig()).positions_m
    except DataError:
        # Only what could be degrees may be refused.
        assert max(map(abs, position)) <= 180
        return
    np.testing.assert_array_equal(positions_m, [position])
    assert headings_rad is None or np.isfinite(headings_rad).all()


def image_folders_of(folder):
    save(folder / "x.jpg")
    return [found for found, _ in ImageWalk(folder).folders]


def test_a_name_that_is_not_utf8_is_refused(tmp_path):
    save(tmp_path / "good.jpg")
    (tmp_path / "good.jpg").rename(tmp_path / os.fsdecode(b"@1@2@\xe9.jpg"))
    assert "not valid UTF-8; rename it" in error_of(tmp_path)


def test_links_that_run_in_circles_end(tmp_path):
    save(tmp_path / "a/@1@2@.jpg")
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert [str(folder) for folder, _ in ImageWalk(tmp_path).folders] == ["a"]


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
    assert "images have no EXIF GPS and are left out (1: train/indoors.jpg)" in data.notes
    assert any("are damaged" in note and "train/broken.jpg" in note for note in data.notes)
    assert any("zone 56S" in note for note in data.notes)
