"""The architecture page names the layers of the import contract, and decisions have one form."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DECISIONS = ROOT / "docs" / "decisions"
PAGES = sorted(DECISIONS.glob("0*.md"))


def test_the_architecture_page_has_the_layers_of_the_contract():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (layers,) = [c["layers"] for c in contracts if c["type"] == "layers"]
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| [a-z]+ \| (`.*`) \| .* \|$", page, flags=re.MULTILINE)
    assert [re.findall(r"`(\w+)`", row) for row in rows] == [
        sorted(layer.split(" | ")) for layer in layers
    ]


def test_every_decision_is_listed_under_its_title():
    listed = re.findall(
        r"\| (\d+) \| \[(.+)\]\((.+)\) \|", (DECISIONS / "README.md").read_text()
    )
    assert [page.name for page in PAGES] == [name for _, _, name in listed]
    for number, title, name in listed:
        heading = (DECISIONS / name).read_text(encoding="utf-8").partition("\n")[0]
        assert heading.startswith(f"# {number}. {title}"), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_decision_follows_the_template(page):
    text = page.read_text(encoding="utf-8")
    at = [
        text.find(f"\n\n**{part}") for part in ("Context", "Choice", "Evidence", "What would")
    ]
    assert min(at) > 0, at
    assert at == sorted(at), at
