from __future__ import annotations

import io
import json

import pytest

from mlcore.cli import console


def test_results_go_to_stdout_and_the_rest_to_stderr(capsys):
    console.write("[bold]x[/bold]\n")
    console.write_json({"a": 1.5})
    console.say("said")
    console.notes(["noted"])
    assert capsys.readouterr() == (
        '[bold]x[/bold]\n{\n  "a": 1.5\n}\n',
        "said\nnote: noted\n",
    )


def test_a_table_in_a_pipe_is_not_cut(capsys):
    table = console.table("name", "value#")
    table.add_row("a" * 120, "[red]1[/red]")
    console.show(table)
    printed = capsys.readouterr().out
    assert "a" * 120 in printed


def test_progress_without_a_terminal_is_a_line_now_and_then(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    with console.progress() as report:
        for done in range(5):
            report("embedding", done, 4)
            now[0] += 6.0
    assert capsys.readouterr() == (
        "",
        "embedding: 0 of 4\nembedding: 2 of 4\nembedding: 4 of 4\n",
    )


@pytest.mark.parametrize("total", [0, 3])
def test_progress_on_a_terminal_is_a_bar(monkeypatch, total):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(console.sys, "stderr", terminal)
    with console.progress() as report:
        report("embedding", 0, total)
        report("embedding", total, total)
        report("searching", 1, 2)
    drawn = terminal.getvalue()
    assert f"{total}/{total}" in drawn
    assert "searching" in drawn


STRANGE = "a\x1b[31m\x07\u202egpj.exe:smiley: [bold]b[/bold] ü"


def test_names_of_strangers_do_not_command_the_terminal(capsys, monkeypatch):
    table = console.table("name!")
    table.add_row(STRANGE)
    monkeypatch.setattr(console.sys.stdout, "isatty", lambda: True, raising=False)
    console.write(STRANGE)
    console.show(table)
    console.say(STRANGE)
    for printed in capsys.readouterr():
        assert r"a\x1b[31m\x07\u202egpj.exe:smiley: [bold]b[/bold] ü" in printed
        assert "\x07" not in printed
        assert "\u202e" not in printed


def test_names_are_not_broken_in_80_columns(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(console.sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    name = "pml-generalized-lifted-structure"
    table = console.table("name!", "summary", "plugin!")
    table.add_row(name, "words " * 30, "soft-contrastive")
    console.show(table)
    assert f"{name} " in terminal.getvalue()
    assert "soft-contrastive" in terminal.getvalue()


def test_written_files(capsys, tmp_path):
    console.written([tmp_path / "a"], as_json=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"written": [str(tmp_path / "a")]}
    assert printed.err == f"Written: {tmp_path / 'a'}\n"
