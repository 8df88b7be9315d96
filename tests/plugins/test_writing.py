"""Writing a data set as RobotCar's download or as Pittsburgh, and reading it back."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from scipy.io import loadmat

from mlcore.errors import DataError
from mlcore.protocols import PlaceTable, Split, no_progress
from mlcore_pittsburgh.config import PittsburghConfig
from mlcore_pittsburgh.dataset import open_pittsburgh
from mlcore_pittsburgh.specs import FIELDS
from mlcore_pittsburgh.writing import write_pittsburgh
from mlcore_pittsburgh.writing_config import PittsburghWriteConfig
from mlcore_robotcar.checking import check_robotcar
from mlcore_robotcar.config import RobotCarConfig
from mlcore_robotcar.dataset import open_robotcar
from mlcore_robotcar.download.poses import interpolate
from mlcore_robotcar.download.tables import read_ins
from mlcore_robotcar.prepare.decode import demosaic, fit
from mlcore_robotcar.write.bayer import mosaic
from mlcore_robotcar.write.config import RobotCarWriteConfig
from mlcore_robotcar.write.write import tag_of, write_robotcar

SPLITS = ("train", "validation", "test")
CENTIMETRE_M = 0.01


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def dataset(synthetic_dataset):
    """Every fifth image of three districts: a reference and two queries round a loop."""
    return changed(synthetic_dataset, lambda table: table.take(slice(None, None, 5)))


def changed(dataset, change):
    """Change every table of a data set in place."""
    for name in SPLITS:
        split = getattr(dataset, name)
        tables = {role: change(getattr(split, role)) for role in ("references", "queries")}
        setattr(dataset, name, Split(**tables))
    return dataset


def with_columns(dataset, **columns):
    return changed(
        dataset,
        lambda table: dataclasses.replace(
            table, **{name: make(table) for name, make in columns.items()}
        ),
    )


def write(dataset, out, **options):
    out.mkdir()
    return write_robotcar(RobotCarWriteConfig(**options), dataset, out, no_progress)


def read(root, **options):
    return open_robotcar(
        RobotCarConfig(root=root, protocol="all", longest_side_px=64, **options)
    )


def words(table: PlaceTable, codes: str, names: str):
    return [getattr(table, names)[code] for code in getattr(table, codes)]


def pairs(one, other):
    """Yield the tables of two data sets that should be the same."""
    for name in SPLITS:
        for role in ("references", "queries"):
            yield getattr(getattr(one, name), role), getattr(getattr(other, name), role)


def assert_same_places(written, found):
    for ours, theirs in pairs(written, found):
        assert len(theirs) == len(ours) > 0
        apart_m = np.abs(theirs.positions_m - ours.positions_m[:, :2])
        assert apart_m.max() < CENTIMETRE_M


@pytest.mark.parametrize("images", ["folders", "tars"])
def test_robotcar_gives_back_splits_positions_headings_conditions_and_images(
    dataset, tmp_path, images
):
    report = write(dataset, tmp_path / "raw", images=images, chunk_frames=7)
    found = read(tmp_path / "raw")
    assert report.ok
    assert report.facts["images"] == found.num_images == 108
    assert_same_places(dataset, found)
    for ours, theirs in pairs(dataset, found):
        turn = np.angle(np.exp(1j * (theirs.headings_rad - ours.headings_rad)))
        assert np.abs(turn).max() < 1e-5
        conditions = words(ours, "condition", "conditions")
        assert words(theirs, "condition", "conditions") == conditions
        for at in (0, len(ours) // 2, len(ours) - 1):
            image = dataset.load_image(int(ours.index[at])).double()
            again = found.load_image(int(theirs.index[at])).double()
            assert again.shape == image.shape
            assert (again - image).abs().mean() < 1
    tars = sorted(path.name for path in (tmp_path / "raw").glob("*.tar"))
    assert len(tars) == (0 if images == "folders" else 6 + 6 * 2)
    assert list((tmp_path / "raw").rglob("*.tmp")) == []


def test_robotcar_is_checked_without_a_fault(dataset, tmp_path):
    write(dataset, tmp_path / "raw")
    report = check_robotcar(
        RobotCarConfig(root=tmp_path / "raw", protocol="all", longest_side_px=64), full=True
    )
    assert report.ok
    assert report.facts["share of images with a pose"] == "100.0%"
    assert not any("off the direction" in finding.message for finding in report.findings)


def test_robotcar_has_three_rows_an_image_that_bracket_it(dataset, tmp_path):
    write(dataset, tmp_path / "raw")
    folder = min((tmp_path / "raw").glob("2020-*"))
    track = read_ins(folder / "gps/ins.csv")
    lines = (folder / "stereo.timestamps").read_text().split("\n")[:-1]
    stamps = np.array([int(line.split()[0]) for line in lines])
    assert len(track) == 3 * len(stamps)
    assert not np.isin(stamps, track.timestamps).any()
    poses = interpolate(track, stamps, max_gap_s=0.1)
    assert np.isfinite(poses.positions_m).all()
    assert np.abs(np.diff(track.yaw_rad)).max() > math.pi  # the loop crosses the wrap


def test_splits_in_one_place_are_cut_by_lists(dataset, tmp_path):
    with_columns(dataset, positions_m=lambda table: table.positions_m % 1000)
    write(dataset, tmp_path / "raw")
    assert not (tmp_path / "raw/regions.txt").exists()
    assert_same_places(dataset, read(tmp_path / "raw", regions=tmp_path / "raw/regions"))


def test_altitudes_are_kept_in_the_file(dataset, tmp_path):
    with_columns(
        dataset,
        positions_m=lambda table: np.column_stack([table.positions_m, np.full(len(table), 61)]),
    )
    write(dataset, tmp_path / "raw")
    assert_same_places(dataset, read(tmp_path / "raw"))
    row = next((tmp_path / "raw").glob("*/gps/ins.csv")).read_text().split("\n")[1]
    assert row.split(",")[4] == "61.000000"


def test_enlarged_frames_are_developed_to_the_picture():
    generator = np.random.default_rng(0)
    picture = generator.integers(0, 256, (12, 32, 3), dtype=np.uint8)
    picture = picture.repeat(4, axis=0).repeat(4, axis=1)  # edges that a mosaic blurs
    errors = []
    for enlarge in (1, 2, 4):
        raw = mosaic(picture, enlarge)
        assert raw.shape == (48 * enlarge, 128 * enlarge)
        again = fit(demosaic(raw, "stereo/centre"), 128)
        errors.append(np.abs(again.astype(int) - picture).mean())
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 2


def test_red_stays_red():
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 200
    raw = mosaic(red, 2)
    assert (raw[1::2, 0::2] == 200).all()
    assert raw.sum() == 200 * raw[1::2, 0::2].size
    assert (demosaic(raw, "stereo/centre") == np.array([200, 0, 0])).all()


def without_headings(dataset):
    return with_columns(dataset, headings_rad=lambda _: None)


def with_nan(dataset):
    return with_columns(dataset, positions_m=lambda table: table.positions_m * math.nan)


def without_references(dataset):
    for name in SPLITS:
        split = getattr(dataset, name)
        nothing = split.references.take(slice(0, 0))
        setattr(dataset, name, Split(references=nothing, queries=split.queries))
    return dataset


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_headings, "have no headings"),
        (with_nan, "synthetic/0000 is the first"),
        (without_references, "no reference image"),
    ],
)
def test_what_robotcar_cannot_hold_is_refused_before_a_file(dataset, tmp_path, spoil, message):
    spoiled = spoil(dataset)
    with pytest.raises(DataError, match=message):
        write(spoiled, tmp_path / "raw")
    assert list((tmp_path / "raw").iterdir()) == []


def test_frames_larger_than_any_that_is_read_are_refused(dataset, tmp_path):
    dataset.height = 320
    with pytest.raises(DataError, match="choose another --enlarge"):
        write(dataset, tmp_path / "raw", enlarge=16)


@pytest.mark.parametrize("images", ["folders", "tars"])
def test_an_unreadable_image_stops_and_leaves_no_half_file(dataset, tmp_path, images):
    dataset.broken = frozenset([int(dataset.train.queries.index[2])])
    with pytest.raises(DataError, match="cannot be decoded: synthetic"):
        write(dataset, tmp_path / "raw", images=images)
    assert not (tmp_path / "raw/regions.txt").exists()
    assert list((tmp_path / "raw").rglob("*.tmp")) == []
    out = tmp_path / "pittsburgh"
    with pytest.raises(DataError, match="cannot be decoded: synthetic"):
        write_pittsburgh(PittsburghWriteConfig(), dataset, out, no_progress)
    assert list(out.glob("*.mat")) == []


def test_conditions_become_tags():
    assert [tag_of(word) for word in ("night", "Late Dusk!", "2020", "")] == [
        "night",
        "late-dusk",
        "condition-2020",
        "condition",
    ]


def test_foreign_and_mixed_conditions_are_told(dataset, tmp_path):
    with_columns(
        dataset,
        conditions=lambda _: ("fog", "hail"),
        condition=lambda table: np.arange(len(table)) % 2,
    )
    report = write(dataset, tmp_path / "raw")
    told = " ".join(finding.message for finding in report.findings)
    assert "several conditions" in told
    assert "are not RobotCar tags" in told


@pytest.mark.parametrize(("image_format", "tolerance"), [("png", 0), ("jpeg", 3)])
def test_pittsburgh_gives_back_splits_positions_and_images(
    dataset, tmp_path, image_format, tolerance
):
    options = PittsburghWriteConfig(image_format=image_format)
    report = write_pittsburgh(options, dataset, tmp_path, no_progress)
    found = open_pittsburgh(PittsburghConfig(root=tmp_path))
    assert report.facts["images"] == len(found.names) == 108
    for ours, theirs in pairs(dataset, found):
        assert (theirs.positions_m == ours.positions_m).all()
        for one, other in zip(ours.index.tolist(), theirs.index.tolist(), strict=True):
            apart = dataset.load_image(one).double() - found.load_image(other).double()
            assert apart.abs().mean() <= tolerance


def test_pittsburghs_names_and_fields_are_the_published_ones(dataset, tmp_path):
    write_pittsburgh(PittsburghWriteConfig(), dataset, tmp_path, no_progress)
    spec = loadmat(tmp_path / "pitts30k_val.mat")["dbStruct"]
    assert spec.dtype.names == FIELDS
    first = spec["dbImageFns"][0, 0][0, 0][0]
    heading = math.degrees(dataset.validation.references.headings_rad[0]) % 360
    assert first == f"000/000012_pitch1_yaw{1 + round(heading / 30) % 12}.jpg"
    assert (tmp_path / first).is_file()
    assert (tmp_path / "queries_real" / spec["qImageFns"][0, 0][0, 0][0]).is_file()
    assert spec["utmQ"][0, 0].shape == (2, 24)
    assert spec["posDistThr"][0, 0].item() == 25


def test_pittsburghs_spec_is_the_same_at_another_time(dataset, tmp_path, monkeypatch):
    """So that what a stopped command left can be compared with what it should have written."""
    found = []
    for year in ("2025", "2026"):
        monkeypatch.setattr("time.asctime", lambda year=year: year)
        (tmp_path / year).mkdir()
        write_pittsburgh(PittsburghWriteConfig(), dataset, tmp_path / year, no_progress)
        found.append((tmp_path / year / "pitts30k_val.mat").read_bytes())
    assert found[0] == found[1]
    assert found[0][:10] == b"MATLAB 5.0"


def test_pittsburgh_needs_no_headings_and_no_queries(dataset, tmp_path):
    without_headings(dataset)
    split = dataset.validation
    dataset.validation = Split(
        references=split.references, queries=split.queries.take(slice(0, 0))
    )
    write_pittsburgh(PittsburghWriteConfig(), dataset, tmp_path, no_progress)
    found = open_pittsburgh(PittsburghConfig(root=tmp_path))
    assert len(found.validation.references) == 12
    assert len(found.validation.queries) == 0
    assert all("yaw1.jpg" in str(name) for name in found.names)
