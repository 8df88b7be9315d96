"""docs/add-a-loss.md, word for word, in a fresh environment."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "add-a-loss.md"

_BLOCK = re.compile(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    language: str
    title: str | None
    text: str


def blocks() -> list[Block]:
    return [
        Block(language, title or None, text)
        for language, title, text in _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    ]


def lines(text: str) -> list[str]:
    """Return the lines of a text that are not empty, spaces made one."""
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def test_the_page_has_all_kinds_of_blocks():
    kinds = {(block.language, bool(block.title)) for block in blocks()}
    assert kinds == {("sh", False), ("text", False), ("python", True), ("python", False)}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_from_nothing_to_a_trained_run(environment, tmp_path):
    """Files are written, commands run; a text block is in what the last command printed."""
    work = tmp_path / "work"
    work.mkdir()
    output = ""
    for block in blocks():
        if block.title:
            path = work / block.title
            assert path.exists(), f"{block.title} is not there to be changed"
            path.write_text(block.text)
        elif block.language == "sh":
            output = ""
            for command in lines(block.text):
                done = environment.run(*shlex.split(command), cwd=work)
                output += done.stdout + done.stderr
        elif block.language == "text" and output:
            printed = lines(output)
            for line in lines(block.text):
                assert any(row.startswith(line) for row in printed), (line, output)
        else:
            output = ""  # what a Python block prints is looked at in tests/docs
    config = (work / "runs" / "gentle-push" / "config.toml").read_text()
    assert "full_push_m = 40.0" in config
    assert (work / "runs" / "gentle-push" / "evaluation.json").exists()
