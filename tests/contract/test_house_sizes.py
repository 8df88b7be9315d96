"""The sizes that keep the code findable: modules in a package, lines in a file and a function."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
PLUGINS = sorted(path.parent for path in REPOSITORY.glob("plugins/*/plugin.py"))

MOST_MODULES = 14
MOST_LINES_OF_A_FILE = 400
MOST_LINES_OF_A_FUNCTION = 60


def modules_of(package: Path) -> list[str]:
    """Return the modules that lie directly in a package, without its ``__init__``."""
    return sorted(path.stem for path in package.glob("*.py") if path.stem != "__init__")


def python_files() -> list[Path]:
    """Return the Python files of the repository, without what tools have written."""
    folders = ("mlcore", "plugins", "tests", "benchmarks", "docs", "examples")
    found = [path for folder in folders for path in (REPOSITORY / folder).rglob("*.py")]
    return sorted(path for path in found if "__pycache__" not in path.parts)


def long_functions(source: str) -> Iterator[tuple[str, int]]:
    """Yield name and length of each function that is too long without its docstring."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            lines = (node.end_lineno or 0) - node.lineno + 1
            if ast.get_docstring(node, clean=False) is not None:
                lines -= (first.end_lineno or 0) - first.lineno + 1
            if lines > MOST_LINES_OF_A_FUNCTION:
                yield node.name, lines


def test_the_files_are_found():
    """A search that finds nothing would pass everything."""
    names = {path.relative_to(REPOSITORY).as_posix() for path in python_files()}
    assert {"mlcore/errors.py", "plugins/mlcore_pml/plugin.py", "docs/generate.py"} <= names
    assert len(PLUGINS) >= 7


@pytest.mark.parametrize(
    "package", [REPOSITORY / "mlcore", *PLUGINS], ids=lambda package: package.name
)
def test_a_package_has_few_loose_modules(package):
    modules = modules_of(package)
    assert len(modules) <= MOST_MODULES, f"{len(modules)} modules: {', '.join(modules)}"


def test_no_file_is_long():
    lengths = {
        path: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()
    }
    long = {
        path.relative_to(REPOSITORY).as_posix(): lines
        for path, lines in lengths.items()
        if lines > MOST_LINES_OF_A_FILE
    }
    assert long == {}


def test_no_function_is_long():
    long = {
        f"{path.relative_to(REPOSITORY)}:{name}": lines
        for path in python_files()
        for name, lines in long_functions(path.read_text(encoding="utf-8"))
    }
    assert long == {}


def test_a_docstring_does_not_make_a_function_long():
    body = "    x = 1\n" * (MOST_LINES_OF_A_FUNCTION - 1)
    docstring = '    """One.\n\n    Two.\n    """\n'
    assert list(long_functions(f"def f():\n{docstring}{body}")) == []
    assert list(long_functions(f"def f():\n{docstring}{body}    x = 2\n")) == [("f", 61)]
