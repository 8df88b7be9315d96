"""Someone else's distribution: built, installed, listed, checked, trained with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent / "mlcore_example"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def installed(environment, tmp_path_factory):
    """An environment with the example, installed from its wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(EXAMPLE, source)
    environment.run("python", "-m", "pip", "wheel", "--no-deps", "--wheel-dir", folder, source)
    (wheel,) = folder.glob("mlcore_example-*.whl")
    shutil.rmtree(source)
    environment.run("python", "-m", "pip", "install", wheel)
    return environment


def test_a_strangers_plugin_from_wheel_to_trained_run(installed, tmp_path):
    listed = json.loads(installed.run("mlcore", "plugins", "--json").stdout)
    (plugin,) = [plugin for plugin in listed if plugin["name"] == "example"]
    assert (plugin["distribution"], plugin["version"]) == ("mlcore-example", "0.3.1")
    assert (plugin["status"], plugin["imports_torch"]) == ("ok", False)
    assert "--loss.power" in installed.run("mlcore", "plugins", "metres-regression").stdout
    training = ["--training.max_steps", "5", "--training.log_every", "1"]
    training += ["--evaluation.baselines", "false"]
    run = tmp_path / "run"
    help_text = installed.run("mlcore", "train", "--loss", "metres-regression", "--help")
    assert "--loss.power FLOAT" in help_text.stdout
    installed.run(
        *("mlcore", "train", "--loss", "metres-regression", "--loss.power", "1.5"),
        *("--influence", "gaussian", "--influence.scale_m", "6", "--dataset", "ring"),
        *("--out", run, *training),
    )
    assert 'name = "metres-regression"' in (run / "config.toml").read_text()
    environment = json.loads((run / "environment.json").read_text())
    assert "mlcore-example" in json.dumps(environment)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert sum("loss" in row for row in rows) == 5
    assert (run / "evaluation.json").exists()


def test_a_strangers_miner_for_a_stock_loss(installed, tmp_path):
    installed.run(
        *("mlcore", "train", "--loss", "pml-triplet-margin", "--miner", "hardest-far"),
        *("--dataset", "ring", "--training.max_steps", "3", "--out", tmp_path / "run"),
        *("--evaluation.baselines", "false"),
    )
    assert 'name = "hardest-far"' in (tmp_path / "run" / "config.toml").read_text()


def test_a_strangers_conformance_test(installed):
    tests = EXAMPLE / "tests"
    installed.run(
        *("python", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", tests)
    )
    checked = installed.run("mlcore", "plugins", "--check", "example", "--json").stdout
    skipped = {entry["check"] for entry in json.loads(checked) if entry["result"] != "passed"}
    assert {check.rpartition("/")[2] for check in skipped} <= {"headings", "shared-adds-up"}
