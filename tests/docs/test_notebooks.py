"""The notebooks run from top to bottom, and mlcore draws its results and progress in them."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from mlcore.cli.main import main

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted(ROOT.glob("docs/notebooks/*.ipynb"))
TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.max_steps", "2"),
    *("--evaluation.dimensions", "8", "--evaluation.baselines", "false"),
]

# jupyter_client and zmq warn of event loops and of packages that they will need one day.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return a working folder with a run and photographs; the kernel finds ``mlcore``."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests" / "support")
        assert main(["train", *TINY, "--out", "runs/first"]) == 0
    Path("photos").mkdir()
    rng = np.random.default_rng(0)
    for number in range(4):
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(f"photos/{number}.png")
    return tmp_path


def executed(notebook: nbformat.NotebookNode, folder: Path) -> list[nbformat.NotebookNode]:
    client = NotebookClient(
        notebook, timeout=240, resources={"metadata": {"path": str(folder)}}
    )
    client.execute()
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def shown(cell: nbformat.NotebookNode) -> str:
    """Return what a cell displays, as text."""
    found = []
    for output in cell.outputs:
        data = output.get("data", {})
        found.append(data.get("text/html") or data.get("text/plain") or output.get("text", ""))
    return "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path, home):
    cells = executed(nbformat.read(path, as_version=4), home)
    outputs = [shown(cell) for cell in cells]
    if path.stem == "loss":
        before, after = float(outputs[2]), float(outputs[3])
        assert after > before + 0.1
    elif path.stem == "photographs":
        assert "8 dimensions" in outputs[0]
        assert outputs[1] == "(4, 8)"
        assert "<pre" in outputs[3]
        assert "0.png" in outputs[3]
        assert "0.png" in outputs[4]
    else:
        num_passed = int(outputs[-1].strip("(").split(",")[0])
        assert num_passed > 10


def test_the_notebooks_are_found_and_clean():
    assert [path.stem for path in NOTEBOOKS] == ["loss", "photographs", "plugin"]
    for path in NOTEBOOKS:
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                assert cell.outputs == []
                assert cell.execution_count is None


def test_progress_is_a_bar_that_is_updated(home):
    source = (
        "from mlcore.cli import console\n"
        "with console.progress() as progress:\n"
        "    progress('<b>embedding</b>', 1, 4)\n"
        "    progress('<b>embedding</b>', 4, 4, 'done')"
    )
    (cell,) = executed(new_notebook(cells=[new_code_cell(source)]), home)
    (output,) = cell.outputs
    assert output.data["text/html"] == (
        '<progress value="4" max="4"></progress> &lt;b&gt;embedding&lt;/b&gt;: 4 of 4 done'
    )
