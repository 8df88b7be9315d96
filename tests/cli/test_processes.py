"""``mlcore train`` in several processes, as Lightning and torchrun start them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

SUPPORT = Path(__file__).parents[1] / "support"
TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.checkpoint_every", "3"),
    *("--training.log_every", "1", "--evaluation.dimensions", "8"),
    *("--training.precision", "64-true", "--training.learning_rate", "1e-3"),
    *("--evaluation.baselines", "false", "--training.accelerator", "cpu"),
]
CHOSEN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    return kept | {"PYTHONPATH": str(SUPPORT), "OMP_NUM_THREADS": "1"}


def start(*words: object, by: tuple[str, ...] = ()) -> subprocess.Popen[str]:
    command = [sys.executable, *(by or ("-m", "mlcore")), "train", *map(str, words)]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def train(*words: object, code: int = 0, by: tuple[str, ...] = ()) -> str:
    """Train and return what was said; fails unless the exit code is ``code``."""
    process = start(*words, by=by)
    out, said = process.communicate(timeout=200)
    assert process.returncode == code, f"{out}\n{said}"
    return said


def rows_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def state_of(run: Path) -> dict[str, torch.Tensor]:
    newest = max((run / "checkpoints").glob("*.ckpt"))
    return torch.load(newest, weights_only=True)["state_dict"]


def assert_close_runs(run: Path, expected: Path) -> None:
    rows, wanted = rows_of(run), rows_of(expected)
    assert [row["step"] for row in rows] == [row["step"] for row in wanted]
    for row, other in zip(rows, wanted, strict=True):
        assert row == pytest.approx(other, rel=1e-8)
    state, other_state = state_of(run), state_of(expected)
    assert state.keys() == other_state.keys()
    for name, value in other_state.items():
        torch.testing.assert_close(state[name], value, rtol=1e-6, atol=1e-9)


def assert_same_run(run: Path, expected: Path) -> None:
    assert (run / "metrics.jsonl").read_text() == (expected / "metrics.jsonl").read_text()
    state, wanted = state_of(run), state_of(expected)
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)


def wait_for_rows(run: Path, num_rows: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        metrics = run / "metrics.jsonl"
        if metrics.exists() and len(metrics.read_text().splitlines()) >= num_rows:
            return
        time.sleep(0.01)
    raise AssertionError(f"{run} has not come to {num_rows} steps")


def test_two_processes_train_as_one(tmp_path):
    # One image cannot be read, so that both must leave its tuple's share out.
    words = [*TINY, "--training.max_steps", "4", "--dataset.broken", "3,17,40,61,100,150"]
    words += ["--training.skip_unreadable", "true"]
    one, two = tmp_path / "one", tmp_path / "two"
    train(*words, "--out", one)
    said = train(*words, "--training.devices", "2", "--training.chunk_size", "3", "--out", two)
    assert_close_runs(two, one)
    assert said.count("Run folder:") == 2  # at the start and at the end, by one of them
    assert (two / "skipped.txt").read_text().splitlines()
    skipped = {p: set((p / "skipped.txt").read_text().splitlines()) for p in (one, two)}
    assert skipped[one] == skipped[two]
    found = [json.loads((run / "evaluation.json").read_text()) for run in (one, two)]
    assert found[0]["evaluations"][0]["distance_m"] == found[1]["evaluations"][0]["distance_m"]


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["pml-triplet-margin", "pml-proxy-anchor", "triplet"])
def test_losses_with_miners_and_parameters(loss, tmp_path):
    words = [*TINY, "--training.max_steps", "4", "--loss", loss]
    one, two = tmp_path / "one", tmp_path / "two"
    train(*words, "--out", one)
    train(*words, "--training.devices", "2", "--out", two)
    assert_close_runs(two, one)


@pytest.mark.slow
def test_torchrun_says_how_many(tmp_path):
    words = [*TINY, "--training.max_steps", "4"]
    one, two = tmp_path / "one", tmp_path / "two"
    train(*words, "--out", one)
    run = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29531")
    train(*words, "--out", two, by=(*run, "-m", "mlcore"))
    assert_close_runs(two, one)
    said = train(
        *(*words, "--training.devices", "3", "--out", tmp_path / "three"),
        by=(*run, "-m", "mlcore"),
        code=1,  # torchrun's own
    )
    assert "torchrun has started 2 processes, but --training.devices 3" in said


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=str)
def test_two_stopped_processes_go_on_bit_for_bit(tmp_path, number):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    words = [*TINY, "--training.max_steps", "30", "--training.devices", "2"]
    train(*words, "--out", whole)
    process = start(*words, "--out", stopped)
    wait_for_rows(stopped, 6)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL), said
    assert not (stopped / "evaluation.json").exists()
    train("--resume", stopped)
    assert_same_run(stopped, whole)


@pytest.mark.slow
def test_what_one_process_cannot_do_all_stop_for(tmp_path):
    broken = ",".join(str(index) for index in range(0, 180, 7))
    words = [*TINY, "--training.devices", "2", "--training.max_steps", "30"]
    said = train(*words, "--dataset.broken", broken, "--out", tmp_path / "broken", code=2)
    assert said.count("mlcore: error: ") == 1
    assert "cannot be decoded" in said.splitlines()[-1]
    said = train(*words, "--loss", "exploding", "--out", tmp_path / "exploding", code=1)
    assert said.count("mlcore: error: ") == 1
    assert "the loss of 'exploding' is nan at step 2" in said


@pytest.mark.slow
def test_live_batch_norm_on_the_cpu_is_refused(tmp_path):
    words = ["--model", "resnet18", "--model.pretrained", "none", "--training.max_steps", "2"]
    general = [word for word in TINY if not word.startswith("--model")]
    general = [word for word in general if word not in ("8", "16")] + ["--evaluation.dimensions", "8"]
    general.remove("--evaluation.dimensions")
    for extra in (["--training.devices", "2"], ["--training.chunk_size", "4"]):
        said = train(
            *("--dataset", "synthetic", "--sampling.near_per_tuple", "3"),
            *("--sampling.far_per_tuple", "3", "--training.accelerator", "cpu"),
            *(*words, *extra, "--out", tmp_path / extra[0].strip("-")),
            code=2,
        )
        assert "normalise by the batch at hand" in said.splitlines()[-1]
        assert "--training.batch_norm frozen" in said.splitlines()[-1]
