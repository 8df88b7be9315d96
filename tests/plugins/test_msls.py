"""MSLS in the published form: tables joined by key, panoramas, subtasks, and a run."""

from __future__ import annotations

import json

import numpy as np
import pytest

from mlcore.cli.main import main
from mlcore.errors import ConfigError, DataError
from mlcore.factories import BuildContext
from mlcore_msls.checking import check_msls
from mlcore_msls.config import MslsConfig
from mlcore_msls.plugin import mlcore_datasets
from tests.support.city_trees import write_gsv, write_msls

FACTORY = mlcore_datasets()[0]


def build(root, **options):
    return FACTORY.build(MslsConfig(root=root, **options), BuildContext())


def test_published_validation_cities_are_the_test(tmp_path):
    data = build(write_msls(tmp_path))
    assert len(data.train.references) == len(data.train.queries) == 23
    assert len(data.test.references) == len(data.test.queries) == 23
    table = data.test.references
    assert table.regions == ("goa", "cph")
    assert np.unique(table.region).tolist() == [1]
    assert table.traversals[table.traversal[0]] == "cph/database/s0"
    assert table.positions_m[:2].tolist() == [[400_000.0, 5e6], [400_008.0, 5e6]]
    assert np.allclose(np.degrees(table.headings_rad[:3]), [0.0, 10.0, 30.0])  # by key
    assert any("panoramas are left out (4)" in note for note in data.notes)
    assert any("92 images of 2 cities in 8 sequences" in note for note in data.notes)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ("night", {"day", "night"}),
        ("season", {"winter", "summer"}),
        ("view", {"forward", "sideways"}),
        ("none", {"all"}),
    ],
)
def test_conditions_are_columns_of_the_tables(tmp_path, condition, expected):
    assert (
        set(build(write_msls(tmp_path), condition=condition).test.queries.conditions)
        == expected
    )


def test_seasons_follow_the_hemisphere(tmp_path):
    data = build(write_msls(tmp_path, cities=("cph", "Sydney")), condition="season")
    table = data.train.references  # Sydney in July, then in January
    assert table.conditions[table.condition[0]] == "winter"
    assert table.conditions[table.condition[-1]] == "summer"


def test_subtasks_and_view_directions_select(tmp_path):
    write_msls(tmp_path)
    data = build(tmp_path, subtask="s2w")
    assert (len(data.test.references), len(data.test.queries)) == (23, 0)
    assert len(data.train.queries) == 23  # subtasks are of tests
    assert len(build(tmp_path, view="sideways").test.queries) == 12


def test_a_whole_tree_has_no_fault(tmp_path):
    report = check_msls(MslsConfig(root=write_msls(tmp_path)))
    assert [str(one) for one in report.findings if one.severity == "fault"] == []
    (tmp_path / "train_val/cph/query/images/cphquery004-_x.jpg").unlink()
    report = check_msls(MslsConfig(root=tmp_path))
    assert report.facts["missing files"] == 1
    assert any("image files are missing" in str(one) for one in report.findings)


def broken(path, text):
    path.write_text(text)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "raw.csv").unlink(), r"raw\.csv does not exist"),
        (
            lambda folder: broken(
                folder / "raw.csv", ",key,lon,lat,ca,captured_at,pano\n0,a,1,2,3,4,False\n"
            ),
            r"raw\.csv has no row of 24 images of postprocessed\.csv, the first is cphquery000",
        ),
        (
            lambda folder: broken(
                folder / "seq_info.csv", ",sequence_key,frame_number\n0,a,1\n"
            ),
            r"seq_info\.csv has 1 rows, postprocessed\.csv beside it 24",
        ),
        (
            lambda folder: broken(
                folder / "postprocessed.csv",
                (folder / "postprocessed.csv").read_text().replace("easting", "esting"),
            ),
            r"has no column 'easting'; did you mean 'esting'",
        ),
        (
            lambda folder: broken(
                folder / "postprocessed.csv",
                (folder / "postprocessed.csv").read_text().replace("400011.0", "far", 1),
            ),
            r"postprocessed\.csv: column 'easting' is not numbers",
        ),
    ],
)
def test_damaged_tables_are_named(tmp_path, damage, message):
    damage(write_msls(tmp_path) / "train_val/cph/query")
    with pytest.raises(DataError, match=message):
        build(tmp_path)


def test_wrong_roots_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"needs dataset\.root"):
        FACTORY.build(MslsConfig(), BuildContext())
    with pytest.raises(DataError, match="which has no folder train_val"):
        build(tmp_path)


def test_both_are_trained_on_and_evaluated_together(tmp_path):
    write_gsv(tmp_path / "gsv"), write_msls(tmp_path / "msls")
    argv = ["--dataset", "gsv-cities,msls"]
    argv += ["--dataset.1.root", tmp_path / "gsv", "--dataset.2.root", tmp_path / "msls"]
    argv += ["--model.width", "8", "--model.longest_side_px", "64", "--training.max_steps", "3"]
    argv += ["--evaluation.baselines", "false", "--out", tmp_path / "run"]
    argv += ["--sampling.balance", "datasets"]
    assert main(["data", "check", *map(str, argv[:6])]) == 0
    assert main(["train", *map(str, argv)]) == 0
    results = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    summary = results["evaluations"][0]["summary"]
    assert set(summary["conditions"]) == {"msls: day", "msls: night"}
    assert summary["overall"]["num_queries"] == 23
