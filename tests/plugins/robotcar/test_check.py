"""``data check robotcar``: what it finds in trees and in what was prepared."""

from __future__ import annotations

import tarfile

import pytest

from mlcore.errors import DataError
from mlcore_robotcar import check_robotcar, open_robotcar
from tests.support.robotcar_dataset import (
    QUERIES,
    REFERENCE,
    TRAINING,
    UNCLEANED,
    config_of,
    findings,
    prepare,
)
from tests.support.robotcar_tree import (
    NUM,
    PAPER,
    stamps_of,
    write_tar,
    write_tree,
)


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
    monkeypatch.setattr("mlcore.data.checks.NUM_DECODED", 20)
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
