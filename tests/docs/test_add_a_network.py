"""The network of docs/add-a-network.md, in the package that ``mlcore new-plugin`` writes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlcore.cli.main import main

PAGE = (Path(__file__).parents[2] / "docs" / "add-a-network.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python title=(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MOST_LINES = 40


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Write the package as the page says, and make it importable with its entry point."""
    monkeypatch.chdir(tmp_path)
    assert main(["new-plugin", "my-net", "--provides", "backbone"]) == 0
    title, text = BLOCK.search(PAGE).groups()
    path = tmp_path / title
    assert path.exists(), f"{title} is not there to be changed"
    path.write_text(text)
    info = path.parents[1] / "my_net-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-net\nVersion: 0\n")
    (info / "entry_points.txt").write_text("[mlcore.plugins]\nmy-net = my_net.plugin\n")
    monkeypatch.syspath_prepend(path.parents[1])
    return path


def test_the_network_is_short(package):
    code = [line for line in package.read_text().splitlines() if line.strip()]
    assert len(code) <= MOST_LINES


@pytest.mark.slow
def test_it_trains_localizes_explains_reports_and_passes_the_checks(
    package, tmp_path, synthetic_plugin, capsys
):
    run = tmp_path / "run"
    words = ["train", "--dataset", "synthetic", "--backbone", "my-net", "--pooling", "gem"]
    words += ["--training.max_steps", "2", "--evaluation.whitening", "none"]
    assert main([*words, "--out", str(run)]) == 0
    models = {
        e["model"] for e in json.loads((run / "evaluation.json").read_text())["evaluations"]
    }
    assert "trained" in models
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((32, 48, 3), 90, dtype=np.uint8)).save(photo)
    assert main(["localize", str(run), str(photo)]) == 0
    assert main(["evaluate", str(run), "--whitening", "none"]) == 0
    assert main(["explain", str(run), "--out", str(tmp_path / "explained.png")]) == 0
    assert main(["report", str(run)]) == 0
    assert (tmp_path / "explained.png").stat().st_size > 0
    capsys.readouterr()
    assert main(["plugins", "--check", "my-net", "--json"]) == 0
