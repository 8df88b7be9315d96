"""Preparing RobotCar: what is written, again after a kill, left out, undistorted."""

from __future__ import annotations

import math
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mlcore.errors import ConfigError, DataError
from mlcore_robotcar import RobotCarConfig, open_robotcar
from mlcore_robotcar.prepare.decode import demosaic, fit
from mlcore_robotcar.prepare.index import SCHEMA
from tests.support.robotcar_dataset import (
    REFERENCE,
    TRAINING,
    UNCLEANED,
    assert_same,
    config_of,
    prepare,
)
from tests.support.robotcar_tree import (
    NUM,
    PAPER,
    START,
    frame,
    png,
    stamps_of,
    write_tree,
)


def test_what_is_prepared_is_what_is_raw(tmp_path, raw):
    report = prepare(raw, tmp_path / "out", **UNCLEANED)
    assert report.ok
    assert report.facts["developed in this call"] == 8 * NUM
    assert report.facts["images of train"] == 8 * TRAINING
    assert_same(
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
    assert_same(one, two)
    assert one.fingerprint == two.fingerprint


def test_other_options_or_a_foreign_folder_are_refused(tmp_path, raw):
    prepare(raw, tmp_path / "out")
    with pytest.raises(ConfigError, match="prepared with longest_side_px 16, now it is 24"):
        prepare(raw, tmp_path / "out", longest_side_px=24)
    with pytest.raises(ConfigError, match="not empty"):
        prepare(raw, raw)
    with pytest.raises(ConfigError, match="jpeg_quality must be between 1 and 100, got 0"):
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
        with pytest.raises(DataError, match="not completely prepared"):
            open_robotcar(config_of(out))
    assert prepare(raw, out).ok
    prepare(raw, tmp_path / "whole")
    assert_same(open_robotcar(config_of(tmp_path / "whole")), open_robotcar(config_of(out)))
    assert not list(out.glob("images/*/.*.tmp"))


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_workers_end_with_the_process_that_started_them(tmp_path, raw):
    code = (
        "import sys, time\n"
        "from mlcore_robotcar.prepare.workers import workers\n"
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
    end = time.monotonic() + 10.0
    while is_running(worker) and time.monotonic() < end:
        time.sleep(0.1)
    assert not is_running(worker)


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
