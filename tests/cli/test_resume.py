"""``mlcore train --resume``: on the same data, code and options, or on accepted changes."""

from __future__ import annotations

import errno
import importlib
import json
import multiprocessing
import os
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch

from mlcore.cli.main import main
from mlcore.errors import ConfigError
from mlcore.run_folder import RunFolder

TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.near_per_tuple", "3", "--sampling.far_per_tuple", "3"),
    *("--training.checkpoint_every", "2", "--training.log_every", "1"),
    *("--training.evaluate", "false", "--evaluation.whitening", "none"),
    *("--training.accelerator", "cpu", "--training.schedule", "constant"),
]
SUPPORT = Path(__file__).parents[1] / "support"

pytestmark = pytest.mark.usefixtures("synthetic_plugin")


def train(*words: str | Path) -> int:
    return main(["train", *(str(word) for word in words)])


def environment_of(run: Path) -> dict:
    return json.loads((run / "environment.json").read_text())


def state_of(run: Path) -> dict[str, torch.Tensor]:
    newest = max((run / "checkpoints").glob("*.ckpt"))
    return torch.load(newest, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SUPPORT)
        assert train(*TINY, "--training.max_steps", "4", "--out", path) == 0
    return path


@pytest.fixture
def run(trained_run, tmp_path) -> Path:
    """Return a copy of the run, to be resumed or edited."""
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def refused(capsys, *words: str | Path) -> str:
    capsys.readouterr()
    assert train(*words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("mlcore: error: ")
    return error


def test_the_beginning_is_kept_and_the_history_grows(run):
    before = environment_of(run)
    assert train("--resume", run, "--training.num_workers", "1") == 0
    after = environment_of(run)
    (entry,) = after.pop("history")
    assert before.pop("history") == []
    assert after == before
    assert entry["step"] == 4
    assert entry["changes"] == {"config": {"training.num_workers": {"before": "0", "now": "1"}}}
    assert "num_workers = 1" in (run / "config.toml").read_text()


def test_other_data_is_refused_and_can_be_accepted(capsys, run, monkeypatch):
    opened = importlib.import_module("mlcore.experiment")
    open_dataset = opened.open_dataset
    fingerprint = ["other"]

    def open_other(*words):
        dataset = open_dataset(*words)
        dataset.fingerprint = fingerprint[0]
        return dataset

    monkeypatch.setattr(opened, "open_dataset", open_other)
    error = refused(capsys, "--resume", run)
    assert "fingerprint of data set 'synthetic' was synthetic and is now other" in error
    assert "--accept-changes data" in error
    assert environment_of(run)["history"] == []
    assert train("--resume", run, "--accept-changes", "data") == 0
    after = environment_of(run)
    assert after["data_fingerprint"] == "synthetic"
    assert after["history"][0]["changes"] == {
        "data": {"fingerprint": {"before": "synthetic", "now": "other"}}
    }
    assert train("--resume", run) == 0  # on what it last went on with
    fingerprint[0] = "synthetic"
    assert "was other and is now synthetic" in refused(capsys, "--resume", run)


def test_options_that_change_numbers_are_refused(capsys, run):
    config = run / "config.toml"
    error = refused(capsys, "--resume", run, "--training.learning_rate", "0.5")
    assert "--training.learning_rate was 0.003 and is now 0.5" in error
    text = config.read_text()
    config.write_text(text.replace("near_per_tuple = 3", "near_per_tuple = 2"))
    error = refused(capsys, "--resume", run)
    assert "--sampling.near_per_tuple was 3 and is now 2" in error
    assert train("--resume", run, "--accept-changes", "config") == 0


def test_other_training_images_are_named(capsys, run):
    error = refused(capsys, "--resume", run, "--training.images", "references")
    assert "started with other options: --training.images was train and is now ref" in error
    assert "source" not in error


def test_another_source_of_the_loss_is_refused(capsys, run, monkeypatch):
    provenance = importlib.import_module("mlcore.training.provenance")
    digest = provenance._digest

    def other(files):
        edited = any("mlcore_soft_contrastive" in str(path) for path in files)
        return "edited" if edited else digest(files)

    monkeypatch.setattr(provenance, "_digest", other)
    error = refused(capsys, "--resume", run, "--accept-changes", "data,config")
    assert "the source of the loss has changed" in error
    assert "--accept-changes data,config,code" in error
    assert train("--resume", run, "--accept-changes", "code") == 0


def test_another_version_of_torch_is_refused(capsys, run, monkeypatch):
    provenance = importlib.import_module("mlcore.training.provenance")
    monkeypatch.setattr(provenance, "version", lambda name: f"{name} of tomorrow")
    assert "torch was 2" in refused(capsys, "--resume", run)


def test_more_steps_equal_a_longer_run_bit_for_bit(run, tmp_path):
    longer = tmp_path / "longer"
    assert train(*TINY, "--training.max_steps", "7", "--out", longer) == 0
    assert train("--resume", run, "--training.max_steps", "7") == 0
    assert (run / "metrics.jsonl").read_text() == (longer / "metrics.jsonl").read_text()
    assert (run / "config.toml").read_text() == (longer / "config.toml").read_text()
    state, expected = state_of(run), state_of(longer)
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_more_steps_of_a_schedule_over_the_run_are_refused(capsys, tmp_path):
    run = tmp_path / "run"
    words = ["--training.schedule", "cosine", "--training.max_steps", "2"]
    assert train(*TINY, *words, "--out", run) == 0
    error = refused(capsys, "--resume", run, "--training.max_steps", "4")
    assert "--training.max_steps was 2 and is now 4" in error
    assert "the learning rate of every step of the cosine schedule depends on it" in error


def test_fewer_steps_than_taken_are_refused(capsys, run):
    words = ["--training.max_steps", "3", "--accept-changes", "config"]
    assert "already taken 4 steps" in refused(capsys, "--resume", run, *words)


def test_a_run_from_before_the_history_goes_on(run):
    environment = environment_of(run)
    for name in ("code", "configuration", "history"):
        del environment[name]
    (run / "environment.json").write_text(json.dumps(environment))
    assert train("--resume", run) == 0
    (run / "environment.json").unlink()  # killed before it was written
    assert train("--resume", run) == 0
    assert environment_of(run)["data_fingerprint"] == "synthetic"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "environment.json cannot be read"),
        ("[]", "environment.json is damaged"),
        ('{"data_fingerprint": "synthetic", "history": [1]}', "environment.json is damaged"),
        ('{"data_fingerprint": "synthetic", "code": 3}', "environment.json is damaged"),
    ],
)
def test_an_edited_environment_is_one_sentence(capsys, run, content, message):
    (run / "environment.json").write_text(content)
    assert message in refused(capsys, "--resume", run)


def test_words_that_do_not_belong_to_resume(capsys, run, tmp_path):
    assert "remove --out" in refused(capsys, "--resume", run, "--out", tmp_path / "x")
    assert "only works with --resume" in refused(capsys, *TINY, "--accept-changes", "data")
    for kinds in ("seed", "data,all", ""):
        words = ["--resume", run, "--accept-changes", kinds]
        assert "expected one or more of data, code, config" in refused(capsys, *words)


def test_a_checkpoint_of_another_network_is_one_sentence(capsys, run, tmp_path):
    other = tmp_path / "other"
    words = ["--model.embedding_dim", "12", "--training.max_steps", "4"]
    assert train(*TINY, *words, "--out", other) == 0
    name = "step-000000004.ckpt"
    (run / "checkpoints" / name).write_bytes((other / "checkpoints" / name).read_bytes())
    error = refused(capsys, "--resume", run)
    assert "holds the weights of another network or loss" in error
    assert "(12," in error
    assert "(16," in error
    assert main(["evaluate", str(run)]) == 2
    assert "holds the weights of another network" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weights": torch.zeros(3)}, "is not a checkpoint of mlcore"),
        (torch.zeros(3), "is not a checkpoint of mlcore"),
        ({"state_dict": {}, "global_step": 3}, "holds the state after step 3"),
    ],
)
def test_a_wrong_checkpoint_is_one_sentence(capsys, run, state, message):
    torch.save(state, run / "checkpoints" / "step-000000004.ckpt")
    assert message in refused(capsys, "--resume", run)


def test_linked_checkpoints_are_refused(capsys, run, tmp_path):
    (run / "checkpoints").rename(tmp_path / "elsewhere")
    (run / "checkpoints").symlink_to(tmp_path / "elsewhere")
    assert re.search(
        "checkpoints is a symbolic link to .*elsewhere", refused(capsys, "--resume", run)
    )


def hold(path: Path, locked, over) -> None:
    with RunFolder(path).locked():
        locked.set()
        over.wait(60)


def test_a_second_process_is_refused_until_the_first_ends(run, capsys):
    context = multiprocessing.get_context("fork")
    locked, over = context.Event(), context.Event()
    first = context.Process(target=hold, args=(run, locked, over))
    first.start()
    assert locked.wait(60)
    error = refused(capsys, "--resume", run)
    assert f"another process trains in {run} (process {first.pid} on" in error
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    with RunFolder(run).locked():
        pass  # what a killed process held is free


def test_a_forked_child_does_not_hold_the_lock(run):
    context = multiprocessing.get_context("fork")
    over = context.Event()
    folder = RunFolder(run)
    with folder.locked():
        child = context.Process(target=over.wait, args=(60,))
        child.start()
    result = context.Queue()

    def lock_again() -> None:
        try:
            with folder.locked():
                result.put("locked")
        except ConfigError as error:
            result.put(str(error))

    other = context.Process(target=lock_again)
    other.start()
    assert result.get(timeout=60) == "locked"
    over.set()
    child.join()
    other.join()


def test_a_run_on_several_data_sets_goes_on(tmp_path):
    two = [*TINY[2:], "--dataset", "synthetic,synthetic", "--dataset.2.radius_m", "30"]
    two += ["--sampling.balance", "datasets"]
    whole, run = tmp_path / "whole", tmp_path / "run"
    assert train(*two, "--training.max_steps", "4", "--out", whole) == 0
    assert train(*two, "--training.max_steps", "2", "--out", run) == 0
    assert train("--resume", run, "--training.max_steps", "4") == 0
    assert environment_of(run)["data_fingerprint"] == environment_of(whole)["data_fingerprint"]
    expected = state_of(whole)
    for name, value in state_of(run).items():
        assert torch.equal(value, expected[name])
    assert train("--resume", run, "--dataset.2.radius_m", "31") == 2


def test_a_disk_that_fills_while_training_names_the_run_and_how_to_continue(
    capsys, tmp_path, monkeypatch
):
    def full(*_arguments, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mlcore.training.fit", full)
    run = tmp_path / "run"
    assert train(*TINY, "--out", run) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last == (
        f"mlcore: error: {run}: No space left on device; free some space, then continue with "
        f"'mlcore train --resume {run}'"
    )
