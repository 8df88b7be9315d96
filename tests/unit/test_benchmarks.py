from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

import benchmarks
from benchmarks import __main__ as listing
from benchmarks import _common as common

FOLDER = Path(benchmarks.__file__).parent


def test_every_benchmark_says_what_it_is_for():
    found = listing.find(FOLDER)
    assert "startup" in [benchmark.name for benchmark in found]
    for benchmark in found:
        assert benchmark.purpose, benchmark.name
        assert benchmark.duration, benchmark.name
        source = (FOLDER / f"{benchmark.name}.py").read_text()
        assert "def main(" in source
        assert source.endswith('if __name__ == "__main__":\n    sys.exit(main(sys.argv[1:]))\n')


def test_listing_shows_the_last_result(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(common, "ROOT", tmp_path)
    monkeypatch.setattr(common, "RESULTS", tmp_path)
    monkeypatch.setattr(listing, "RESULTS", tmp_path)
    monkeypatch.setattr(common, "describe_device", lambda device: f"a {device}")
    monkeypatch.setattr(common, "describe_commit", lambda: "abc")
    (tmp_path / "steps.py").write_text('"""Times a step.\n\nMore."""\nDURATION = "2 s"\n')
    (tmp_path / "_private.py").write_text("")
    (found,) = listing.find(tmp_path)
    assert (found.purpose, found.duration, found.last) == ("Times a step.", "2 s", "none yet")
    options = Namespace(device="cpu", save=True)
    table = common.markdown_table(["a", "b"], [(1, 2.5)])
    common.report(
        "x/steps.py", "Times a step.", table, options=options, argv=["--save"], method="m"
    )
    text = (tmp_path / "steps.md").read_text()
    assert text.startswith("# steps: Times a step.\n\n- device: a cpu\n- versions: Python 3")
    assert text.endswith("- method: m\n\n| a | b |\n| --- | --- |\n| 1 | 2.5 |\n")
    facts = common.read_header(tmp_path / "steps.md")
    assert facts["command"] == "`python -m benchmarks.steps --save`"
    (found,) = listing.find(tmp_path)
    assert found.last == f"a cpu; abc; {facts['date']}"
    assert text in capsys.readouterr().out


def test_runs_take_turns_and_warm_ups_do_not_count():
    order = []
    waits = []
    timings = common.measure(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        repeats=2,
        warmup=1,
        synchronize=lambda: waits.append(1),
    )
    assert order == ["a", "b"] * 3
    assert len(waits) == 8
    assert [len(timing.seconds) for timing in timings.values()] == [2, 2]


def test_a_settled_run_follows_one_of_its_own():
    order = []
    timings = common.measure(
        {"a": lambda: order.append("a"), "b": lambda: order.append("b")},
        repeats=1,
        settle=True,
    )
    assert order == ["a", "b", "a", "a", "b", "b"]
    assert [len(timing.seconds) for timing in timings.values()] == [1, 1]


def test_a_quick_run_is_timed_again_within_its_turn(monkeypatch):
    now = [0]
    monkeypatch.setattr(common.time, "perf_counter", lambda: now[0])

    def takes(seconds):
        def run():
            now[0] += seconds

        return run

    timings = common.measure({"quick": takes(2), "slow": takes(9)}, repeats=2, turn_s=5)
    assert timings["quick"].seconds == (2,) * 6
    assert timings["slow"].seconds == (9, 9)


def test_a_timing_is_its_median_and_spread():
    assert str(common.Timing((0.001, 0.004, 0.002))) == "2.0 ms [1.0, 4.0]"


def test_one_failing_benchmark_fails_the_quick_run(monkeypatch, capsys):
    monkeypatch.setattr(listing, "_run_quickly", lambda name, _device: name != "startup")
    assert listing.main(["--quick"]) == 1
    assert capsys.readouterr().err == "failed: startup\n"


def test_unknown_options_are_refused():
    with pytest.raises(SystemExit):
        common.parser("x/steps.py", "Times.").parse_args(["--quic"])
