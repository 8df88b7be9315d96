"""The data set ``robotcar``: trees, poses, protocols, the kit, from prepare to a run."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from mlcore.cli.main import main
from mlcore.errors import ConfigError, DataError
from mlcore.factories import BuildContext
from mlcore_robotcar import RobotCarConfig, open_robotcar
from mlcore_robotcar.config import BAD_DATES
from mlcore_robotcar.plugin import mlcore_datasets
from tests.support.plugin_checks import assert_kit_runs_whole, imported_by_listing
from tests.support.robotcar_dataset import (
    QUERIES,
    REFERENCE,
    VALIDATION,
    assert_same,
    config_of,
    findings,
    prepare,
)
from tests.support.robotcar_tree import (
    HEADING,
    NUM,
    PAPER,
    position,
    stamps_of,
    write_tree,
)


@pytest.mark.parametrize("layout", ["apart", "tars"])
def test_every_tree_is_the_same_data_set(tmp_path, raw, layout):
    other = write_tree(tmp_path / layout, layout)
    assert_same(open_robotcar(config_of(raw)), open_robotcar(config_of(other)))


def test_poses_are_those_of_the_drive(raw):
    table = open_robotcar(config_of(raw)).train.references
    stamps = stamps_of(NUM)[: len(table)]
    np.testing.assert_allclose(table.positions_m, position(stamps), atol=1e-6)
    np.testing.assert_allclose(table.headings_rad, HEADING, atol=1e-6)
    np.testing.assert_allclose(table.arc_length_m, 5.0 * np.arange(len(table)), atol=1e-5)


def test_rtk_gives_the_headings_of_ins(raw):
    ins, rtk = (open_robotcar(config_of(raw, poses=poses)) for poses in ("ins", "rtk"))
    assert_same(ins, rtk)
    assert any("90 degrees are added to its yaw" in note for note in rtk.notes)


def test_rtk_kept_elsewhere(tmp_path, raw):
    (tmp_path / "rtk" / REFERENCE).mkdir(parents=True)
    (raw / REFERENCE / "rtk.csv").rename(tmp_path / "rtk" / REFERENCE / "rtk.csv")
    assert REFERENCE not in open_robotcar(config_of(raw, poses="rtk")).source.dates
    dataset = open_robotcar(config_of(raw, poses="rtk", rtk_root=tmp_path / "rtk"))
    assert REFERENCE in dataset.source.dates


def test_rtk_of_a_car_that_stands_is_left_out(raw):
    path = raw / PAPER[7] / "rtk.csv"
    lines = path.read_text().splitlines()
    still = [",".join([line.split(",")[0], *lines[1].split(",")[1:]]) for line in lines[1:]]
    path.write_text("\n".join([lines[0], *still]))
    dataset = open_robotcar(config_of(raw, poses="rtk"))
    assert PAPER[7] not in dataset.source.dates
    (fault,) = findings(raw, "fault", poses="rtk")
    assert "its yaw has an unknown zero" in fault.message


def test_a_tar_with_another_name_is_told(tmp_path):
    raw = write_tree(tmp_path, "tars", PAPER)
    path = raw / f"{REFERENCE}_stereo_centre_02.tar"
    path.rename(path.with_name(f"{REFERENCE}_stereo_centre_02(1).tar"))
    (fault,) = [one for one in findings(raw, "fault") if one.name == "damaged-files"]
    assert "is not named like" in fault.message


def test_the_papers_protocol(raw):
    dataset = open_robotcar(config_of(raw))

    def dates(table):
        return {table.traversals[code] for code in table.traversal}

    assert dates(dataset.test.references) == {REFERENCE}
    assert dates(dataset.test.queries) == set(QUERIES)
    assert dates(dataset.validation.references) == {VALIDATION[1]}
    assert dates(dataset.validation.queries) == {VALIDATION[0]}
    assert dates(dataset.train.references) == {REFERENCE}
    assert dates(dataset.train.queries) == {*VALIDATION, PAPER[7]}


def test_bad_dates_are_left_out_and_named(tmp_path):
    root = write_tree(tmp_path, dates=[REFERENCE, *QUERIES, BAD_DATES[0]], num=10)
    dataset = open_robotcar(config_of(root))
    assert BAD_DATES[0] not in dataset.source.dates
    assert any(BAD_DATES[0] in note for note in dataset.notes)
    assert BAD_DATES[0] in open_robotcar(config_of(root, leave_out=())).source.dates


def test_without_the_papers_dates_an_error_names_those_there(tmp_path):
    date = "2015-01-01-10-00-00"
    root = write_tree(tmp_path, dates=[date])
    dataset = open_robotcar(config_of(root))
    with pytest.raises(DataError, match=rf"There are {date}: set dataset\.reference"):
        _ = dataset.train
    assert len(open_robotcar(config_of(root, protocol="all")).train.references)
    with pytest.raises(ConfigError, match="did you mean"):
        open_robotcar(config_of(root, reference="2015-01-01-10-00-01"))


def test_a_folder_of_something_else_is_told(tmp_path):
    with pytest.raises(DataError, match="holds no layout of RobotCar"):
        open_robotcar(config_of(tmp_path))
    with pytest.raises(DataError, match="no traversal to prepare"):
        prepare(tmp_path, tmp_path / "out")
    with pytest.raises(ConfigError, match="root is not set"):
        open_robotcar(RobotCarConfig())
    with pytest.raises(ConfigError, match="longest_side_px must be at least 16, got 0"):
        open_robotcar(config_of(tmp_path, longest_side_px=0))


def test_regions_that_do_not_fit_are_told(raw):
    (raw / "regions.txt").unlink()
    dataset = open_robotcar(config_of(raw))
    assert any("own, because the paper's are lost" in note for note in dataset.notes)
    with pytest.raises(DataError, match=r"no image of 2014-12-02-15-30-08 is in its region"):
        _ = dataset.train


def test_a_pickled_data_set_is_small_and_the_same(tmp_path, raw):
    prepare(raw, tmp_path / "out")
    dataset = open_robotcar(config_of(tmp_path / "out"))
    data = pickle.dumps(dataset)
    assert len(data) < 10_000
    assert_same(dataset, pickle.loads(data))


def test_the_conformance_kit_runs_whole(tmp_path, raw):
    prepare(raw, tmp_path / "out")
    for root in (raw, tmp_path / "out"):
        assert_kit_runs_whole("robotcar", RobotCarConfig(root=root))


def test_listing_the_plugin_imports_nothing_heavy():
    heavy = ("torch", "numpy", "cv2", "pyarrow")
    assert imported_by_listing("mlcore_robotcar.plugin", *heavy) == []


def test_the_factory_builds_with_the_cache_of_the_run(tmp_path):
    root = write_tree(tmp_path / "raw", "tars", PAPER[:2], 20)
    factory = mlcore_datasets()[0]
    factory.build(RobotCarConfig(root=root), BuildContext(cache_dir=tmp_path / "cache"))
    assert len(list((tmp_path / "cache/robotcar-tars").iterdir())) == 4


def test_from_the_command_line_to_a_run(tmp_path, raw, capsys):
    out, run = tmp_path / "out", tmp_path / "run"
    words = ["data", "prepare", "robotcar", "--root", str(raw), "--out", str(out), "--json"]
    words += ["--num_processes=1", "--longest_side_px", "32"]
    assert main(words) == 0
    assert json.loads(capsys.readouterr().out)["facts"]["developed in this call"] == 8 * NUM
    picture = tmp_path / "map.png"
    words = ["data", "check", "robotcar", "--root", str(out), "--map", str(picture), "--full"]
    assert main(words) == 0
    with Image.open(picture) as image:
        assert image.size == (1200, 1200)
    words = [
        *("train", "--loss", "proposed", "--dataset", "robotcar", "--dataset.root", str(out)),
        *("--out", str(run), "--model.width", "8", "--model.embedding_dim", "16"),
        *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "2"),
        *("--sampling.far_per_tuple", "2", "--training.max_steps", "3"),
        *("--training.log_every", "1", "--evaluation.dimensions", "8"),
        *("--model.input_height_px", "32", "--model.input_width_px", "48"),
    ]
    assert main(words) == 0
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert [one["model"] for one in evaluation["evaluations"]][-1] == "trained"
