"""Plugins that exit, raise what nobody expects, or leave threads behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = """
import threading
import time
from dataclasses import dataclass

import mlcore


class Rude(BaseException):
    pass


@dataclass(frozen=True, kw_only=True)
class Config:
    pass


def build(config, context):
    {in_build}


{at_import}


@mlcore.hookimpl
def mlcore_datasets():
    return [mlcore.DatasetFactory(name="rude", summary="rude", config=Config, build=build)]
"""


def run(folder: Path, *words: str, at_import: str = "", in_build: str = "pass"):
    """Run a command where such a plugin is installed."""
    folder.mkdir(exist_ok=True)
    (folder / "rude.py").write_text(PLUGIN.format(at_import=at_import, in_build=in_build))
    info = folder / "rude-1.0.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: rude\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[mlcore.plugins]\nrude = rude\n")
    return subprocess.run(
        [sys.executable, "-m", "mlcore", *words],
        env={**os.environ, "PYTHONPATH": str(folder), "MLCORE_STRICT_PLUGINS": "0"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


RUDE = {
    "SystemExit(0)": "SystemExit: 0",
    "SystemExit('bye')": "SystemExit: bye",
    "Rude('of mine')": "Rude: of mine",
    "Rude()": "Rude",
    "GeneratorExit()": None,
}


@pytest.mark.parametrize("raised", [name for name in RUDE if RUDE[name]])
def test_an_import_that_raises_anything_fails_that_plugin_only(tmp_path, raised):
    done = run(tmp_path, "list", "losses", at_import=f"raise {raised}")
    assert done.returncode == 0
    assert "soft-contrastive" in done.stdout
    done = run(tmp_path, "plugins", "rude", at_import=f"raise {raised}")
    assert RUDE[raised] in done.stdout + done.stderr
    assert not done.stderr.startswith("Traceback")


@pytest.mark.parametrize("raised", RUDE)
def test_a_component_that_raises_anything_gets_one_sentence(tmp_path, raised):
    done = run(tmp_path, "data", "check", "rude", in_build=f"raise {raised}")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("mlcore: error: ")
    assert raised.partition("(")[0] in line


@pytest.mark.parametrize("what", ["time.sleep(300)", "threading.Event().wait()"])
def test_a_thread_that_is_no_daemon_does_not_keep_the_process(tmp_path, what):
    start = f"threading.Thread(target=lambda: {what}, name='forever').start()"
    done = run(tmp_path, "list", "losses", at_import=start)
    assert done.returncode == 0
    assert "soft-contrastive" in done.stdout
    assert "threads of a plugin or library still run: forever" in done.stderr


def test_a_thread_that_ends_soon_is_waited_for(tmp_path):
    start = "threading.Thread(target=lambda: time.sleep(0.2), name='short').start()"
    done = run(tmp_path, "list", "losses", at_import=start)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_exit_code_survives_a_thread(tmp_path):
    start = "threading.Thread(target=lambda: time.sleep(300), name='forever').start()"
    done = run(tmp_path, "list", "nonsense", at_import=start)
    assert done.returncode == 2


def test_what_a_plugin_prints_is_not_in_the_json(tmp_path):
    hello = 'print("hello")'
    shown = run(tmp_path / "a", "list", "datasets", "--json", at_import=hello)
    assert "rude" in [each["name"] for each in json.loads(shown.stdout)]
    assert "hello" in shown.stderr
    fails = f'{hello}; raise mlcore.errors.DataError("the drive is not mounted")'
    checked = run(tmp_path / "b", "data", "check", "rude", "--json", in_build=fails)
    report = json.loads(checked.stdout)
    assert checked.returncode == 1
    assert [each["message"] for each in report["findings"]] == ["the drive is not mounted"]
    assert "hello" in checked.stderr
    assert "hello" in run(tmp_path / "c", "list", "datasets", at_import=hello).stdout


def test_a_data_set_that_is_none_is_one_sentence(tmp_path):
    checked = run(tmp_path, "data", "check", "rude", in_build="return None")
    assert checked.returncode == 2
    assert checked.stderr.splitlines()[-1].startswith(
        "mlcore: error: dataset 'rude' could not be checked: AttributeError: "
    )
