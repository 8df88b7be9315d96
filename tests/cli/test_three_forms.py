"""The town as itself, as RobotCar's download and as Pittsburgh: one checkpoint, three forms."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from mlcore.cli.main import main

TOWN = {
    "train_length_m": 200,
    "validation_length_m": 60,
    "test_length_m": 400,
    "reference_spacing_m": 4,
    "query_spacing_m": 4,
    "num_processes": 1,
}
STEPS = "250"
AT_MOST = 0.01
PAPER = Path(__file__).parents[2] / "benchmarks/configs/paper_robotcar.toml"


@pytest.fixture(scope="module")
def forms(tmp_path_factory):
    """The options that choose the town in each form, each checked; all in one folder."""
    folder = tmp_path_factory.mktemp("forms")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        raw, prepared, pittsburgh = (folder / name for name in ("raw", "prepared", "pitts"))
        source = [word for name, value in TOWN.items() for word in (f"--from.{name}", value)]
        written = ["--from", "streets", *map(str, source)]
        run(
            "data",
            "write",
            "robotcar",
            *written,
            "--out",
            raw,
            "--images",
            "tars",
            "--enlarge",
            8,
        )
        run(
            "data",
            "write",
            "pittsburgh",
            *written,
            "--out",
            pittsburgh,
            "--image_format",
            "png",
        )
        run(
            *("data", "prepare", "robotcar", "--root", raw, "--out", prepared),
            *("--protocol", "all", "--longest_side_px", 128, "--num_processes", 1),
            *("--exposure_percentiles", "0,100", "--max_offset_m", "none"),
            *("--image_format", "png"),
        )
        run("data", "check", "robotcar", "--root", raw, "--protocol", "all")
        run("data", "check", "robotcar", "--root", prepared, "--protocol", "all")
        run("data", "check", "pittsburgh", "--root", pittsburgh)
        town = [word for name, value in TOWN.items() for word in (f"--dataset.{name}", value)]
        yield {
            "streets": ["--dataset", "streets", *town],
            "robotcar": [
                *("--dataset", "robotcar", "--dataset.root", prepared),
                *("--dataset.protocol", "all"),
            ],
            "pittsburgh": ["--dataset", "pittsburgh", "--dataset.root", pittsburgh],
        }


def run(*words):
    assert main([str(word) for word in words]) == 0


def top_1(path):
    """Return the share of all queries that are localized within 10 m, and their number."""
    (found,) = json.loads(path.read_text())["evaluations"]
    overall = found["summary"]["overall"]
    return overall["accuracy"]["10"], overall["num_queries"]


@pytest.mark.slow
def test_one_checkpoint_is_as_good_in_every_form(forms, tmp_path):
    short = ("--training.max_steps", STEPS, "--evaluation.baselines", "false")
    run("train", "--loss", "proposed", *forms["streets"], *short, "--out", tmp_path / "run")
    found = {}
    for name, words in forms.items():
        out = tmp_path / f"{name}.json"
        run("evaluate", tmp_path / "run", *words, "--out", out)
        found[name] = top_1(out)
    accuracies = [accuracy for accuracy, _ in found.values()]
    assert len({queries for _, queries in found.values()}) == 1
    assert min(accuracies) > 0.2, "a model that finds nothing is alike in every form"
    assert max(accuracies) - min(accuracies) <= AT_MOST, found


@pytest.mark.slow
@pytest.mark.parametrize("name", ["robotcar", "pittsburgh"])
def test_every_form_trains(forms, tmp_path, name):
    short = ("--training.max_steps", 4, "--training.log_every", 2)
    quick = ("--evaluation.baselines", "false", "--evaluation.whitening_images", 100)
    run("train", *forms[name], *short, *quick, "--out", tmp_path / "run")
    assert (tmp_path / "run/evaluation.json").is_file()


@pytest.mark.slow
def test_the_paper_s_training_runs_dry(forms, tmp_path):
    """The config as it stands, but for what a CPU without a network cannot bear."""
    run(
        *("train", "--config", PAPER, *forms["robotcar"], "--out", tmp_path / "run"),
        *("--model.weights", "none", "--model.longest_side_px", 96),
        *("--sampling.hard_pool", 60, "--sampling.hard_refresh", 2),
        *("--training.max_steps", 3, "--training.log_every", 1, "--training.num_workers", 0),
        *("--evaluation.whitening_images", 60, "--evaluation.dimensions", 8),
        *("--evaluation.baselines", "false"),
    )
    metrics = (tmp_path / "run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in metrics] == [1, 2, 3]
    config = tomllib.loads((tmp_path / "run/config.toml").read_text())
    assert config["model"]["name"] == "vgg16"
    assert config["sampling"]["hard_per_tuple"] == 6
    assert (tmp_path / "run/evaluation.json").is_file()
