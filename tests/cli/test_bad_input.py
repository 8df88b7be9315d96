"""Bad input to ``mlcore train``: one message, exit code 2, no traceback, nothing written."""

from __future__ import annotations

import pytest

from mlcore.cli.main import main

COMMAND_LINE = {
    "unknown loss": ("--loss propose", "unknown loss 'propose'; did you mean 'proposed'?"),
    "unknown miner": (
        "--loss pml-triplet-margin --miner geometric-triplet",
        "unknown miner 'geometric-triplet'; did you mean 'geometric-triplets'?",
    ),
    "unknown option": (
        "--loss proposed --loss.betta 40",
        "unknown option '--loss.betta'; did you mean '--loss.beta'?",
    ),
    "abbreviated option": (
        "--loss.bet 40",
        "unknown option '--loss.bet'; did you mean '--loss.beta'?",
    ),
    "abbreviated flag of the command": (
        "--print-conf",
        "unknown option '--print-conf'; did you mean '--print-config'?",
    ),
    "option of another loss": (
        "--loss proposed --loss.margin 0.1",
        "--loss.margin is not an option of loss 'soft-contrastive', which is chosen; it is one of --loss ",
    ),
    "miner for a loss that mines": (
        "--loss proposed --miner geometric-pairs",
        "--miner does not apply: loss 'soft-contrastive' mines its own pairs; ",
    ),
    "influence for a loss without": (
        "--loss triplet --influence sigmoid",
        "--influence does not apply: loss 'triplet' does not use an influence function; ",
    ),
    "not finite": ("--loss.beta nan", "--loss.beta must be "),
    "out of range": (
        "--evaluation.recall_at 0",
        "--evaluation.recall_at must be at least 1, got 0",
    ),
    "another tool's word": (
        "--lr 1e-3",
        "unknown option '--lr'; did you mean '--training.learning_rate'?",
    ),
    "wrong type": ("--loss.beta forty", "--loss.beta: expected float, got 'forty'"),
    "wrong choice": (
        "--training.schedule linear",
        "--training.schedule: expected one of constant, cosine, halve-each-epoch, got 'linear'",
    ),
    "no value": ("--loss.beta", "--loss.beta needs a value: float"),
    "stray word": ("proposed", "mlcore train: unexpected argument 'proposed'"),
    "unknown plugin": ("--block soft", "unknown plugin 'soft'; "),
    "no file": ("--config none.toml", "none.toml: No such file or directory"),
    "malformed file": ("--config torn.toml", "torn.toml is not valid TOML: "),
    "unknown key": (
        "--config key.toml",
        "unknown key in [training] of key.toml 'max_step'; did you mean 'max_steps'?",
    ),
    "existing folder": ("--out taken", "--out taken exists already; "),
    "no run folder": ("--resume taken", "taken "),
}


@pytest.mark.parametrize("case", COMMAND_LINE)
def test_one_message_and_nothing_written(capsys, tmp_path, monkeypatch, case):
    words, message = COMMAND_LINE[case]
    (tmp_path / "torn.toml").write_text("[loss]\nbeta = \n")
    (tmp_path / "key.toml").write_text("[training]\nmax_step = 3\n")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    monkeypatch.chdir(tmp_path)
    assert main(["train", *words.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"mlcore: error: {message}")
    assert len(printed.err.splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_the_line_of_malformed_toml(capsys, tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[loss]\nbeta = \n")
    assert main(["train", "--config", str(path)]) == 2
    assert "line 2" in capsys.readouterr().err


def test_print_config_is_the_file_that_repeats_it(capsys, tmp_path):
    argv = ["train", "--loss", "triplet", "--seed", "4", "--print-config"]
    assert main(argv) == 0
    text = capsys.readouterr().out
    path = tmp_path / "run.toml"
    path.write_text(text)
    assert main(["train", "--config", str(path), "--print-config"]) == 0
    assert capsys.readouterr().out == text


def test_help_shows_the_options_of_the_chosen_loss_only(capsys):
    assert main(["train", "--loss", "triplet", "--help"]) == 0
    printed = capsys.readouterr().out
    assert "--loss.margin" in printed
    assert "--loss.beta" not in printed
    assert "--resume" in printed


def test_help_has_rows_for_components_and_files_and_examples(capsys):
    assert main(["train", "--help"]) == 0
    rows = [line.strip() for line in capsys.readouterr().out.splitlines()]
    for flag in ("--loss NAME", "--config FILE", "--dataset NAME", "--miner NAME"):
        assert sum(row.startswith(f"{flag} ") for row in rows) == 1
    assert "mlcore train --config run.toml" in " ".join(rows[rows.index("examples:") :])
