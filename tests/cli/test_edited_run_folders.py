"""Run folders that somebody edited: one sentence naming the file, or a result."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from mlcore.cli.main import main

TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.max_steps", "2"),
    *("--training.log_every", "1", "--evaluation.baselines", "false"),
]
SUPPORT = Path(__file__).parents[1] / "support"
NESTED = "[" * 100_000
CHECKPOINT = "checkpoints/step-000000002.ckpt"

pytestmark = pytest.mark.usefixtures("synthetic_plugin")


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SUPPORT)
        assert main(["train", *TINY, "--out", str(run)]) == 0
    return run


def saved(**content):
    def write(path):
        torch.save(content, path)

    return write


def renamed(path):
    path.rename(path.with_name("step-000000009.ckpt"))


def other_width(path):
    state = torch.load(path, weights_only=True)
    state["state_dict"] = {n: torch.stack([w, w]) for n, w in state["state_dict"].items()}
    torch.save(state, path)


def without(name):
    def write(path):
        state = torch.load(path, weights_only=True)
        del state[name]
        torch.save(state, path)

    return write


def evaluation_with(**changes):
    def write(path):
        content = json.loads(path.read_text())
        content["evaluations"][-1] |= changes
        path.write_text(json.dumps(content))

    return write


EDITS = {
    "evaluation of too few distances": (
        "evaluation.json",
        evaluation_with(distance_m=[1.0]),
        "report",
    ),
    "evaluation of a condition without a name": (
        "evaluation.json",
        evaluation_with(conditions=[]),
        "report",
    ),
    "evaluation of nested columns": (
        "evaluation.json",
        evaluation_with(first_hit_rank=[[1]]),
        "report",
    ),
    "config nested": ("config.toml", f"loss = {NESTED}", "evaluate"),
    "config no TOML": ("config.toml", "loss = ", "evaluate"),
    "config of another key": ("config.toml", "[loss]\nbetta = 3.0\n", "evaluate"),
    "config no UTF-8": ("config.toml", b"# \xe4\n", "evaluate"),
    "evaluation nested": ("evaluation.json", NESTED, "report"),
    "evaluation a number": ("evaluation.json", "3", "report"),
    "evaluation of numbers": ("evaluation.json", '{"format": 1, "evaluations": [3]}', "report"),
    "evaluation without columns": (
        "evaluation.json",
        '{"format": 1, "evaluations": [{"protocol": {}}]}',
        "report",
    ),
    "environment nested": ("environment.json", NESTED, "resume"),
    "environment a list": ("environment.json", "[]", "resume"),
    "environment without history": (
        "environment.json",
        '{"data_fingerprint": "synthetic", "history": 3}',
        "resume",
    ),
    "checkpoint empty": (CHECKPOINT, b"", "evaluate"),
    "checkpoint of numbers": (CHECKPOINT, saved(a=3), "evaluate"),
    "checkpoint of a list": (CHECKPOINT, lambda path: torch.save([1], path), "evaluate"),
    "checkpoint of another step": (CHECKPOINT, renamed, "evaluate"),
    "checkpoint of another network": (CHECKPOINT, other_width, "evaluate"),
    "weights that are no tensors": (
        CHECKPOINT,
        saved(state_dict={"model.a": 3}, global_step=2),
        "evaluate",
    ),
    "state that is no mapping": (CHECKPOINT, saved(state_dict=3, global_step=2), "evaluate"),
    "state without optimizer": (CHECKPOINT, without("optimizer_states"), "resume"),
    "state without loops": (CHECKPOINT, without("loops"), "resume"),
    "weights of another network": (CHECKPOINT, other_width, "resume"),
    "optimizer that is a number": (
        CHECKPOINT,
        saved(state_dict={}, global_step=2, optimizer_states=3, loops={}),
        "resume",
    ),
}


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_file_gets_one_sentence(trained_run, tmp_path, capsys, edit):
    name, content, command = EDITS[edit]
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    if callable(content):
        content(run / name)
    else:
        (run / name).write_bytes(content.encode() if isinstance(content, str) else content)
    words = ["train", "--resume"] if command == "resume" else [command]
    capsys.readouterr()
    assert main([*words, str(run)]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[-1].startswith("mlcore: error: ")
    assert name.partition("/")[0].rstrip("s") in said[-1]
    assert len(said[-1]) < 1000
    assert not any("Traceback" in line for line in said)


@pytest.mark.parametrize("row", ["3", "[]", NESTED, '{"step": "a"}', '{"loss": {}}', "{"])
def test_an_edited_row_of_metrics_ends_the_curve(trained_run, tmp_path, capsys, row):
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    with (run / "metrics.jsonl").open("a") as file:
        file.write(row + "\n")
    assert main(["report", str(run), "--explained", "0", "--pictures", "0"]) == 0
    assert "row 3 is incomplete" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content", ["[]", "3", '{"a": 3}', '{"a": {"options": "x ="}}', '{"a": {}}', NESTED]
)
def test_an_edited_plan_of_a_comparison_gets_one_sentence(tmp_path, capsys, content):
    (tmp_path / "plan.json").write_text(content)
    assert main(["compare", *TINY, "--losses", "triplet", "--out", str(tmp_path)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"mlcore: error: {tmp_path / 'plan.json'}")


@pytest.mark.parametrize("content", ["[]", "3", "{", NESTED])
def test_an_edited_list_of_shards_gets_one_sentence(trained_run, tmp_path, capsys, content):
    (tmp_path / "shards.json").write_text(content)
    words = ["embed", str(trained_run), "--shard_size", "90", "--out", str(tmp_path)]
    assert main(words) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"mlcore: error: {tmp_path / 'shards.json'}")


def test_resuming_ignores_edited_rows_of_metrics(trained_run, tmp_path):
    run = Path(shutil.copytree(trained_run, tmp_path / "run"))
    before = (run / "metrics.jsonl").read_text()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1e999}\n')
        file.write(f"3\n{NESTED}\n{json.dumps({'step': None})}\n")
    assert main(["train", "--resume", str(run)]) == 0
    assert (run / "metrics.jsonl").read_text() == before
