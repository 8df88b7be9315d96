"""The generated pages are those of the code as it is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]

spec = importlib.util.spec_from_file_location(
    "docs_generate", REPOSITORY / "docs" / "generate.py"
)
generate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(generate)


@pytest.mark.parametrize("path", generate.pages())
def test_a_generated_page_is_up_to_date(path):
    written = (REPOSITORY / path).read_text(encoding="utf-8")
    assert written == generate.text(path), "run: make docs"
