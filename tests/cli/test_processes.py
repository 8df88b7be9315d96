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

from mlcore.cli.main import main
from mlcore.distributed import deal, launched_rank
from mlcore.errors import ConfigError
from mlcore.options.engine import TrainingOptions
from mlcore.training.strategy import Processes

SUPPORT = Path(__file__).parents[1] / "support"
NETWORK_FREE = [
    *("--dataset", "synthetic", "--training.checkpoint_every", "3"),
    *("--training.log_every", "1", "--training.accelerator", "cpu"),
    *("--training.precision", "64-true", "--training.learning_rate", "1e-3"),
]
SMALL = ["--model.width", "8", "--model.embedding_dim", "16"]
TUPLES = [
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3"),
]
ONLY_TRAINED = ["--training.evaluate", "false", "--evaluation.whitening", "none"]
EVALUATED = ["--evaluation.dimensions", "8", "--evaluation.baselines", "false"]
TINY = [*NETWORK_FREE, *SMALL, *TUPLES, *ONLY_TRAINED]
FOUR = [*TINY, "--training.max_steps", "4"]
CHOSEN = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK")


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in CHOSEN}
    return kept | {"PYTHONPATH": str(SUPPORT), "OMP_NUM_THREADS": "1"}


def start(
    *words: object, by: tuple[str, ...] = (), more: dict[str, str] | None = None
) -> subprocess.Popen[str]:
    command = [sys.executable, *(by or ("-m", "mlcore", "train")), *map(str, words)]
    return subprocess.Popen(
        command,
        env=environment() | (more or {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(*words: object, code: int = 0, by: tuple[str, ...] = ()) -> str:
    """Train and return what was said; fails unless the exit code is ``code``."""
    process = start(*words, by=by)
    out, said = process.communicate(timeout=280)
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


@pytest.mark.slow
def test_two_processes_train_as_one(tmp_path, synthetic_plugin):
    # One image cannot be read, so that both must leave its tuple's share out.
    words = [*NETWORK_FREE, *SMALL, *TUPLES, *EVALUATED, "--training.max_steps", "4"]
    words += ["--dataset.broken", "3,17,40,61,100,150", "--training.skip_unreadable", "true"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["train", *words, "--out", str(one)]) == 0
    said = train(*words, "--training.devices", "2", "--training.chunk_size", "3", "--out", two)
    assert_close_runs(two, one)
    assert said.count("Run folder:") == 2  # at the start and at the end, by one of them
    assert (two / "skipped.txt").read_text().splitlines()
    skipped = {p: set((p / "skipped.txt").read_text().splitlines()) for p in (one, two)}
    assert skipped[one] == skipped[two]
    found = [json.loads((run / "evaluation.json").read_text()) for run in (one, two)]
    assert found[0]["evaluations"][0]["distance_m"] == found[1]["evaluations"][0]["distance_m"]


NETWORKS = {
    "lite0-gem": "--backbone efficientnet-lite0 --pooling gem --training.batch_norm frozen",
    "vit-salad": (
        "--backbone timm --backbone.model test_vit --pooling salad --pooling.num_clusters 4"
    ),
    "vit-boq": "--backbone timm --backbone.model test_vit --pooling boq --pooling.num_queries 4",
}
"""Batch norm is frozen: live statistics are each process's own."""
PLACES = [
    *(*NETWORK_FREE, *SMALL, *ONLY_TRAINED, "--training.max_steps", "5"),
    *("--sampling.places_per_batch", "3", "--sampling.images_per_place", "3"),
]
CASES = {
    "tuples": FOUR,
    "pml-triplet-margin": [*FOUR, "--loss", "pml-triplet-margin"],
    "pml-proxy-anchor": [*FOUR, "--loss", "pml-proxy-anchor"],
    "triplet": [*FOUR, "--loss", "triplet"],
    "memory of proposed": [*FOUR, "--training.memory", "20"],
    "memory of pml-triplet-margin": (
        [*FOUR, "--training.memory", "20", "--loss", "pml-triplet-margin"]
    ),
    **{
        # By SGD, since AdamW makes rounding as large as a gradient where that is 0.
        name: [
            *(*NETWORK_FREE, *TUPLES, *ONLY_TRAINED, *words.split(), "--model.weights", "none"),
            *("--training.optimizer", "sgd", "--training.learning_rate", "0.01"),
            *("--training.max_steps", "3"),
        ]
        for name, words in NETWORKS.items()
    },
    "places": [*PLACES, "--sampling.scheme", "places"],
    "cliques": [
        *(*PLACES, "--sampling.scheme", "cliques", "--sampling.clique_centers", "4"),
        *("--sampling.hard_features", "live", "--sampling.hard_refresh", "6"),
        *("--sampling.hard_pool", "30"),
    ],
    # Gradients of earlier batches must not be added up over processes twice.
    "accumulated and validated": [
        *(*NETWORK_FREE, *SMALL, *TUPLES, "--loss", "pml-proxy-anchor"),
        *("--training.max_steps", "4", "--training.accumulate", "2"),
        *("--training.validate_every", "2", "--training.ema_decay", "0.5"),
        *("--training.evaluate", "false", "--evaluation.whitening", "train"),
        *("--evaluation.dimensions", "8"),
    ],
}
IN_TWO = {name: ["--training.chunk_size", "5"] for name in NETWORKS}
"""Further options of a case's run in two processes."""
THIRTY = [*TINY, "--training.max_steps", "30"]
TRAIN_EACH = """
import json, os, sys
from torch import distributed
from mlcore.cli.main import main
for port, words in enumerate(json.loads(sys.argv[1]), 29877):
    os.environ["MASTER_PORT"] = str(port)
    if code := main(["train", *words]):
        sys.exit(code)
    distributed.destroy_process_group()
"""
"""Each run begins as in fresh processes, which have not met yet."""


@pytest.fixture(scope="module")
def step_of_two(tmp_path_factory):
    """Train each case in two tasks, as srun starts them; return the folder of the runs.

    What srun tells the tasks is all that SLURM does here. They train one case after the other,
    since it takes longer to start them.
    """
    pytest.importorskip("timm")
    folder = tmp_path_factory.mktemp("step")
    cases = {**CASES, "thirty": THIRTY}
    runs = [[*words, *IN_TWO.get(name, ())] for name, words in cases.items()]
    for name, words in zip(cases, runs, strict=True):
        words += ["--out", str(folder / name)]
    step = {
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NAME": "train",
        "SLURM_STEP_ID": "0",
        "SLURM_NTASKS": "2",
        "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1",
        "SLURM_NODEID": "0",
        "SLURM_NODELIST": "localhost",
        "MASTER_ADDR": "127.0.0.1",
    }
    tasks = [
        start(
            by=("-c", TRAIN_EACH, json.dumps(runs)),
            more={**step, "SLURM_PROCID": number, "SLURM_LOCALID": number},
        )
        for number in "01"
    ]
    said = [task.communicate(timeout=280) for task in tasks]
    assert [task.returncode for task in tasks] == [0, 0], said
    assert said[1] == ("", "")  # the first one talks
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_slurm_step_of_two_trains_as_one(case, step_of_two, tmp_path, synthetic_plugin):
    one, two = tmp_path / "one", step_of_two / case
    assert main(["train", *CASES[case], "--out", str(one)]) == 0
    assert_close_runs(two, one)
    if case.startswith("memory"):
        assert [row["remembered"] for row in rows_of(two)] == [0, 14, 20, 20]
    if "validated" in case:
        rows = [(run / "validation.jsonl").read_text().splitlines() for run in (one, two)]
        assert [json.loads(row)["step"] for row in rows[1]] == [2, 4]
        for row, other in zip(*rows, strict=True):
            assert json.loads(row)["area"] == pytest.approx(json.loads(other)["area"], abs=1e-3)


def test_other_commands_start_no_processes(tmp_path, synthetic_plugin, capsys):
    words = [*NETWORK_FREE, *SMALL, *TUPLES, *EVALUATED, "--training.devices", "2"]
    out = str(tmp_path / "compared")
    assert main(["compare", "--losses", "triplet,proposed", *words, "--out", out]) == 2
    assert "--training.devices 2" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_torchrun_says_how_many(tmp_path, synthetic_plugin):
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(["train", *FOUR, "--out", str(one)]) == 0
    run = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29531")
    train(*FOUR, "--out", two, by=(*run, "-m", "mlcore", "train"))
    assert_close_runs(two, one)


def test_another_number_than_torchrun_says_is_refused(
    tmp_path, synthetic_plugin, capsys, monkeypatch
):
    told = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0"}
    for name, value in {**told, "TORCHELASTIC_RUN_ID": "1", "GROUP_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    words = ["--training.devices", "3", "--out", str(tmp_path / "three")]
    assert main(["train", *FOUR, *words]) == 2
    said = capsys.readouterr().err
    assert "torchrun has started 2 processes, but --training.devices 3" in said


def test_a_batch_script_is_no_task_of_its_job(monkeypatch):
    for name in (*CHOSEN, "SLURM_STEP_ID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SLURM_NTASKS", "8")
    monkeypatch.setenv("SLURM_PROCID", "0")
    assert Processes.of(TrainingOptions(devices=2)) == Processes(2, 1, "lightning")
    monkeypatch.setenv("SLURM_STEP_ID", "0")
    monkeypatch.setenv("SLURM_NNODES", "2")
    monkeypatch.setenv("SLURM_PROCID", "5")
    assert launched_rank() == 5
    assert Processes.of(TrainingOptions()) == Processes(4, 2, "slurm")
    with pytest.raises(ConfigError, match="slurm has started 8 processes"):
        Processes.of(TrainingOptions(devices=3))


@pytest.mark.parametrize(("num_rows", "count"), [(7, 2), (8, 4), (3, 4), (0, 2)])
def test_rows_are_dealt_evenly_and_in_order(num_rows, count):
    parts = deal(num_rows, count)
    rows = [row for part in parts for row in range(part.start, part.stop)]
    assert rows == list(range(num_rows))
    sizes = [part.stop - part.start for part in parts]
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=str)
def test_two_stopped_processes_go_on_bit_for_bit(tmp_path, step_of_two, number):
    stopped = tmp_path / "stopped"
    words = [*NETWORK_FREE, *SMALL, *TUPLES, *EVALUATED, "--training.devices", "2"]
    process = start(*words, "--training.max_steps", "30", "--out", stopped)
    wait_for_rows(stopped, 6)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGKILL), said
    assert not (stopped / "evaluation.json").exists()
    train("--resume", stopped)
    assert (stopped / "evaluation.json").exists()
    assert_same_run(stopped, step_of_two / "thirty")


@pytest.mark.slow
def test_what_one_process_cannot_do_all_stop_for(tmp_path):
    broken = ",".join(str(index) for index in range(0, 180, 7))
    words = [*THIRTY, "--training.devices", "2"]
    said = train(*words, "--dataset.broken", broken, "--out", tmp_path / "broken", code=2)
    assert said.count("mlcore: error: ") == 1
    assert "cannot be decoded" in said.splitlines()[-1]
    said = train(*words, "--loss", "exploding", "--out", tmp_path / "exploding", code=1)
    assert said.count("mlcore: error: ") == 1
    assert "the loss of 'exploding' is nan at step 2" in said


RESNET = [
    *("--dataset", "synthetic", "--model", "resnet18", "--model.pretrained", "none"),
    *("--sampling.near_per_tuple", "3", "--sampling.far_per_tuple", "3"),
    *("--training.accelerator", "cpu", "--training.max_steps", "2", *ONLY_TRAINED),
]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["--training.devices", "--training.chunk_size"])
def test_live_batch_norm_is_refused_where_it_would_be_of_a_part(
    how, tmp_path, synthetic_plugin, capsys
):
    assert main(["train", *RESNET, how, "2", "--out", str(tmp_path / "live")]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "statistics of the current batch" in last
    assert "--training.batch_norm frozen" in last


@pytest.mark.slow
def test_frozen_batch_norm_goes_through(tmp_path, synthetic_plugin):
    run = tmp_path / "frozen"
    words = ["--training.batch_norm", "frozen", "--training.chunk_size", "2"]
    assert main(["train", *RESNET, *words, "--out", str(run)]) == 0
    name = "model.backbone.layers.bn1.num_batches_tracked"
    assert int(state_of(run)[name]) == 0
