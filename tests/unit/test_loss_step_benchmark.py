"""The loss benchmark: printed and saved after each case, whatever a worker does."""

from __future__ import annotations

import math
import sys
from argparse import Namespace

import pytest

from benchmarks import _common as common
from benchmarks import _loss_steps as work
from benchmarks import _loss_tables as tables
from benchmarks import loss_step

TIME = {
    "what": "time",
    "size": 64,
    "dim": 256,
    "data": "route",
    "device": "cpu",
    "setting": "default allocator",
    "names": ["tiled", "tiled, mining", "dense"],
    "repeats": 1,
}
MEASURED = {
    "seconds": {"tiled": [0.002], "tiled, mining": [0.003]},
    "failed": {"dense": "RuntimeError: out of memory"},
    "yardstick": 0.001,
}
MEMORY = {**TIME, "what": "memory", "names": ["tiled"]}


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(common, "ROOT", tmp_path)
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(common, "describe_commit", lambda: "abc")
    return tmp_path / "loss_step.md"


def test_each_case_is_printed_and_saved_before_the_next(results, monkeypatch, capsys):
    seen = []

    def spawn(job, _limit_s):
        saved = results.read_text() if results.exists() else ""
        seen.append((saved, capsys.readouterr().out))
        if job["what"] == "time":
            return MEASURED
        return {"error": "exit 1: MemoryError"}

    monkeypatch.setattr(loss_step, "_jobs", lambda _: [TIME, MEMORY, TIME])
    monkeypatch.setattr(loss_step, "_spawn", spawn)
    monkeypatch.setattr(tables, "plot", lambda rows, _path: seen.append(len(rows)))
    assert loss_step.main(["--save"]) == 1
    assert seen[0] == ("", "")
    assert "| 64 | route | default allocator | 2.0 ms [2.0, 2.0] |" in seen[1][0]
    assert "tiled 2.0 ms [2.0, 2.0]" in seen[1][1]
    reason = "memory, B = 64, D = 256, route, default allocator, tiled: exit 1: MemoryError"
    assert f"- {reason}\n" in seen[2][0]
    assert reason in seen[2][1]
    assert seen[3] == 3
    assert "dense: RuntimeError: out of memory" in results.read_text()


def test_a_worker_that_fails_says_why():
    answer = loss_step._spawn({**TIME, "what": "memory", "names": ["no such loss"]}, 60.0)
    assert answer["error"].startswith("exit 1: AttributeError: ")


def test_a_worker_is_stopped_when_the_time_is_over():
    assert "no time left" in loss_step._spawn(TIME, 0.01)["skipped"]


def test_cases_for_which_no_time_is_left_are_listed(monkeypatch, capsys):
    monkeypatch.setattr(loss_step, "_spawn", lambda *_: MEASURED)
    rows = loss_step._run([TIME, MEMORY], -1.0, lambda _: None)
    assert [row["skipped"] for row in rows] == ["no time left"] * 2
    assert tables.body(rows).count("no time left") == 2
    assert capsys.readouterr().out.count("no time left") == 2


def jobs(**options):
    given = {"sizes": None, "quick": False, "only_company": False, "minutes": None}
    return loss_step._jobs(Namespace(**{**given, "device": "cpu", **options}))


def test_tf32_is_compared_with_tf32():
    found = [j for j in jobs(device="cuda") if j["what"] == "time" and j["size"] == 8192]
    by_setting = {job["setting"]: job["names"] for job in found}
    assert "dense autograd" in by_setting["tf32"]
    assert "tiled, tf32" in by_setting["tf32"]
    assert "tiled" not in by_setting["tf32"]
    assert "tiled, tf32" not in by_setting["fp32"]
    seconds = {"tiled, tf32": [1.0], "tiled, mining, tf32": [1.5], "dense autograd": [9.0]}
    row = {**found[1], "seconds": seconds, "yardstick": 2.0}
    assert "| tf32 |  | 9.00 |  | 0.50 | 1.50 |" in tables.body([row])


def test_what_matters_most_comes_first_and_needs_no_other_library():
    short = jobs(device="cuda", minutes=5.0)
    assert short[0]["size"] == 8192
    assert not any("PML" in name for job in short for name in job["names"])
    assert any("PML" in name for job in jobs(device="cuda") for name in job["names"])


def test_the_library_of_other_losses_is_imported_only_for_its_rows(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_metric_learning", None)
    made = work.steps(["tiled", "dense autograd"], 20, 8, "route", "cpu")
    working, failed = work.runnable(made, "cpu")
    assert list(working) == ["tiled", "dense autograd"]
    assert failed == {}
    with pytest.raises(ImportError):
        work.steps(["PML SupCon"], 20, 8, "route", "cpu")


def test_a_loss_that_fails_does_not_stop_the_others():
    def fails():
        raise RuntimeError("out of memory\nand more")

    working, failed = work.runnable({"a": fails, "b": lambda: None}, "cpu")
    assert list(working) == ["b"]
    assert failed == {"a": "RuntimeError: out of memory"}


def test_busy_neighbours_end_with_the_measurement():
    """One thread and no neighbour count: each step is timed ``repeats`` times."""
    seconds = work.beside(1, {"step": lambda: math.sqrt(2.0)}, [1], 2, 0.0)
    assert len(seconds[1]["step"]) == 2
