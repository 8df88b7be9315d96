"""Gives the documentation site the layout of the repository, so that links hold in both."""  # noqa: INP001

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).parents[1]

PATTERNS = (
    "*.md",
    "LICENSE",
    "docs/**/*.md",
    "docs/images/*",
    "docs/notebooks/*.ipynb",
    "benchmarks/configs/*",
    "benchmarks/results/*.md",
    "benchmarks/results/*.png",
    "examples/*",
    "plugins/*/*.md",
    "plugins/*/*.txt",
    "tests/thirdparty/mlcore_example/src/**/*.py",
)
"""The files of the site: the pages, and what they link to."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Replace the files of ``docs_dir`` by those of the repository, under their paths in it."""
    for page in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(page)
    for pattern in PATTERNS:
        for path in sorted(REPOSITORY.glob(pattern)):
            if path.is_file():
                uri = path.relative_to(REPOSITORY).as_posix()
                files.append(File.generated(config, uri, abs_src_path=str(path)))
    return files
