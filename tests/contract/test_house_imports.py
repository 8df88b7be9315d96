"""The import contracts hold, each fails on an import that breaks it, and nothing is circular."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

REPOSITORY = Path(__file__).parents[2]
SETTINGS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
LINTER = SETTINGS["tool"]["importlinter"]

LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"

BROKEN_BY = {
    "The engine in layers, each importing downwards only": (
        "mlcore/errors.py",
        "import mlcore.run_folder",
    ),
    "The engine knows no plugin and none of their libraries": (
        "mlcore/files.py",
        "import pytorch_metric_learning",
    ),
    "Plugins use the hook surface and the toolbox, as a stranger's would": (
        "plugins/mlcore_streets/dataset.py",
        "from mlcore.sampling import planner",
    ),
    "Plugins do not know each other": (
        "plugins/mlcore_pml/plugin.py",
        "def f():\n    import mlcore_streets.config",
    ),
}
"""A module and the lines that break each contract when they are added to it."""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of the code and its contracts, to be spoiled."""
    ignore = shutil.ignore_patterns("__pycache__", "*.md", "*.cu")
    for folder in ("mlcore", "plugins", "tests/support"):
        shutil.copytree(REPOSITORY / folder, tmp_path / folder, ignore=ignore)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the code in ``folder``, as ``make lint`` does."""
    path = os.pathsep.join(map(str, (folder, folder / "plugins")))
    return subprocess.run(
        [sys.executable, "-c", LINT_IMPORTS, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_every_contract_has_an_import_that_breaks_it():
    assert {contract["name"] for contract in LINTER["contracts"]} == set(BROKEN_BY)


def test_the_code_keeps_its_contracts(copy):
    done = lint(copy)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(BROKEN_BY)} kept, 0 broken" in done.stdout


@pytest.mark.parametrize("name", BROKEN_BY)
def test_a_contract_fails_on_an_import_that_breaks_it(name, copy):
    path, lines = BROKEN_BY[name]
    with (copy / path).open("a", encoding="utf-8") as file:
        file.write(f"\n{lines}\n")
    done = lint(copy)
    assert done.returncode == 1
    assert f"{name} BROKEN" in done.stdout, done.stdout


def test_a_new_module_needs_a_layer(copy):
    (copy / "mlcore" / "novelty.py").write_text('"""New."""\n')
    done = lint(copy)
    assert done.returncode == 1
    assert "novelty" in done.stdout


def test_no_import_is_circular():
    graph = grimp.build_graph(
        *LINTER["root_packages"], exclude_type_checking_imports=True, cache_dir=None
    )
    imports = {m: graph.find_modules_directly_imported_by(m) for m in graph.modules}
    assert sum(map(len, imports.values())) > len(imports), "the graph has its imports"
    TopologicalSorter(imports).prepare()  # raises CycleError, which names the circle
