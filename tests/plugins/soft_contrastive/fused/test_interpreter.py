"""Runs the fused kernels in Triton's CPU interpreter, in a process that Triton starts fresh in."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASES = Path(__file__).parent / "interpreted.py"
ROOT = Path(__file__).parents[4]

pytest.importorskip("triton", reason="Triton comes with torch on Linux only")


def run(*selected: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(CASES), *selected],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
    )


QUICK = "test_odd_sizes or test_one_image or test_ties"


def test_the_default_options() -> None:
    done = run("-k", QUICK)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_all_other_cases() -> None:
    done = run("-k", f"not ({QUICK})")
    assert done.returncode == 0, done.stdout + done.stderr
