"""``mlcore compare``: same tuples, restartable, a table that a reviewer can trust."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from mlcore.cli.main import main

TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.near_per_tuple", "3", "--sampling.far_per_tuple", "3"),
    *("--evaluation.dimensions", "8", "--training.log_every", "1"),
    *("--training.max_steps", "4"),
]

SUPPORT = Path(__file__).parents[1] / "support"

pytestmark = pytest.mark.usefixtures("synthetic_plugin")


def compare(*words):
    return main(["compare", *(str(word) for word in (*words, *TINY))])


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SUPPORT)
        words = ["--losses", "proposed,proposed+step,triplet", "--seeds", "0,1"]
        assert compare(*words, "--out", out) == 0
    return out


def test_every_loss_and_seed_is_a_run_and_a_row(compared):
    names = {path.name for path in (compared / "runs").iterdir()}
    losses = ("proposed", "proposed+step", "triplet")
    assert names == {f"{loss}-seed-{seed}" for loss in losses for seed in (0, 1)}
    document = json.loads((compared / "comparison.json").read_text())
    assert [row["name"] for row in document["entries"]] == [*losses, "untrained", "pixels"]
    assert document["reference"] == "proposed"
    for row in document["entries"]:
        assert set(row["summaries"]) == {"0", "1"}
    table = (compared / "table.txt").read_text()
    for word in (*losses, "pixels", "±", "won / lost"):
        assert word in table
    assert (compared / "metres.png").stat().st_size > 5000


def test_again_is_read_from_disk_and_more_adds_to_it(compared, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/metrics.jsonl")}
    words = ["--losses", "proposed,proposed+step,triplet", "--seeds", "0,1", "--out", out]
    assert compare(*words, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((compared / "comparison.json").read_text())
    assert compare("--losses", "proposed,lazy-triplet", "--seeds", "1", "--out", out) == 0
    assert before == {
        path: path.stat().st_mtime_ns
        for path in out.glob("runs/*/metrics.jsonl")
        if not path.parent.name.startswith("lazy")
    }


def test_a_killed_comparison_goes_on_to_the_same_result(compared, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    run = out / "runs" / "triplet-seed-1"
    (run / "evaluation.json").unlink()
    shutil.rmtree(out / "runs" / "proposed-seed-1")
    (out / "comparison.json").unlink()
    words = ["--losses", "proposed,proposed+step,triplet", "--seeds", "0,1", "--out", out]
    assert compare(*words) == 0
    for name in ("comparison.json", "table.txt"):
        assert (out / name).read_text() == (compared / name).read_text()


def test_a_loss_that_diverges_is_a_row(tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--losses", "proposed,exploding", "--out", out]
    for _ in range(2):  # the second time from disk
        assert compare(*words) == 0
        printed = capsys.readouterr()
        assert "0, 1 diverged" in printed.out
    document = json.loads((out / "comparison.json").read_text())
    assert "nan at step 2" in document["entries"][1]["failures"]["0"]


def test_learning_rates_are_searched_on_validation(tmp_path, capsys):
    out = tmp_path / "out"
    words = ["--losses", "proposed", "--learning-rates", "1e-9,3e-3", "--out", out]
    assert compare(*words) == 0
    runs = sorted(path.name for path in (out / "search").iterdir())
    assert runs == ["proposed-rate-0.003", "proposed-rate-1e-09"]
    areas = {}
    for name in runs:
        (one,) = json.loads((out / "search" / name / "evaluation.json").read_text())[
            "evaluations"
        ]
        assert one["protocol"]["split"] == "validation"
        rows = (out / "search" / name / "metrics.jsonl").read_text().splitlines()
        assert len(rows) == 2
        areas[float(name.rpartition("rate-")[2])] = one["summary"]["overall"]["area"]["25"]
    document = json.loads((out / "comparison.json").read_text())
    assert document["entries"][0]["learning_rate"] == max(areas, key=areas.get)


def refused(capsys, *words):
    assert compare(*words) == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_bad_input_is_told_before_any_run(tmp_path, capsys):
    out = tmp_path / "out"
    assert "did you mean 'triplet'" in refused(
        capsys, "--losses", "proposed,triplett", "--out", out
    )
    assert "'a,a' has one of them twice" in refused(capsys, "--losses", "a,a", "--out", out)
    assert "'0,x' is no comma-separated list" in refused(
        capsys, "--losses", "proposed", "--seeds", "0,x", "--out", out
    )
    assert "use --losses and --seeds" in refused(
        capsys, "--losses", "proposed", "--loss=triplet", "--out", out
    )
    assert not out.exists()
    out.mkdir()
    (out / "thesis.tex").touch()
    assert "is not empty and holds no comparison" in refused(
        capsys, "--losses", "proposed", "--out", out
    )


def test_other_options_or_versions_are_not_mixed(compared, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(compared, out)
    words = ["--losses", "proposed,proposed+step,triplet", "--seeds", "0,1", "--out", out]
    message = refused(capsys, *words, "--sampling.far_radius_m", "40")
    assert "holds runs of 'proposed" in message
    assert "with other options" in message
    path = out / "runs" / "triplet-seed-1" / "environment.json"
    environment = json.loads(path.read_text())
    environment["versions"]["torch"] = "1.0"
    path.write_text(json.dumps(environment))
    message = refused(capsys, *words)
    assert f"{path} cannot be compared: torch" in message
