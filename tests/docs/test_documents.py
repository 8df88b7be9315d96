"""Every Python block of a page runs, in order; what it prints is what the page says."""

from __future__ import annotations

import contextlib
import io
import tomllib
from pathlib import Path

import pytest
from sybil import Sybil
from sybil.example import Example, SybilFailure
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/*.md")])


def evaluate_toml(example: Example) -> None:
    tomllib.loads(example.parsed)


def evaluate_output(example: Example) -> None:
    """A text block right after a Python block is what that one printed."""
    printed = example.namespace.pop("_printed", None)
    if printed is not None:
        assert example.parsed.strip() == printed.strip()


class PrintingPythonParser(PythonCodeBlockParser):
    """Keeps what a block prints for the text block that follows it."""

    def evaluate(self, example: Example) -> None:
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            super().evaluate(example)
        if out.getvalue():
            example.namespace["_printed"] = out.getvalue()


SYBIL = Sybil(
    parsers=[
        PrintingPythonParser(),
        CodeBlockParser(language="toml", evaluator=evaluate_toml),
        CodeBlockParser(language="text", evaluator=evaluate_output),
    ]
)


def failures(document):
    """Run the blocks of a page; yield what differs from what it shows. Code that fails raises."""
    for example in document.examples():
        try:
            example.evaluate()
        except SybilFailure as failure:
            yield str(failure)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    document = SYBIL.parse(page)
    assert list(failures(document)) == []


def test_blocks_are_found():
    """A parser that finds nothing would pass everything."""
    count = {page.name: len(list(SYBIL.parse(page).examples())) for page in PAGES}
    assert count["hooks.md"] >= 4
    assert count["from-pytorch-metric-learning.md"] >= 5
