"""``mlcore data write``: what it prints can be typed, and what cannot work is refused."""

from __future__ import annotations

import json
import shlex

import pytest

from mlcore.cli.main import main

REFUSED = {
    "no form": ([], "name the format to write, one of pittsburgh, robotcar"),
    "misspelt form": (["robocar"], "did you mean 'robotcar'?"),
    "a data set that is no form": (
        ["streets"],
        "cannot write the 'streets' format; choose one of",
    ),
    "no source": (["robotcar", "--out", "x"], "--from is missing"),
    "misspelt source": (["robotcar", "--from", "stret"], "did you mean 'streets'?"),
    "misspelt option of the source": (
        ["robotcar", "--from", "streets", "--from.town_sed", "1"],
        "did you mean '--dataset.town_seed'?",
    ),
    "misspelt option of the form": (
        ["robotcar", "--from", "streets", "--imges", "tars"],
        "did you mean '--images'?",
    ),
    "option of another form": (
        ["pittsburgh", "--from", "streets", "--images", "tars"],
        "unknown option '--images'",
    ),
    "wrong value": (
        ["robotcar", "--from", "streets", "--images", "zip"],
        "--images: expected one of folders, tars, got 'zip'",
    ),
    "value out of range": (
        ["pittsburgh", "--from", "streets", "--jpeg_quality", "0"],
        "jpeg_quality must be between 1 and 100, got 0",
    ),
    "no folder": (["robotcar", "--from", "streets"], "--out is missing"),
}


@pytest.mark.parametrize(("words", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_work_is_refused(capsys, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    assert main(["data", "write", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_use_is_refused(capsys, tmp_path):
    (tmp_path / "kept.txt").write_text("kept")
    for out, why in ((tmp_path, "is not empty"), (tmp_path / "kept.txt", "is a file")):
        words = ["data", "write", "pittsburgh", "--from", "streets", "--out", str(out)]
        assert main(words) == 2
        assert why in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["kept.txt"]


def test_help_shows_the_options_of_the_form(capsys):
    assert main(["data", "write", "--help"]) == 0
    assert "--from" in capsys.readouterr().out
    assert main(["data", "write", "robotcar", "--help"]) == 0
    assert "--chunk_frames" in capsys.readouterr().out


@pytest.mark.usefixtures("synthetic_plugin")
@pytest.mark.parametrize("form", ["robotcar", "pittsburgh"])
def test_the_commands_it_prints_work_as_printed(capsys, tmp_path, monkeypatch, form):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    out = tmp_path / form
    words = ["data", "write", form, "--from", "synthetic", "--from.radius_m=30"]
    assert main([*words, "--out", str(out), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["ok"]
    assert report["facts"]["train"] == "60 references, 120 queries"
    commands = [shlex.split(command) for command in report["commands"]]
    assert all(command[0] == "mlcore" for command in commands)
    data = [command[1:] for command in commands if command[1] == "data"]
    for command in data:
        one = ["--num_processes", "1"] if command[1] == "prepare" else []
        assert main([*command, *one]) == 0
    shown = capsys.readouterr().out
    assert "test: queries" in shown
    train, evaluate = commands[len(data) :]
    assert (train[1], evaluate[1:3]) == ("train", ["evaluate", "RUN"])
    assert main([*train[1:], "--print-config"]) == 0
    assert f'name = "{form}"' in capsys.readouterr().out


def test_several_regions_are_refused(capsys, tmp_path, synthetic_plugin):
    words = [
        "data",
        "write",
        "pittsburgh",
        "--from",
        "synthetic,synthetic",
        "--from.2.radius_m",
        "40",
    ]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "holds one region, the data set has several (synthetic 1, synthetic 2)" in error
