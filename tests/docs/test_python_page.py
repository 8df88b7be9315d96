"""The blocks of docs/python.md run in their order, on a small route."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlcore.cli.main import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```py\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
SMALL = """
[dataset]
references = "condition=day"
[model]
width = 8
embedding_dim = 16
longest_side_px = 48
[sampling]
near_per_tuple = 2
far_per_tuple = 2
[training]
max_steps = 2
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return the working folder that the page assumes."""
    monkeypatch.chdir(tmp_path)
    for folder in ("mapped", "photos", "runs", "comparisons"):
        Path(folder).mkdir()
    rng = np.random.default_rng(0)
    rows = ["path,easting_m,northing_m,condition,split"]
    for number in range(60):
        name, split = f"{number:02d}.png", "train" if number < 40 else "test"
        condition = "day" if number % 2 else "night"
        rows.append(f"{name},{20 * (number // 2)},0,{condition},{split}")
        pixels = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(Path("mapped", name))
    Path("mapped/positions.csv").write_text("\n".join(rows) + "\n")
    for number in (50, 52, 54):
        shutil.copy(f"mapped/{number}.png", "photos")
    shutil.copy("photos/52.png", "photo.jpg")
    Path("run.toml").write_text(SMALL)
    return tmp_path


def test_the_blocks_run(home, capsys):
    namespace: dict[str, object] = {}
    printed = []
    for block in BLOCKS:
        if "localize" in block:
            assert main("index runs/first --images photos --out map".split()) == 0
        capsys.readouterr()
        exec(compile(block, "python.md", "exec"), namespace)
        printed.append(capsys.readouterr().out)
    trained, records, compared, embedded, matches, error = printed
    assert trained.startswith("Top-1 localization accuracy (%) on test, 10 references")
    assert "trained" in records
    assert "triplet" in compared
    assert "(3, 16)" in embedded
    image, position, distance = matches.splitlines()[0].split()
    assert (image, position) == ("52.png", "None")
    assert float(distance) < 1e-4
    assert "unknown option '--loss.margi'; did you mean '--loss.margin'?" in error
