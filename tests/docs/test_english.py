"""Messages, help and docs are free of the worst phrases (docs/decisions/0016-plain-english.md)."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "decisions" / "0016-plain-english.md"
"""Quotes the phrases."""

PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/*.md")])
MODULES = sorted([*ROOT.glob("mlcore/**/*.py"), *ROOT.glob("plugins/**/*.py")])

PHRASES = re.compile(
    r"""\b(
        (is|are)\ due\b(?!\ to)
      | what\ would\ do
      | spoilt
      | (told|judged)\ by
      | no\ form\ to
      | whose\ fault\b
      | makes\ no\ sense
      | cannot\ be\ made
      | for\ want\ of
      | in\ each\ other's\ place
      | (is|are)\ no\ (number|folder|file|field|traversal|selection|list)
      | one\ (row|file|column|line|process)\ a\ \w+
      | \d+\ (images|queries|bytes|tuples)\ an?\ (tuple|batch|image|town|query|row)
    )""",
    re.VERBOSE,
)
"""None of them has a use in plain English that we need."""


def phrases(text: str) -> list[str]:
    """Return the phrases in a text, however it is broken into lines."""
    return [found.group() for found in PHRASES.finditer(" ".join(text.split()))]


def strings(module: Path) -> list[str]:
    """Return a module's texts, f-strings as wholes; docstrings, which give help, included."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    parts = [
        "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
    ]
    return parts + [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages(page):
    if page != EXAMPLES:
        assert phrases(page.read_text(encoding="utf-8")) == []


def test_messages_and_docstrings():
    found = {
        str(module.relative_to(ROOT)): sorted(
            {p for text in strings(module) for p in phrases(text)}
        )
        for module in MODULES
    }
    assert {name: of for name, of in found.items() if of} == {}


def test_the_examples_have_the_phrases():
    """A pattern that matches nothing would pass everything."""
    found = phrases(EXAMPLES.read_text(encoding="utf-8"))
    assert {"is due", "are due", "what would do", "told by", "no form to"} <= set(found)
