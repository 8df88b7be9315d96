"""The data set ``images``: opening, reading, fingerprint, checking, the kit."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from mlcore.errors import ConfigError, DataError
from mlcore.factories import BuildContext
from mlcore.options import parse_run
from mlcore.registry.discovery import Registry
from mlcore_images.config import ImagesConfig
from mlcore_images.dataset import open_images
from tests.support.image_folders import FACTORY, SEASONS, build, error_of, save
from tests.support.plugin_checks import assert_kit_runs_whole, imported_by_listing

EXAMPLES = Path(__file__).parents[3] / "examples"


def test_nothing_to_open_is_told_apart(tmp_path, route):
    with pytest.raises(ConfigError, match=r"needs dataset\.root"):
        FACTORY.build(ImagesConfig(), BuildContext())
    assert "which does not exist" in error_of(tmp_path / "nowhere")
    assert "which is a file" in error_of(tmp_path / "positions.csv")
    (tmp_path / "empty").mkdir()
    assert "holds no image" in error_of(tmp_path / "empty")
    assert "the 6 images in" in error_of(route / "snow")
    assert "does not exist; set dataset.table" in error_of(route, table=route / "other.csv")
    assert "remove one of them" in error_of(
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
    examples = sorted(fault.examples[0] for fault in faults.values())
    assert len(examples) == 2
    assert examples[0].startswith(f"{route / 'autumn/1.png'} is not an image of a known format")
    assert examples[0].endswith("set training.skip_unreadable = true to leave such images out")
    assert examples[1] == "snow/2.png"


def test_check_finds_files_with_odd_names(tmp_path):
    names = ["a b.png", "ü.png", "line\nbreak.png", "gone\n.png"]
    rows = [f'"train/{name}",{i},0,train' for i, name in enumerate(names)]
    text = "\n".join(["path,easting_m,northing_m,split", *rows])
    (tmp_path / "positions.csv").write_text(text, encoding="utf-8")
    for name in names[:3]:
        save(tmp_path / "train" / name)
    report = FACTORY.check(ImagesConfig(root=tmp_path))
    assert report.facts["missing files"] == 1
    faults = [f for f in report.findings if f.severity == "fault"]
    assert [f.examples for f in faults] == [(), ("train/gone\n.png",)]
    assert "test has no references and no queries" in faults[0].message


def test_check_of_sound_images_is_ok_and_looks_at_the_split(route):
    report = FACTORY.check(ImagesConfig(root=route, **SEASONS))
    assert report.ok
    messages = [f.message for f in report.findings]
    assert "12 images decoded: 8 x 6 px (12)" in messages
    assert "test images lie within 15 m of a training image" in messages


def test_check_reports_queries_without_a_reference(tmp_path):
    save(tmp_path / "test/database/@0@0@.jpg")
    save(tmp_path / "test/queries/@5@0@.jpg")
    save(tmp_path / "test/queries/@20@0@.jpg")
    report = FACTORY.check(ImagesConfig(root=tmp_path))
    alone = {f.message: f.count for f in report.findings if f.severity == "warning"}
    assert alone.pop("test: queries have no reference within 10 m") == 1
    assert [message.partition(":")[0] for message in alone] == ["train has no references"]


def test_check_turns_what_stops_opening_into_a_fault(tmp_path):
    report = FACTORY.check(ImagesConfig(root=tmp_path / "nowhere"))
    assert not report.ok
    assert "does not exist" in report.findings[0].message


def test_listing_the_plugin_imports_nothing_heavy():
    heavy = ("torch", "numpy", "pyarrow", "PIL")
    assert imported_by_listing("mlcore_images.plugin", *heavy) == []


def test_the_data_set_keeps_the_contract(tmp_path):
    lines = ["path,easting_m,northing_m,heading_deg,condition,split"]
    for number in range(120):
        season, split = ("sun", "rain")[number % 2], ("train", "test")[number // 60]
        easting = 620000 + 2 * (number % 60) + 1000 * (number // 60)
        lines.append(f"{number}.png,{easting},5735000,90,{season},{split}")
        save(tmp_path / f"{number}.png", colour=(number, 0, 0))
    (tmp_path / "positions.csv").write_text("\n".join(lines))
    config = ImagesConfig(root=tmp_path, references="condition=sun")
    assert_kit_runs_whole("images", config)


def test_the_example_of_two_seasons_is_a_configuration(tmp_path):
    arguments = ["--config", str(EXAMPLES / "stromovka.toml"), "--dataset.root", str(tmp_path)]
    config = parse_run(arguments, Registry.discover())
    assert isinstance(config.dataset.options, ImagesConfig)
    assert config.influence.options.cutoff_m == config.sampling.near_radius_m == 3.0
    assert config.evaluation.recall_radius_m == 2.0
