"""The first run on a GPU, on the CPU: the script's own mistakes are found here."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import gpu_first

SCRIPT = Path(gpu_first.__file__).with_name("run_gpu.sh")
STAGES = ["env", "right", "kernels", "steps", "pairwise", "million"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_every_stage_runs_on_the_cpu_in_a_process_of_its_own(tmp_path):
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": sys.executable}
    done = subprocess.run(
        ["bash", str(SCRIPT), "--dry"],
        env={**environment, "BUDGET": "900"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    for name in [*STAGES, "tests"]:
        assert f"##### {name}: exit 0" in done.stdout
    assert "WRONG" not in done.stdout
    assert (tmp_path / "log.txt").read_text() == done.stdout


def test_no_stage_starts_when_the_budget_is_gone(tmp_path):
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": sys.executable, "BUDGET": "0"}
    done = subprocess.run(
        ["bash", str(SCRIPT), "--dry"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.count("no time left") == len(STAGES) + 1


def test_a_stage_that_fails_does_not_stop_the_next(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("OUT", str(tmp_path))

    def fails(_run):
        raise RuntimeError("no device")

    monkeypatch.setattr(gpu_first, "right", fails)
    monkeypatch.setattr(gpu_first, "env", lambda run: run.say("env was reached"))
    assert gpu_first.main(["--dry", "right", "env"]) == 1
    captured = capsys.readouterr()
    assert "env was reached" in captured.out
    assert "RuntimeError: no device" in captured.err


def test_a_wrong_form_fails_the_run(monkeypatch, tmp_path):
    monkeypatch.setenv("OUT", str(tmp_path))
    wrong = lambda run: run.hold("a form", right=False, found="off")  # noqa: E731
    monkeypatch.setattr(gpu_first, "right", wrong)
    assert gpu_first.main(["--dry", "right"]) == 1


def test_an_unknown_stage_is_refused(capsys):
    with pytest.raises(SystemExit):
        gpu_first.main(["--dry", "rigth"])
    assert "no stage rigth; choose from env, right, kernels" in capsys.readouterr().err
