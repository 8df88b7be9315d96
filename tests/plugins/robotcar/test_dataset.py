"""The data set ``robotcar`` end to end: trees, preparing, protocols, checking, training."""

from __future__ import annotations

import json
import math
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mlcore.cli.main import main
from mlcore.errors import ConfigError, DataError
from mlcore.factories import BuildContext
from mlcore.protocols import no_progress
from mlcore.testing import CheckSkipped, checks
from mlcore_robotcar import RobotCarConfig, check_robotcar, open_robotcar, prepare_robotcar
from mlcore_robotcar.config import BAD_DATES
from mlcore_robotcar.decoding import demosaic, fit
from mlcore_robotcar.index import SCHEMA
from mlcore_robotcar.plugin import mlcore_datasets
from tests.support.robotcar_tree import (
    HEADING,
    NUM,
    PAPER,
    REGIONS,
    START,
    frame,
    png,
    position,
    stamps_of,
    write_tar,
    write_tree,
)

REFERENCE, QUERIES, VALIDATION = PAPER[0], PAPER[1:5], PAPER[5:7]
TRAINING = 11
"""Images of a traversal in the training region."""
UNCLEANED = {"exposure_percentiles": (0.0, 100.0), "max_offset_m": None}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def raw(tmp_path):
    return write_tree(tmp_path / "raw")


def config_of(root, **options):
    return RobotCarConfig(
        root=root,
        **{"num_processes": 1, "longest_side_px": 16, "image_format": "png", **options},
    )


def prepare(root, out, **options):
    return prepare_robotcar(config_of(root, **options), out, no_progress)


def findings(root, severity, full=False, **options):
    report = check_robotcar(config_of(root, **options), full=full)
    return [one for one in report.findings if one.severity == severity]


def tables(dataset):
    for name, split in dataset.splits.items():
        yield f"{name}: references", split.references
        yield f"{name}: queries", split.queries


def expect_same(one, two):
    for (name, first), (_, second) in zip(tables(one), tables(two), strict=True):
        assert len(first), name
        np.testing.assert_allclose(first.positions_m, second.positions_m, atol=1e-6)
        np.testing.assert_allclose(first.headings_rad, second.headings_rad, atol=1e-6)
        np.testing.assert_allclose(first.arc_length_m, second.arc_length_m, atol=1e-5)
        dates = [np.array(t.traversals)[t.traversal].tolist() for t in (first, second)]
        assert dates[0] == dates[1]
        for a, b in list(zip(first.index, second.index, strict=True))[::7]:
            np.testing.assert_array_equal(one.load_image(int(a)), two.load_image(int(b)))


@pytest.mark.parametrize("layout", ["apart", "tars"])
def test_every_tree_is_the_same_data_set(tmp_path, raw, layout):
    other = write_tree(tmp_path / layout, layout)
    expect_same(open_robotcar(config_of(raw)), open_robotcar(config_of(other)))


def test_poses_are_those_of_the_drive(raw):
    table = open_robotcar(config_of(raw)).train.references
    stamps = stamps_of(NUM)[: len(table)]
    np.testing.assert_allclose(table.positions_m, position(stamps), atol=1e-6)
    np.testing.assert_allclose(table.headings_rad, HEADING, atol=1e-6)
    np.testing.assert_allclose(table.arc_length_m, 5.0 * np.arange(len(table)), atol=1e-5)


def test_rtk_gives_the_headings_of_ins(raw):
    ins, rtk = (open_robotcar(config_of(raw, poses=poses)) for poses in ("ins", "rtk"))
    expect_same(ins, rtk)
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
    assert "its yaw has another zero" in fault.message


def test_a_tar_with_another_name_is_told(tmp_path):
    raw = write_tree(tmp_path, "tars", PAPER)
    path = raw / f"{REFERENCE}_stereo_centre_02.tar"
    path.rename(path.with_name(f"{REFERENCE}_stereo_centre_02(1).tar"))
    (fault,) = findings(raw, "fault")
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
    with pytest.raises(ConfigError, match="longest_side_px cannot be 0; at least 16 is due"):
        open_robotcar(config_of(tmp_path, longest_side_px=0))


def test_regions_that_do_not_fit_are_told(raw):
    (raw / "regions.txt").unlink()
    dataset = open_robotcar(config_of(raw))
    assert any("own, not the paper's" in note for note in dataset.notes)
    with pytest.raises(DataError, match=r"no image of 2014-12-02-15-30-08 is in its region"):
        _ = dataset.train


def test_what_is_prepared_is_what_is_raw(tmp_path, raw):
    report = prepare(raw, tmp_path / "out", **UNCLEANED)
    assert report.ok
    assert report.facts["developed in this call"] == 8 * NUM
    assert report.facts["images of train"] == 8 * TRAINING
    expect_same(
        open_robotcar(config_of(raw)), open_robotcar(RobotCarConfig(root=tmp_path / "out"))
    )
    path = tmp_path / "out/images" / REFERENCE / f"{stamps_of(NUM)[3]}.png"
    with Image.open(path) as image:
        expected = fit(demosaic(frame(3), "stereo/centre"), 16)
        np.testing.assert_array_equal(np.asarray(image), expected)
    assert not (tmp_path / "out/parts").exists()


def test_any_reader_of_parquet_opens_the_index(tmp_path, raw):
    prepare(raw, tmp_path / "out", **UNCLEANED)
    table = pq.read_table(tmp_path / "out/index")
    assert table.column_names == SCHEMA.names
    assert len(table) == 8 * NUM
    row = table.slice(3 * NUM + 5, 1).to_pylist()[0]
    assert row["traversal"] == REFERENCE
    assert row["chunk"] == 1
    assert row["condition"] == "overcast"
    assert row["region"] == "train"
    assert row["exposure"] == frame(5).sum(dtype=int)
    assert (tmp_path / "out" / row["path"]).is_file()


def test_processes_change_nothing(tmp_path, raw):
    prepare(raw, tmp_path / "one")
    prepare(raw, tmp_path / "two", num_processes=2)
    for path in sorted((tmp_path / "one").rglob("*")):
        if path.suffix in (".parquet", ".png"):
            other = tmp_path / "two" / path.relative_to(tmp_path / "one")
            assert path.read_bytes() == other.read_bytes()


def test_a_second_call_does_what_is_missing(tmp_path, raw):
    out = tmp_path / "out"
    for date in PAPER[4:]:
        shutil.move(raw / date, tmp_path / date)
    assert prepare(raw, out).facts["developed in this call"] == 4 * NUM
    before = (out / "images" / REFERENCE / f"{stamps_of(NUM)[0]}.png").stat().st_mtime_ns
    assert prepare(raw, out).facts["developed in this call"] == 0
    for date in PAPER[4:]:
        shutil.move(tmp_path / date, raw / date)
    assert prepare(raw, out).facts["developed in this call"] == 4 * NUM
    after = (out / "images" / REFERENCE / f"{stamps_of(NUM)[0]}.png").stat().st_mtime_ns
    assert before == after
    whole = tmp_path / "whole"
    prepare(raw, whole)
    assert (
        open_robotcar(config_of(whole)).fingerprint == open_robotcar(config_of(out)).fingerprint
    )


def test_a_chunk_that_comes_later_is_added_and_one_that_goes_stays(tmp_path):
    raw, out = write_tree(tmp_path / "raw", "tars", PAPER), tmp_path / "out"
    tars = [raw / f"{REFERENCE}_stereo_centre_{chunk:02d}.tar" for chunk in (1, 2)]
    tars[1].rename(tmp_path / "kept.tar")
    prepare(raw, out, **UNCLEANED)
    (tmp_path / "kept.tar").rename(tars[1])
    tars[0].unlink()
    assert prepare(raw, out, **UNCLEANED).facts["developed in this call"] == NUM // 2
    whole = tmp_path / "whole"
    prepare(write_tree(tmp_path / "again", "tars", PAPER), whole, **UNCLEANED)
    one, two = (open_robotcar(config_of(folder)) for folder in (whole, out))
    expect_same(one, two)
    assert one.fingerprint == two.fingerprint


def test_other_options_or_a_foreign_folder_are_refused(tmp_path, raw):
    prepare(raw, tmp_path / "out")
    with pytest.raises(ConfigError, match="prepared with longest_side_px 16, now it is 24"):
        prepare(raw, tmp_path / "out", longest_side_px=24)
    with pytest.raises(ConfigError, match="not empty"):
        prepare(raw, raw)
    with pytest.raises(ConfigError, match="jpeg_quality cannot be 0"):
        prepare(raw, tmp_path / "new", jpeg_quality=0)


@pytest.mark.parametrize("pause_s", [0.0, 0.3])
def test_a_kill_leaves_nothing_half_done(tmp_path, raw, pause_s):
    out = tmp_path / "out"
    words = ["data", "prepare", "robotcar", "--root", str(raw), "--out", str(out)]
    words += ["--num_processes", "1", "--longest_side_px", "16", "--image_format", "png"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlcore", *words],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    while process.poll() is None and not any(out.glob("images/*/*.png")):
        time.sleep(0.01)
    time.sleep(pause_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    for path in out.glob("images/*/[0-9]*.png"):
        with Image.open(path) as image:
            image.load()
    if process.returncode == -signal.SIGKILL and not (out / "summary.json").exists():
        with pytest.raises(DataError, match="not wholly prepared"):
            open_robotcar(config_of(out))
    assert prepare(raw, out).ok
    prepare(raw, tmp_path / "whole")
    expect_same(open_robotcar(config_of(tmp_path / "whole")), open_robotcar(config_of(out)))
    assert not list(out.glob("images/*/.*.tmp"))


def test_workers_end_with_the_process_that_started_them(tmp_path, raw):
    code = (
        "import sys, time\n"
        "from mlcore_robotcar.workers import workers\n"
        "import os\n"
        "if __name__ == '__main__':\n"
        "    with workers(2) as pool:\n"
        "        print(pool.submit(os.getpid).result(), flush=True)\n"
        "        time.sleep(60)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    worker = int(process.stdout.readline())
    process.kill()
    process.communicate()
    for _ in range(100):
        try:
            os.kill(worker, 0)
            state = Path(f"/proc/{worker}/stat").read_text().split()[2]
        except (ProcessLookupError, FileNotFoundError):
            return
        if state == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the worker outlived its parent")


def test_an_image_that_cannot_be_decoded_is_named_and_left_out(tmp_path, raw):
    broken = raw / REFERENCE / f"stereo/centre/{stamps_of(NUM)[7]}.png"
    broken.write_bytes(broken.read_bytes()[:70])
    report = prepare(raw, tmp_path / "out", **UNCLEANED)
    (warning,) = [one for one in report.findings if one.severity == "warning"]
    assert str(broken) in warning.examples[0]
    assert report.facts["unreadable"] == 1
    assert len(open_robotcar(config_of(tmp_path / "out")).train.references) == TRAINING - 1


def test_cleaning_counts_what_it_leaves_out(tmp_path, raw):
    folder = raw / PAPER[7]
    lines = (folder / "gps/ins.csv").read_text().splitlines()
    for at, line in enumerate(lines[1:41], start=1):  # 4 s beside the road, then on it
        words = line.split(",")
        words[5] = f"{float(words[5]) - 9 / math.sqrt(2):.6f}"
        words[6] = f"{float(words[6]) + 9 / math.sqrt(2):.6f}"
        lines[at] = ",".join(words)
    (folder / "gps/ins.csv").write_text("\n".join(lines) + "\n")
    dark = stamps_of(NUM, START + 7 * 10**10)[30]
    (folder / f"stereo/centre/{dark}.png").write_bytes(png(np.zeros((24, 32), np.uint8)))
    out = tmp_path / "out"
    report = prepare(raw, out, exposure_percentiles=(1.0, 100.0))
    assert report.facts["left out: exposure"] == 8
    assert 14 <= report.facts["left out: far from the reference path"] <= 16
    table = pq.read_table(out / f"index/{PAPER[7]}.parquet").to_pylist()
    assert table[30]["dropped"] == "exposure"
    assert {row["dropped"] for row in table[:15]} <= {"offset", "exposure"}
    assert {row["dropped"] for row in table[17:30]} == {""}
    kept = open_robotcar(config_of(out)).train.queries
    assert not (kept.traversal == kept.traversals.index(PAPER[7])).any()
    # The same folder without cleaning: no image is developed again.
    report = prepare(raw, out, **UNCLEANED)
    assert report.facts["developed in this call"] == 0
    assert report.facts["left out: exposure"] == 0
    assert {row["dropped"] for row in pq.read_table(out / "index").to_pylist()} == {""}


def test_undistortion_is_part_of_what_is_prepared(tmp_path, raw):
    rows, columns = np.mgrid[0:24, 0:32].astype(float)
    lut = tmp_path / "lut.bin"
    lut.write_bytes(np.stack([columns[:, ::-1], rows]).tobytes())
    prepare(raw, tmp_path / "out", distortion_table=lut, longest_side_px=32, **UNCLEANED)
    with Image.open(tmp_path / "out/images" / REFERENCE / f"{stamps_of(NUM)[3]}.png") as image:
        np.testing.assert_array_equal(
            np.asarray(image), demosaic(frame(3), "stereo/centre")[:, ::-1]
        )
    assert "images are undistorted" in open_robotcar(config_of(tmp_path / "out")).notes
    with pytest.raises(DataError, match="cannot be read"):
        prepare(raw, tmp_path / "no", distortion_table=tmp_path / "none.bin")


def write_others(tmp_path, raw, form):
    """The same drive in the layouts of others."""
    root = tmp_path / form
    root.mkdir()
    (root / "regions.txt").write_text(REGIONS)
    rows = ["date,folder,t,easting,northing,yaw,l"]
    for number, date in enumerate(PAPER):
        start = START + 10**10 * number
        for at, stamp in enumerate(stamps_of(NUM, start).tolist()):
            easting, northing = position(stamp, start)
            image = Image.fromarray(demosaic(frame(at), "stereo/centre"))
            if form == "csv":
                folder = root / f"{date}_stereo_centre_{1 + at // (NUM // 2):02d}"
                named = 1 + at // (NUM // 2) if number % 2 else folder.name
                rows.append(
                    f"{date},{named},{stamp},{easting!r},{northing!r},{HEADING},{5.0 * at}"
                )
                path = folder / f"{stamp}.png"
            else:
                path = root / f"all/@{northing:.6f}@{easting:.6f}@{date}@{at}@{stamp}@.png"
            path.parent.mkdir(exist_ok=True)
            image.save(path)
    if form == "csv":
        (root / "images.csv").write_text(
            "\n".join(rows).replace("np.float64(", "").replace(")", "")
        )
    return root


def test_tables_of_others(tmp_path, raw):
    root = write_others(tmp_path, raw, "csv")
    dataset = open_robotcar(config_of(root))
    assert "tables of others (CSV)" in dataset.notes[0]
    expect_same(open_robotcar(config_of(raw, longest_side_px=32)), dataset)


def test_file_names_of_others_have_northing_first(tmp_path, raw):
    root = write_others(tmp_path, raw, "names")
    dataset = open_robotcar(config_of(root))
    assert dataset.train.references.headings_rad is None
    reference = open_robotcar(config_of(raw)).train.references
    np.testing.assert_allclose(
        dataset.train.references.positions_m, reference.positions_m, atol=1e-5
    )


@pytest.mark.parametrize("folder", ["../raw", "/etc", "a/../../b"])
def test_tables_that_lead_elsewhere_are_refused(tmp_path, folder):
    row = f"{REFERENCE},{folder},5,620000,5735000,0"
    (tmp_path / "a.csv").write_text(f"date,folder,t,easting,northing,yaw\n{row}\n")
    with pytest.raises(DataError, match="name no folder"):
        open_robotcar(config_of(tmp_path))


def test_a_pickled_data_set_is_small_and_the_same(tmp_path, raw):
    prepare(raw, tmp_path / "out")
    dataset = open_robotcar(config_of(tmp_path / "out"))
    data = pickle.dumps(dataset)
    assert len(data) < 10_000
    expect_same(dataset, pickle.loads(data))


def test_check_of_a_whole_tree(raw):
    report = check_robotcar(config_of(raw))
    assert report.ok
    assert report.facts["layout"] == "raw tree"
    assert report.facts["share of good rows"] == "100.0%"
    assert report.facts["train: references"] == TRAINING


def test_check_finds_what_is_wrong(tmp_path):
    raw = write_tree(tmp_path, "tars")
    names = [raw / f"{date}_stereo_centre_02.tar" for date in PAPER]
    names[0].write_text("<html>Please log in</html>")
    names[1].write_bytes(names[1].read_bytes()[:5000])
    write_tar(names[2], PAPER[2], stamps_of(2), extra=[evil()])
    rows = (raw / PAPER[3] / "gps/ins.csv").read_text().splitlines()
    kept = [rows[0], *reversed(rows[1:40]), *rows[45:55], *rows[80:]]
    (raw / PAPER[3] / "gps/ins.csv").write_text("\n".join(kept))
    bad = (raw / PAPER[4] / "gps/ins.csv").read_text().replace("_GOOD", "_NOT_GOOD")
    (raw / PAPER[4] / "gps/ins.csv").write_text(bad)
    (raw / PAPER[5] / "gps/ins.csv").unlink()
    (raw / PAPER[6] / "tags.csv").write_text("overcast,poor-gps")
    report = check_robotcar(config_of(raw))
    assert not report.ok
    faults = " ".join(f.message for f in report.findings if f.severity == "fault")
    for said in ("web page", "is truncated", "leads out of the tar"):
        assert said in faults
    rest = [f for f in report.findings if f.severity != "fault"]
    text = " ".join(f"{f.message} {' '.join(f.examples)}" for f in rest)
    for said in (
        "rows step back in time",
        "gaps of more than 1 s",
        "in a gap of the track",
        "not INS_SOLUTION_GOOD",
        "chunks listed without any image (frames): 2 (20)",
        f"{PAPER[5]} has no gps/ins.csv",
        "poor-gps",
    ):
        assert said in text, said


def evil():
    return tarfile.TarInfo("../../outside.png")


def test_check_decodes_a_sample_or_all(tmp_path, raw, monkeypatch):
    prepare(raw, tmp_path / "out", **UNCLEANED)
    monkeypatch.setattr("mlcore.examining.NUM_DECODED", 20)
    broken = tmp_path / "out/images" / REFERENCE / f"{stamps_of(NUM)[3]}.png"
    broken.write_bytes(b"x")
    assert findings(tmp_path / "out", "fault") == []
    (fault,) = findings(tmp_path / "out", "fault", full=True)
    assert str(broken) in fault.examples[0]
    broken.unlink()
    (fault,) = findings(tmp_path / "out", "fault")
    assert fault.examples == (f"images/{REFERENCE}/{broken.name}",)


def test_check_counts_queries_alone(raw):
    for date in QUERIES[:2]:
        lines = (raw / date / "gps/ins.csv").read_text().splitlines()
        shift = 30.0 if date == QUERIES[0] else 15.0
        for at, line in enumerate(lines[1:], start=1):
            words = line.split(",")
            words[6] = f"{float(words[6]) + shift:.6f}"
            lines[at] = ",".join(words)
        (raw / date / "gps/ins.csv").write_text("\n".join(lines))
    alone = {f.message: f.count for f in findings(raw, "warning") if "within" in f.message}
    assert alone["test: queries have no reference within 10 m"] >= 6
    assert "test: queries have no reference within 25 m" not in alone or (
        alone["test: queries have no reference within 25 m"]
        < alone["test: queries have no reference within 10 m"]
    )


def test_a_damaged_index_is_told(tmp_path, raw):
    prepare(raw, tmp_path / "out")
    path = tmp_path / f"out/index/{REFERENCE}.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match=f"{REFERENCE}.parquet cannot be used"):
        open_robotcar(config_of(tmp_path / "out"))
    (fault,) = findings(tmp_path / "out", "fault")
    assert "cannot be used" in fault.message


def test_the_conformance_kit_runs_whole(tmp_path, raw):
    prepare(raw, tmp_path / "out")
    for root in (raw, tmp_path / "out"):
        ran = 0
        for check in checks(
            "robotcar", only="dataset/*", configs={"robotcar": config_of(root)}
        ):
            try:
                check()
            except CheckSkipped as skipped:
                pytest.fail(f"{check} did not run: {skipped}")
            ran += 1
        assert ran == 10


def test_listing_the_plugin_imports_nothing_heavy():
    code = (
        "import sys, mlcore_robotcar.plugin; "
        "print([m for m in ('torch', 'numpy', 'cv2', 'pyarrow') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_factory_builds_with_the_cache_of_the_run(tmp_path):
    root = write_tree(tmp_path / "raw", "tars", PAPER[:2], 20)
    factory = mlcore_datasets()[0]
    factory.build(config_of(root), BuildContext(cache_dir=tmp_path / "cache"))
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
