"""Every program in ``examples/`` runs, and its output says what its first lines promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
DDP = ROOT / "examples" / "ddp.py"


def output_of(program: Path, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", program],
        capture_output=True,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_examples_are_found():
    assert DDP in EXAMPLES
    assert len(EXAMPLES) > 1


@pytest.mark.parametrize(
    "program", [path for path in EXAMPLES if path != DDP], ids=lambda program: program.name
)
def test_an_example_runs(program, tmp_path):
    assert output_of(program, tmp_path)


def test_gathered_references_give_the_joint_gradient(tmp_path):
    lines = output_of(DDP, tmp_path).splitlines()
    errors = {line.split(":")[0]: float(line.split()[-1]) for line in lines}
    assert errors["joint_loss"] < 1e-5
    assert errors["local_loss"] > 0.1
