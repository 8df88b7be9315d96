"""The run folder as crashes, other programs and people leave it."""

from __future__ import annotations

import random

import pytest
import torch

from mlcore.errors import DataError
from mlcore.run_folder import RunFolder


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
    with pytest.raises(DataError, match="is whole"):
        run.newest_checkpoint()


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
