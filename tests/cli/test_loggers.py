"""Loggers by name: what each writes, offline, and the sentence if its library is missing."""

from __future__ import annotations

import csv
import json

import pytest

from mlcore.cli.main import main

TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "8"),
    *("--sampling.near_per_tuple", "2", "--sampling.far_per_tuple", "2"),
    *("--training.log_every", "1", "--training.augment", "false"),
    *("--training.schedule", "constant"),
    *("--training.evaluate", "false", "--evaluation.whitening", "none"),
]

pytestmark = pytest.mark.usefixtures("synthetic_plugin")


def train(out, logger, steps=2, *words):
    start = ["--resume", str(out)] if out.exists() else [*TINY, "--out", str(out)]
    more = [] if out.exists() else ["--training.loggers", logger]
    return main(["train", *start, *more, "--training.max_steps", str(steps), *words])


def losses_of(out):
    rows = (out / "metrics.jsonl").read_text().splitlines()
    return [json.loads(row)["loss"] for row in rows]


def test_csv_has_the_numbers_of_metrics_and_a_file_per_start(tmp_path):
    out = tmp_path / "run"
    assert train(out, "csv") == 0
    assert train(out, "csv", 3) == 0
    found = []
    for path in sorted(out.glob("csv/from-*/metrics.csv")):
        with path.open(newline="") as file:
            found += [float(row["loss"]) for row in csv.DictReader(file)]
    assert [path.name for path in sorted((out / "csv").iterdir())] == [
        "from-000000000",
        "from-000000002",
    ]
    assert found == pytest.approx(losses_of(out), rel=1e-5)


@pytest.mark.filterwarnings("ignore")  # of wandb and what it imports
def test_wandb_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    out = tmp_path / "run"
    assert train(out, "wandb") == 0
    (file,) = out.glob("wandb/offline-run-*/*.wandb")
    assert b"loss" in file.read_bytes()


@pytest.mark.filterwarnings("ignore")  # of mlflow and what it imports
def test_mlflow_on_a_local_file(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")  # not in mlflow-skinny
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    out = tmp_path / "run"
    assert train(out, "mlflow") == 0
    uri = f"sqlite:///{out / 'mlflow.db'}"
    client = mlflow.MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("mlcore").experiment_id])
    found = [one.value for one in client.get_metric_history(run.info.run_id, "loss")]
    assert found == pytest.approx(losses_of(out), rel=1e-5)


@pytest.mark.parametrize("logger", ["wandb", "mlflow"])
def test_a_missing_library_is_named_before_training(tmp_path, capsys, monkeypatch, logger):
    monkeypatch.setattr("mlcore.errors.is_installed", lambda module: module != logger)
    assert train(tmp_path / "run", logger) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert f"--training.loggers {logger} needs {logger}, which is not installed" in message
    assert not (tmp_path / "run").exists()


def test_an_unknown_logger_is_refused(tmp_path, capsys):
    assert train(tmp_path / "run", "tensorbord") == 2
    assert "training.loggers" in capsys.readouterr().err
