"""The run folder as crashes, other programs and people leave it."""

from __future__ import annotations

import os
import random
import subprocess
import sys

import pytest
import torch

from mlcore import run_folder
from mlcore.errors import ConfigError, DataError
from mlcore.files import atomic_write
from mlcore.registry.discovery import Plugin
from mlcore.run_folder import RunFolder, describe_environment, require_same_shapes


@pytest.fixture
def run(tmp_path) -> RunFolder:
    made = RunFolder.create(tmp_path / "run", "seed = 0\n")
    for step in (5, 10):
        weights = torch.full((40, 50), float(step))
        torch.save({"global_step": step, "weights": weights}, made.checkpoint_path(step))
    return made


def test_the_newest_checkpoint_is_the_one_of_the_latest_step(run):
    assert run.newest_checkpoint() == run.checkpoint_path(10)


def test_a_flipped_byte_of_the_weights_is_noticed(run, capsys):
    path = run.checkpoint_path(10)
    content = bytearray(path.read_bytes())
    at = content.index(torch.full((1,), 10.0).numpy().tobytes() * 3)
    content[at + 2] ^= 1
    path.write_bytes(content)
    assert run.newest_checkpoint() == run.checkpoint_path(5)
    assert str(path) in capsys.readouterr().err


def test_a_flipped_bit_anywhere_is_noticed_or_harmless(run):
    """Padding between the parts of the archive has no checksum, and nothing depends on it."""
    path = run.checkpoint_path(10)
    whole, generator = path.read_bytes(), random.Random(0)
    noticed = 0
    for _ in range(60):
        content = bytearray(whole)
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
        path.write_bytes(content)
        if run.newest_checkpoint() == run.checkpoint_path(5):
            noticed += 1
            continue
        loaded = torch.load(path, weights_only=True)
        assert loaded["global_step"] == 10
        assert torch.equal(loaded["weights"], torch.full((40, 50), 10.0))
    assert noticed > 40


@pytest.mark.parametrize("cut", [1, 200, 4000])
def test_a_checkpoint_cut_short_is_noticed(run, cut):
    path = run.checkpoint_path(10)
    path.write_bytes(path.read_bytes()[:-cut])
    assert run.newest_checkpoint() == run.checkpoint_path(5)


def test_no_checkpoint_is_whole(run):
    for step in (5, 10):
        run.checkpoint_path(step).write_bytes(b"not a zip archive")
    with pytest.raises(DataError, match="are damaged"):
        run.newest_checkpoint()


def test_checkpoints_that_training_removes_meanwhile_are_not_called_damaged(
    run, capsys, monkeypatch
):
    is_whole = run_folder._is_whole

    def later(path):
        for step in (5, 10):
            run.checkpoint_path(step).unlink(missing_ok=True)
        torch.save({"global_step": 15}, run.checkpoint_path(15))
        return is_whole(path)

    monkeypatch.setattr(run_folder, "_is_whole", later)
    assert run.newest_checkpoint() == run.checkpoint_path(15)
    assert capsys.readouterr().err == ""


def test_all_but_the_newest_two_checkpoints_are_removed(run):
    torch.save({}, run.checkpoint_path(15))
    (run.checkpoints / "notes.txt").write_text("mine")
    run.prune_checkpoints()
    names = sorted(path.name for path in run.checkpoints.iterdir())
    assert names == ["notes.txt", "step-000000010.ckpt", "step-000000015.ckpt"]


def test_rows_after_the_checkpoint_and_torn_rows_are_cut(run):
    rows = ['{"step": 5, "loss": 1}', '{"step": 10, "loss": 2}', '{"step": 11}', '{"ste']
    run.metrics.write_text("\n".join(rows))
    run.cut_metrics(10)
    assert run.metrics.read_text().splitlines() == rows[:2]


def test_metrics_are_left_alone_where_there_are_none(run):
    run.cut_metrics(10)
    assert not run.metrics.exists()


def test_a_folder_with_something_in_it_is_not_written_over(run, tmp_path):
    empty, file = tmp_path / "empty", tmp_path / "file"
    empty.mkdir()
    file.write_text("mine")
    RunFolder.require_free(empty)
    RunFolder.require_free(tmp_path / "absent")
    for taken, remedy in ((run.path, f", or continue .*--resume {run.path}'"), (file, "")):
        message = f"{taken} exists already; choose another folder{remedy}$"
        with pytest.raises(ConfigError, match=message):
            RunFolder.require_free(taken)


def test_what_is_no_run_folder_is_not_opened(run, tmp_path):
    assert RunFolder.open(run.path).config == run.config
    with pytest.raises(DataError, match="no run folder at"):
        RunFolder.open(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"has no config\.toml"):
        RunFolder.open(tmp_path / "empty")


def test_checkpoints_behind_a_link_are_not_used(run, tmp_path):
    run.checkpoints.rename(tmp_path / "elsewhere")
    run.checkpoints.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="symbolic link"):
        RunFolder.open(run.path)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"global_step": 10}, "no state_dict and global_step"),
        ({"state_dict": {}}, "no state_dict and global_step"),
        ([10], "no state_dict and global_step"),
        ({"global_step": 10, "state_dict": [torch.ones(1)]}, "holds no weights"),
        ({"global_step": 10, "state_dict": {"a": 1.0}}, "holds no weights"),
        ({"global_step": 9, "state_dict": {}}, "the state after step 9.*step-000000009.ckpt"),
    ],
)
def test_a_file_that_is_not_the_checkpoint_of_its_name(run, state, message):
    path = run.checkpoint_path(10)
    torch.save(state, path)
    with pytest.raises(DataError, match=message):
        run.load_checkpoint(path)


def test_a_checkpoint_brings_back_its_state(run):
    path = run.checkpoint_path(10)
    for extra in ({}, {"optimizer": 3}):
        state = {"global_step": 10, "state_dict": {"a": torch.ones(1)}} | extra
        torch.save(state, path)
        assert run.load_checkpoint(path) == state


class RunsCode:
    """What unpickles by calling a function of the attacker's choice."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


@pytest.mark.parametrize("searched", [False, True])
def test_pickled_code_in_a_checkpoint_is_not_run(run, tmp_path, searched):
    path, trace = run.checkpoint_path(10), tmp_path / "trace"
    torch.save({"global_step": 10, "state_dict": RunsCode(str(trace))}, path)
    if searched:
        assert run.newest_checkpoint() == run.checkpoint_path(5)
    else:
        with pytest.raises(DataError, match="cannot be loaded"):
            run.load_checkpoint(path)
    assert not trace.exists()


LOCKING = """
import sys
from pathlib import Path
from mlcore.errors import ConfigError
from mlcore.run_folder import RunFolder
try:
    with RunFolder(Path(sys.argv[1])).locked():
        print("locked")
except ConfigError as error:
    print(error)
"""


def test_a_second_process_is_refused_and_told_which_is_first(run):
    def lock_elsewhere() -> str:
        command = [sys.executable, "-c", LOCKING, str(run.path)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=True
        ).stdout

    assert lock_elsewhere() == "locked\n"
    with run.locked():
        refused = lock_elsewhere()
        assert f"(process {os.getpid()} on " in refused
        assert refused.count("(process ") == refused.count(" on ") == 1, (
            "the first owner's line was not removed"
        )
    assert lock_elsewhere() == "locked\n"


def test_the_newest_step_counts_damaged_checkpoints_too(run):
    run.checkpoint_path(10).write_bytes(b"")
    assert run.newest_step() == 10
    for step in (5, 10):
        run.checkpoint_path(step).unlink()
    assert run.newest_step() == 0
    (run.checkpoints / "step-last.ckpt").write_bytes(b"")
    assert run.newest_step() == -1


def test_weights_of_another_shape_are_named():
    expected = {"a.weight": torch.zeros(2, 3), "a.bias": torch.zeros(2)}
    require_same_shapes(expected, expected, "x.ckpt")
    with pytest.raises(DataError, match=r"1 of 2 differ, the first is 'a\.bias' of shape none"):
        require_same_shapes(expected, {"a.weight": torch.zeros(2, 3)}, "x.ckpt")
    found = expected | {"a.weight": torch.zeros(3, 2)}
    with pytest.raises(DataError, match=r"'a\.weight' of shape \(3, 2\) where \(2, 3\)"):
        require_same_shapes(expected, found, "x.ckpt")


def test_only_temporary_files_are_removed(run):
    kept = run.path / "notes.tmp"
    for path in (kept, run.path / ".a.tmp", run.checkpoints / ".b.tmp", run.plots / ".c.tmp"):
        path.write_text("")
    run.remove_leftovers()
    assert [path.name for path in run.path.rglob("*.tmp")] == ["notes.tmp"]


def test_json_comes_back_and_ends_its_last_line(run):
    run.write_json(run.evaluation, content := {"accuracy": [0.5, None]})
    assert run.read_json(run.evaluation) == content
    assert run.evaluation.read_text().endswith("]\n}\n")


def test_a_new_run_makes_its_parents_and_may_use_an_empty_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "a" / "b", tmp_path / "empty"):
        run = RunFolder.create(path, "seed = 3\n")
        assert run.config.read_text() == "seed = 3\n"
        assert run.checkpoints.is_dir()
        assert run.plots.is_dir()


def test_numbers_that_json_does_not_have_are_refused(run):
    with pytest.raises(ValueError, match="JSON"):
        run.write_json(run.evaluation, {"accuracy": float("nan")})
    assert not run.evaluation.exists()


def test_the_environment_lists_the_command_and_the_plugins_that_work(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/mlcore", "train", "--loss", "a b"])
    working, blocked = (
        Plugin(name=status, distribution="pkg", version="1.2", status=status)
        for status in ("ok", "blocked")
    )
    described = describe_environment([working, blocked], device="", fingerprint="", notes=[])
    assert described["command"] == "mlcore train --loss 'a b'"
    assert described["plugins"] == {"ok": "pkg 1.2"}


def test_a_path_that_the_locale_cannot_write_is_no_damage(run, monkeypatch):
    """A checkpoint that is intact must not be called damaged, and removed."""

    def load(path, **_):
        "l\udce4uf".encode()  # as a locale without the letter reads a name

    monkeypatch.setattr("torch.load", load)
    with pytest.raises(UnicodeEncodeError):
        run.newest_checkpoint()
    with pytest.raises(UnicodeEncodeError):
        run.load_checkpoint(run.checkpoint_path(1))


def test_a_file_in_place_of_the_checkpoints_is_refused(tmp_path):
    run = RunFolder.create(tmp_path / "run", "")
    run.checkpoints.rmdir()
    assert RunFolder.open(run.path).newest_checkpoint() is None
    run.checkpoints.write_text("moved away")
    with pytest.raises(DataError, match="checkpoints is not a folder"):
        RunFolder.open(run.path)


def test_a_full_disk_is_named_though_numpy_gives_no_reason(tmp_path):
    path = tmp_path / "vectors.npy"
    with (
        pytest.raises(
            OSError, match=r"vectors.npy: 12288 requested and 256 written; is the disk"
        ),
        atomic_write(path),
    ):
        raise OSError("12288 requested and 256 written")
    assert not list(tmp_path.iterdir())
