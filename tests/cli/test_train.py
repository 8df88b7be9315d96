"""``mlcore train`` from command line to run folder, on the synthetic data set."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from mlcore.cli.main import main
from mlcore.training.host_memory import HostMemory

SIZES = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.checkpoint_every", "5"),
    *("--training.log_every", "1"),
]
TINY = [*SIZES, "--training.evaluate", "false", "--evaluation.whitening", "none"]
EVALUATED = [*SIZES, "--evaluation.dimensions", "8"]
FORTY = ("--training.max_steps", "40")
SUPPORT = Path(__file__).parents[1] / "support"

pytestmark = pytest.mark.usefixtures("synthetic_plugin")


def train(*words: str | Path) -> int:
    return main(["train", *(str(word) for word in words)])


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Return a run of 40 steps that nothing disturbed."""
    run = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SUPPORT)
        assert train(*TINY, *FORTY, "--out", run) == 0
    return run


def final_state(run: Path) -> dict[str, torch.Tensor]:
    newest = max((run / "checkpoints").glob("*.ckpt"))
    return torch.load(newest, weights_only=True)["state_dict"]


def test_a_run_writes_its_folder_and_prints_its_table(capsys, tmp_path):
    run = tmp_path / "run"
    assert train(*EVALUATED, "--training.max_steps", "7", "--out", run) == 0
    printed = capsys.readouterr()
    for word in ("sun", "night", "untrained", "pixels", "trained", "upper bound", "< 10 m"):
        assert word in printed.out
    assert str(run) in printed.err
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(1, 8))
    assert {"loss", "learning_rate", "loss/attraction"} <= rows[0].keys()
    assert [p.name for p in sorted((run / "checkpoints").iterdir())] == [
        "step-000000005.ckpt",
        "step-000000007.ckpt",
    ]
    environment = json.loads((run / "environment.json").read_text())
    assert environment["data_fingerprint"] == "synthetic"
    assert environment["plugins"]["synthetic"] == "mlcore-synthetic 0"
    evaluation = json.loads((run / "evaluation.json").read_text())
    assert [one["model"] for one in evaluation["evaluations"]] == [
        "untrained",
        "pixels",
        "trained",
    ]
    assert len(evaluation["evaluations"][0]["distance_m"]) == 120
    assert (run / "plots" / "metres.png").stat().st_size > 5000


@pytest.mark.skipif(torch.cuda.is_available(), reason="16-mixed runs as it is on a GPU")
def test_a_short_run_in_16_bits_on_a_cpu_warns_of_nothing_and_keeps_what_ran(capsys, tmp_path):
    run = tmp_path / "run"
    words = ["--training.precision", "16-mixed", "--training.log_every", "100"]
    assert train(*EVALUATED, *words, "--training.max_steps", "1", "--out", run) == 0
    said = capsys.readouterr().err
    assert "16-mixed needs a GPU; this run uses bf16-mixed on the CPU" in said
    assert "arning" not in said
    config = (run / "config.toml").read_text().splitlines()
    assert 'precision = "bf16-mixed"' in config


def test_the_resolved_file_alone_repeats_the_run(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert train(*EVALUATED, "--seed", "3", "--training.max_steps", "4", "--out", first) == 0
    assert train("--config", first / "config.toml", "--out", second) == 0
    for name in ("config.toml", "metrics.jsonl", "evaluation.json"):
        assert (second / name).read_text() == (first / name).read_text(), name


@pytest.mark.parametrize("loss", ["pml-triplet-margin", "pml-proxy-anchor", "quadruplet"])
def test_losses_of_every_kind_train(loss, tmp_path):
    run = tmp_path / "run"
    assert train(*TINY, "--loss", loss, "--training.max_steps", "2", "--out", run) == 0
    if loss == "pml-proxy-anchor":
        assert any(name.startswith("loss.") for name in final_state(run))


def test_workers_change_no_number(tmp_path):
    for workers in ("0", "2"):
        words = ["--training.max_steps", "3", "--training.num_workers", workers]
        assert train(*TINY, *words, "--out", tmp_path / workers) == 0
    assert (tmp_path / "2" / "metrics.jsonl").read_text() == (
        tmp_path / "0" / "metrics.jsonl"
    ).read_text()


@pytest.mark.parametrize(
    ("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=str
)
def test_a_stopped_run_goes_on_bit_for_bit(capsys, tmp_path, whole, number, exit_code):
    stopped = tmp_path / "stopped"
    words = [*EVALUATED, "--evaluation.baselines", "false", *FORTY]
    killer = threading.Thread(target=send_after, args=(number, stopped, 8))
    killer.start()
    code = train(*words, "--out", stopped)
    killer.join()
    assert code == exit_code
    assert f"mlcore train --resume {stopped}" in capsys.readouterr().err
    assert not (stopped / "evaluation.json").exists()
    assert train("--resume", stopped) == 0
    assert (stopped / "evaluation.json").exists()
    assert_same_run(stopped, whole)


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, whole):
    killed = tmp_path / "killed"
    command = [sys.executable, "-m", "mlcore", "train", *TINY, *FORTY, "--out", str(killed)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        wait_for_rows(killed, 8)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert train("--resume", killed) == 0
    assert_same_run(killed, whole)


def test_a_torn_checkpoint_is_named_and_the_one_before_is_used(capsys, tmp_path, whole):
    torn = Path(shutil.copytree(whole, tmp_path / "torn"))
    newest = torn / "checkpoints" / "step-000000040.ckpt"
    newest.write_bytes(newest.read_bytes()[:-200])
    capsys.readouterr()
    assert train("--resume", torn) == 0
    assert f"{newest} is damaged" in capsys.readouterr().err
    assert_same_run(torn, whole)


def test_a_full_disk_ends_in_one_message(capsys, tmp_path, monkeypatch):
    with Path("/dev/full").open("wb", buffering=0) as full:
        monkeypatch.setattr(
            "mlcore.training.checkpoint_io.atomic_write", lambda _: nullcontext(full)
        )
        assert train(*TINY, "--training.max_steps", "5", "--out", tmp_path / "full") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "full: No space left on device; free some space, then" in error


@pytest.mark.parametrize("in_gradient", ["false", "true"])
def test_a_loss_that_is_not_finite_stops_before_the_step(capsys, tmp_path, in_gradient):
    run = tmp_path / "run"
    words = ["--loss", "exploding", "--loss.in_gradient", in_gradient]
    assert train(*TINY, *words, "--training.checkpoint_every", "1", "--out", run) == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert "of 'exploding' is nan at step 2, before the optimizer step" in message
    assert "synthetic/" in message
    assert max(p.stem for p in (run / "checkpoints").iterdir()) == "step-000000002"


def test_the_batch_of_a_loss_that_is_not_finite_can_be_replayed(capsys, tmp_path):
    run = tmp_path / "run"
    words = [*TINY, "--loss", "exploding", "--loss.in_gradient", "true"]
    assert train(*words, "--loss.at_call", "1", "--out", run) == 1
    assert f"mlcore reproduce {run}" in capsys.readouterr().err
    assert main(["reproduce", str(run)]) == 1
    shown = capsys.readouterr()
    assert "the gradient of 'exploding' is nan at step 0" in shown.err
    assert "Reproduced." in shown.out
    assert main(["reproduce", str(run), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["bad_images"] == []
    assert len(found["bad_gradients"]) == 14
    assert "model.projection.weight" in found["bad_parameters"]


def test_a_batch_that_is_replayed_and_does_no_harm(capsys, tmp_path):
    run = tmp_path / "run"
    assert train(*TINY, "--loss", "exploding", "--loss.at_call", "2", "--out", run) == 1
    kept = torch.load(run / "failed-batch.pt", weights_only=True)
    assert kept["step"] == 1
    capsys.readouterr()
    assert main(["reproduce", str(run)]) == 0  # this loss counts its calls
    assert "Not reproduced" in capsys.readouterr().out
    (run / "failed-batch.pt").write_bytes(b"torn")
    assert main(["reproduce", str(run)]) == 2
    assert "failed-batch.pt cannot be read" in capsys.readouterr().err


def test_nothing_to_replay(capsys, whole):
    assert main(["reproduce", str(whole)]) == 2
    assert "the loss of this run was finite at every step" in capsys.readouterr().err


def test_what_does_not_fit_is_refused_before_the_start(capsys, tmp_path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr(
        "mlcore.training.memory_estimate.host_memory", lambda: HostMemory(10**5, 10**5)
    )
    words = ["--training.accelerator", "cpu", "--training.max_steps", "1"]
    assert train(*TINY, *words, "--out", run) == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert "training needs at least" in message
    assert "--training.chunk_size" in message
    assert not run.exists()
    assert train(*TINY, *words, "--training.check_memory", "false", "--out", run) == 0
    monkeypatch.setattr(
        "mlcore.training.memory_estimate.host_memory", lambda: HostMemory(10**12, 10**5)
    )
    assert train(*TINY, *words, "--out", tmp_path / "warned") == 0
    assert "this machine has 0 MB free" in capsys.readouterr().err


def test_a_disk_without_room_for_checkpoints_is_refused(capsys, tmp_path, monkeypatch):
    full = shutil.disk_usage(tmp_path)._replace(free=10**4)
    monkeypatch.setattr("shutil.disk_usage", lambda _: full)
    assert train(*TINY, "--out", tmp_path / "run") == 2
    assert "two checkpoints of" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_data_loading_process_that_dies_is_one_message(capsys, tmp_path, monkeypatch):
    parent = os.getpid()

    def die(self, index):
        if os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return load_image(self, index)

    dataset = importlib.import_module("mlcore_synthetic").SyntheticDataset
    load_image = dataset.load_image
    monkeypatch.setattr(dataset, "load_image", die)
    assert train(*TINY, "--training.num_workers", "1", "--out", tmp_path / "run") == 1
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("mlcore: error: data-loading process ")
    assert "--training.num_workers" in message


def test_a_kill_right_after_a_checkpoint_loses_no_row(tmp_path, monkeypatch, whole):
    killed = tmp_path / "killed"

    class Killed(BaseException):
        pass

    def kill(_run):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("mlcore.run_folder.RunFolder.prune_checkpoints", kill)
        assert train(*TINY, *FORTY, "--out", killed) == 2
    assert train("--resume", killed) == 0
    assert_same_run(killed, whole)


def test_rows_are_the_same_wherever_a_run_was_stopped(tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    words = ["--training.max_steps", "12", "--training.log_every", "4"]
    assert train(*TINY, *words, "--out", whole) == 0

    def stop(self, trainer, pl_module, *_):
        if trainer.global_step == 6:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("mlcore.training.callbacks.SkippedImages.on_train_batch_end", stop)
        assert train(*TINY, *words, "--out", stopped) == 143
    assert train("--resume", stopped) == 0
    rows = (whole / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [4, 8, 12]
    assert_same_run(stopped, whole)


def test_leftovers_of_a_kill_are_removed_when_it_goes_on(tmp_path, whole):
    run = Path(shutil.copytree(whole, tmp_path / "run"))
    left = run / "checkpoints" / ".step-000000040.ckpt.1.tmp"
    left.write_bytes(b"half")
    assert train("--resume", run) == 0
    assert not left.exists()


def test_an_unreadable_image_is_named_or_left_out_when_told(capsys, tmp_path):
    broken = ",".join(str(index) for index in range(0, 180, 7))
    words = ["--dataset.broken", broken, "--training.max_steps", "3"]
    assert train(*TINY, *words, "--out", tmp_path / "stops") == 2
    assert "cannot be decoded" in capsys.readouterr().err.splitlines()[-1]
    run = tmp_path / "goes-on"
    assert train(*TINY, *words, "--training.skip_unreadable", "true", "--out", run) == 0
    skipped = (run / "skipped.txt").read_text().splitlines()
    assert skipped
    assert len(set(skipped)) == len(skipped)


def test_too_few_images_for_a_tuple(capsys, tmp_path):
    run = tmp_path / "run"
    assert train(*TINY, "--sampling.far_radius_m", "500", "--out", run) == 2
    message = capsys.readouterr().err
    assert "no tuple can be formed" in message
    assert "--sampling.far_radius_m" in message
    assert not run.exists()


def send_after(number: int, run: Path, num_rows: int) -> None:
    wait_for_rows(run, num_rows)
    os.kill(os.getpid(), number)


def wait_for_rows(run: Path, num_rows: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        metrics = run / "metrics.jsonl"
        if metrics.exists() and len(metrics.read_text().splitlines()) >= num_rows:
            return
        time.sleep(0.01)
    raise AssertionError(f"{run} has not come to {num_rows} steps")


def assert_same_run(run: Path, expected: Path) -> None:
    assert (run / "metrics.jsonl").read_text() == (expected / "metrics.jsonl").read_text()
    state, wanted = final_state(run), final_state(expected)
    assert state.keys() == wanted.keys()
    assert all(torch.equal(state[name], wanted[name]) for name in wanted)


HARD = [
    *(*TINY, "--sampling.hard_per_tuple", "2", "--sampling.hard_refresh", "8"),
    *("--sampling.hard_pool", "40"),
]


@pytest.mark.parametrize("features", [pytest.param("initial", marks=pytest.mark.slow), "live"])
def test_hard_images_depend_on_nothing_but_seed_and_features(tmp_path, features, monkeypatch):
    """Not on workers, nor on a stop; only ``live`` ones on what was trained."""
    words = [*HARD, "--sampling.hard_features", features, "--training.max_steps", "14"]
    plans = kept_plans(monkeypatch)
    whole, working, stopped, other = (tmp_path / name for name in "abcd")
    assert train(*words, "--out", whole) == 0
    seen = plans.copy()
    plans.clear()
    assert train(*words, "--loss", "triplet", "--out", other) == 0
    assert (seen == plans) == (features == "initial")
    assert train(*words, "--training.num_workers", "2", "--out", working) == 0
    assert (working / "metrics.jsonl").read_text() == (whole / "metrics.jsonl").read_text()
    with monkeypatch.context() as patch:
        patch.setattr(
            importlib.import_module("mlcore.training.checkpoint_io"),
            "atomic_write",
            full_at(10),
        )
        assert train(*words, "--out", stopped) != 0
    assert max((stopped / "checkpoints").iterdir()).name == "step-000000005.ckpt"
    assert train("--resume", stopped) == 0
    assert_same_run(stopped, whole)


def kept_plans(monkeypatch) -> dict[int, list[int]]:
    """Return what collects the images of every step."""
    batches = importlib.import_module("mlcore.sampling.batches").TrainingBatches
    plans: dict[int, list[int]] = {}
    load = batches.__getitem__

    def load_and_keep(self, step):
        item = load(self, step)
        plans[step] = item.batch.index.tolist()
        return item

    monkeypatch.setattr(batches, "__getitem__", load_and_keep)
    return plans


def full_at(step: int):
    """Return a writer of files that finds the disk full at a step's checkpoint."""
    write = importlib.import_module("mlcore.files").atomic_write

    def atomic_write(path: Path):
        if path.name == f"step-{step:09d}.ckpt":
            raise OSError(28, "No space left on device", str(path))
        return write(path)

    return atomic_write
