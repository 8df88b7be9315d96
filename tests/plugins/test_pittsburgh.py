"""The data set ``pittsburgh`` end to end: forms, layouts, protocols, checking, training."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from mlcore.cli.main import main
from mlcore.errors import ConfigError, DataError
from mlcore.factories import BuildContext
from mlcore_pittsburgh import PittsburghConfig, check_pittsburgh
from mlcore_pittsburgh.plugin import mlcore_datasets
from mlcore_pittsburgh.specs import FIELDS
from tests.support.pittsburgh_tree import (
    FORMS,
    LAYOUTS,
    ORIGIN_M,
    content,
    struct,
    write_spec,
    write_tree,
)
from tests.support.plugin_checks import assert_kit_runs_whole, imported_by_listing

FACTORY = mlcore_datasets()[0]


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path)


def build(root, **options):
    return FACTORY.build(PittsburghConfig(root=root, **options), BuildContext())


def error_of(root, kind=DataError, **options):
    with pytest.raises(kind) as caught:
        build(root, **options)
    return str(caught.value)


def rewrite(root, change, part="test", form="struct"):
    """Write the spec of a part again, with one of its four arrays changed."""
    number = ("train", "val", "test").index(part)
    listed = dict(zip(("names", "positions", "queries", "at"), content(number), strict=True))
    change(listed)
    return write_spec(root, f"pitts30k_{part}", form, tuple(listed.values()))


def findings(root, severity, **options):
    report = check_pittsburgh(PittsburghConfig(root=root, **options))
    return [one for one in report.findings if one.severity == severity]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_form_in_every_layout_gives_the_same_columns(tmp_path, layout, form):
    dataset = build(write_tree(tmp_path, layout, form))
    for number, split in enumerate((dataset.train, dataset.validation, dataset.test)):
        names, positions, queries, query_positions = content(number)
        for table, listed, at in (
            (split.references, names, positions),
            (split.queries, queries, query_positions),
        ):
            np.testing.assert_array_equal(table.positions_m, at)
            assert table.headings_rad is None
            assert [dataset.names[i].as_py() for i in table.index] == listed
    assert {one.severity for one in dataset.findings} == {"info"}


def test_queries_and_references_of_one_name_are_different_images(tree):
    dataset = build(tree)
    split = dataset.test
    reference, query = int(split.references.index[0]), int(split.queries.index[0])
    assert dataset.image_name(reference) == "references/002/000000_pitch1_yaw1.jpg"
    assert dataset.image_name(query) == "queries/002/000000_pitch1_yaw1.jpg"
    assert dataset.path(query) == tree / "queries_real/002/000000_pitch1_yaw1.jpg"
    with Image.open(dataset.path(query)) as image:
        expected = np.asarray(image)
    np.testing.assert_array_equal(dataset.load_image(query).permute(1, 2, 0), expected)
    assert not np.array_equal(dataset.load_image(reference), dataset.load_image(query))


def test_views_of_a_panorama_are_traversals_along_the_street(tree):
    table = build(tree).train.references
    for code in np.unique(table.traversal):
        steps = np.diff(table.positions_m[table.traversal == code], axis=0)
        np.testing.assert_array_equal(steps, [[12.0, 0.0]] * 5)
    assert table.traversals[table.traversal[0]] == "references pitch1_yaw1"


def test_radii_are_those_of_the_benchmark():
    assert (FACTORY.radii.near_radius_m, FACTORY.radii.far_radius_m) == (10.0, 25.0)


def test_names_with_the_folder_before_them_are_found(tree):
    def prefix(listed):
        listed["queries"] = ["queries_real/" + name for name in listed["queries"]]

    rewrite(tree, prefix)
    assert not list(findings(tree, "fault"))


def test_explicit_roots_and_specs(tmp_path):
    write_tree(tmp_path / "a")
    (tmp_path / "specs").mkdir()
    for path in sorted((tmp_path / "a").glob("*.mat")):
        path.rename(tmp_path / "specs" / path.name)
    (tmp_path / "a/queries_real").rename(tmp_path / "q")
    options = {"specs": tmp_path / "specs", "query_root": tmp_path / "q"}
    dataset = build(tmp_path / "a", **options)
    assert dataset.path(int(dataset.test.queries.index[0])).is_file()


def test_paper_keeps_pitch_1_and_references_near_a_query(tmp_path):
    write_tree(tmp_path, protocol="250k")

    *others, at = content(2)
    write_spec(tmp_path, "pitts250k_test", "struct", (*others, np.add(at, (0.0, 101.0))))
    dataset = build(tmp_path, protocol="paper")
    test = dataset.test
    assert len(test.queries) == 3 * 3 * 2
    assert len(test.references) == 2 * 6 * 2
    names = [dataset.image_name(int(i)) for i in test.references.index]
    assert all("pitch1" in name and "/002/" not in name for name in names)
    assert any("results do not compare" in note for note in dataset.notes)
    with pytest.raises(DataError, match="mlcore evaluate RUN"):
        _ = dataset.train


def test_paper_needs_all_three_specs_or_one_of_all(tmp_path):
    write_tree(tmp_path, protocol="250k")
    spec = tmp_path / "pitts250k_val.mat"
    spec.rename(tmp_path / "pitts250k_all.mat")
    assert len(build(tmp_path, protocol="paper").test.queries) == 3 * 2
    (tmp_path / "pitts250k_all.mat").unlink()
    assert "no spec file pitts250k_val " in error_of(tmp_path, protocol="paper")


def test_a_missing_spec_is_told_when_its_split_is_wanted(tree):
    (tree / "pitts30k_train.mat").unlink()
    (tree / "pitts30k_val.mat").unlink()
    dataset = build(tree)
    assert len(dataset.test.queries) == 9
    assert len(dataset.validation.queries) == 0
    with pytest.raises(DataError, match=r"split train needs pitts30k_train.mat"):
        _ = dataset.train
    assert any("train, validation" in note for note in dataset.notes)


def test_no_root_no_folder_no_specs_no_images(tmp_path):
    assert "dataset.root is not set" in error_of(None, ConfigError)
    assert "is not a folder" in error_of(tmp_path / "nowhere")
    assert "dataset.specs" in error_of(tmp_path, ConfigError, specs=tmp_path / "nowhere")
    assert "pitts30k_train, pitts30k_val, pitts30k_test" in error_of(tmp_path)
    write_spec(tmp_path, "pitts30k_test", "struct", content(2))
    message = error_of(tmp_path)
    assert "002/000000_pitch1_yaw1.jpg" in message
    assert "dataset.query_root" in message


def test_queries_are_not_taken_from_the_references(tree):
    """Their names are the same: looking there would find wrong images in silence."""
    (tree / "queries_real").rename(tree / "elsewhere")
    assert "queries_real has no" in error_of(tree)


def test_axes_in_each_others_place_are_exchanged_and_told(tree):
    def swap(listed):
        listed["positions"] = listed["positions"][:, ::-1]

    rewrite(tree, swap)
    dataset = build(tree)
    np.testing.assert_array_equal(
        dataset.test.references.positions_m[0], np.add(ORIGIN_M, (0, 2000))
    )
    warnings = [one.message for one in findings(tree, "warning")]
    assert any("northing before easting" in one and "utmDb" in one for one in warnings)


def test_degrees_are_refused(tree):
    def degrees(listed):
        listed["positions"] = np.linspace([-80.01, 40.43], [-79.98, 40.45], 18)

    rewrite(tree, degrees)
    assert "utmDb is -80.01 to 40.45, which looks like degrees" in error_of(tree)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e12])
def test_what_is_no_position_is_refused(tree, value):
    def spoil(listed):
        listed["at"][4, 0] = value

    rewrite(tree, spoil)
    assert "utmQ: position 5 is" in error_of(tree)


def test_more_names_than_positions(tree):
    def cut(listed):
        listed["names"] = listed["names"][:-1]

    rewrite(tree, cut)
    assert "utmDb is 2 x 18 but must be 2 x 17" in error_of(tree)


@pytest.mark.parametrize("name", ["/etc/passwd", "../../secret.jpg", ""])
def test_a_name_that_leads_elsewhere(tree, name):
    def lead(listed):
        listed["names"][3] = name

    rewrite(tree, lead)
    assert "dbImageFns names" in error_of(tree)


def test_declared_counts_that_are_not_there_are_told(tree):
    from scipy.io import savemat

    fields = struct(*content(2)) | {"numImages": 10_000.0}
    savemat(tree / "pitts30k_test.mat", {"dbStruct": fields})
    assert any(
        "numImages" in str(one) for one in build(tree).findings if one.severity == "warning"
    )


def test_fields_of_other_names_are_taken_by_order(tree):
    from scipy.io import savemat

    values = struct(*content(2)).values()
    renamed = {f"f{at}": value for at, value in enumerate(values)}
    assert len(renamed) == len(FIELDS)
    savemat(tree / "pitts30k_test.mat", {"other": renamed})
    assert len(build(tree).test.queries) == 9


def test_the_fingerprint_changes_with_what_matters(tree):
    first = build(tree).fingerprint
    assert build(tree).fingerprint == first

    def move(listed):
        listed["at"] = listed["at"] + 1.0

    rewrite(tree, move)
    second = build(tree).fingerprint
    assert second != first
    (tree / "002/000000_pitch1_yaw1.jpg").write_bytes(b"x")
    assert build(tree).fingerprint not in (first, second)


def test_check_passes_a_whole_tree_but_for_its_counts(tree):
    report = check_pittsburgh(PittsburghConfig(root=tree))
    assert report.ok
    assert report.facts["test: references"] == 18
    assert report.facts["layout"] == "., queries_real"
    assert report.facts["missing files"] == 0
    warnings = [one.message for one in report.findings if one.severity == "warning"]
    assert len(warnings) == 3
    assert "10,000 and 6,816" in warnings[2]


def test_check_names_missing_and_unreadable_files(tree):
    (tree / "002/000001_pitch1_yaw1.jpg").unlink()
    (tree / "queries_real/000/000000_pitch1_yaw1.jpg").write_text("<html>log in</html>")
    missing, unreadable = findings(tree, "fault")
    assert missing.count == 1
    assert missing.examples == ("references/002/000001_pitch1_yaw1.jpg",)
    assert "queries_real/000/000000_pitch1_yaw1.jpg" in unreadable.examples[0]


def test_check_reports_names_out_of_step(tree):
    def shift(listed):
        listed["positions"] = np.roll(listed["positions"], 1, axis=0)

    rewrite(tree, shift)
    (fault,) = findings(tree, "fault")
    assert "test: references: panoramas have views" in fault.message
    assert fault.count == 6


def test_check_compares_positions_in_names(tmp_path):
    names = [f"@{585_000 + 30 * at}.00@4477000.00@17@T@.jpg" for at in range(4)]
    positions = np.array([[585_000.0 + 30 * at, 4_477_000.0] for at in range(4)])
    for folder in ("images", "queries"):
        (tmp_path / folder).mkdir()
        for name in names:
            Image.new("RGB", (8, 8)).save(tmp_path / folder / name)
    write_spec(tmp_path, "pitts30k_test", "npz", (names, positions, names, positions))
    assert findings(tmp_path, "fault") == []
    listed = (names, positions, names, positions[::-1])
    write_spec(tmp_path, "pitts30k_test", "npz", listed)
    (fault,) = findings(tmp_path, "fault")
    assert "test: queries are not where their names say" in fault.message
    assert fault.count == 4


def test_check_counts_queries_alone(tree):
    def away(listed):
        listed["at"][:3] += [0.0, 18.0]
        listed["at"][3:6] += [0.0, 50.0]

    rewrite(tree, away)
    alone = {
        one.message: one.count for one in findings(tree, "warning") if "within" in one.message
    }
    assert alone == {
        "test: queries have no reference within 10 m": 6,
        "test: queries have no reference within 25 m": 3,
    }


def test_check_turns_what_stops_opening_into_a_fault(tree):
    (tree / "pitts30k_val.mat").write_text("<!DOCTYPE html><title>Sign in</title>")
    (fault,) = findings(tree, "fault")
    assert "pitts30k_val.mat is not a MATLAB v5 file: it is a web page" in fault.message


def test_the_conformance_kit_runs_whole(tree):
    assert_kit_runs_whole("pittsburgh", PittsburghConfig(root=tree))


def test_listing_the_plugin_imports_nothing_heavy():
    assert imported_by_listing("mlcore_pittsburgh.plugin", "torch", "numpy", "scipy") == []


def test_from_the_command_line_to_a_run(tree, tmp_path, capsys):
    assert main(["data", "check", "--dataset", "pittsburgh", "--dataset.root", str(tree)]) == 0
    run = tmp_path / "run"
    words = [
        *("train", "--loss", "proposed", "--dataset", "pittsburgh"),
        *("--dataset.root", str(tree), "--out", str(run)),
        *("--model.width", "8", "--model.embedding_dim", "16"),
        *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "2"),
        *("--sampling.far_per_tuple", "2", "--training.max_steps", "3"),
        *("--training.log_every", "1"),
        *("--evaluation.dimensions", "8"),
    ]
    assert main(words) == 0
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert [one["model"] for one in evaluation["evaluations"]][-1] == "trained"
    assert "upper bound" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("before", "before_queries"),
    [
        ("./Pittsburgh250k/", "./Pittsburgh250k/queries_real/"),
        ("Pittsburgh250k/", "Pittsburgh250k/queries_real/"),
        ("a/b/c/", "a/b/c/queries_real/"),
        ("images/", "queries/"),
    ],
)
def test_lists_with_leading_folders_open_as_they_are_published(
    tmp_path, before, before_queries
):
    plain = build(write_tree(tmp_path / "plain"))
    root = write_tree(tmp_path / "listed")

    def lengthen(listed):
        listed["names"] = [before + name for name in listed["names"]]
        listed["queries"] = [before_queries + name for name in listed["queries"]]

    for part in ("train", "val", "test"):
        rewrite(root, lengthen, part)
    dataset = build(root)
    assert dataset.names.equals(plain.names)
    assert dataset.load_image(0).equal(plain.load_image(0))
    if "Pitts" in before:
        assert any(
            "the names of references begin with Pittsburgh250k/" in n for n in dataset.notes
        )


def test_an_image_of_the_train_and_the_test_spec_is_a_fault(tree):
    names, _, queries, _ = content(0)

    def share(listed):
        listed["names"] = [*listed["names"][:-1], names[0]]
        listed["queries"] = [*listed["queries"][:-1], queries[0]]

    rewrite(tree, share)
    (fault,) = [one for one in findings(tree, "fault") if one.name == "shared-images"]
    assert fault.count == 2
