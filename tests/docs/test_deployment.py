"""Every command and every Python block of the page on deployment runs, and all agree."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from mlcore.cli.main import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(sh|py)\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.max_steps", "2"),
    *("--evaluation.dimensions", "8", "--evaluation.baselines", "false"),
]


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Return the working folder that the page assumes, without the data set it trained on."""
    monkeypatch.chdir(tmp_path)
    Path("runs").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ROOT / "tests" / "support")
        assert main(["train", *TINY, "--out", "runs/first"]) == 0
        dataset = sys.modules["mlcore_synthetic"].SyntheticDataset()
    folders = {"photos": range(360, 400), "more": [400], "mapped": [360, 361], "queries": [425]}
    for folder, images in folders.items():
        Path(folder).mkdir()
        for index in images:
            pixels = dataset.load_image(index).permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(f"{folder}/{folder}-{index}.png")
    shutil.copy("queries/queries-425.png", "photo.jpg")
    rows = "mapped-360.png,1,2\nmapped-361.png,3,4\n"
    Path("mapped/positions.csv").write_text(f"path,easting_m,northing_m\n{rows}")
    return tmp_path


def test_the_recipes_run_and_agree(home, capsys):
    assert sum(kind == "py" for kind, _ in BLOCKS) == 4
    namespace: dict[str, object] = {}
    for kind, text in BLOCKS:
        if kind == "py":
            exec(compile(text, "deployment.md", "exec"), namespace)
            continue
        for line in text.splitlines():
            program, *words = shlex.split(line)
            assert program == "mlcore"
            assert main(words) == 0, line
    capsys.readouterr()
    assert main(["localize", "map", "photo.jpg", "--top", "1", "--json"]) == 0
    ((match,),) = [one["matches"] for one in json.loads(capsys.readouterr().out)]
    in_parquet = ((namespace["vectors"] - namespace["embedding"]) ** 2).sum(axis=1)
    assert namespace["photos"]["image"][in_parquet.argmin()].as_py().endswith(match["image"])
    assert in_parquet.min() ** 0.5 == pytest.approx(match["embedding_distance"], abs=1e-3)
    by_onnx, by_faiss = namespace["distance"], namespace["squared"][0, 0] ** 0.5
    first = by_onnx.argmin()
    assert match["image"] == namespace["names"][first]
    assert match["image"] == namespace["table"][namespace["rows"][0, 0]]["image"]
    assert by_onnx[first] == pytest.approx(match["embedding_distance"], abs=1e-3)
    # faiss compares 16-bit numbers below 8, off by 2**-9 at most in each of 8 dimensions.
    assert by_faiss == pytest.approx(match["embedding_distance"], abs=2**-9 * 8**0.5)


@pytest.mark.parametrize(("kind", "text"), BLOCKS)
def test_a_recipe_has_ten_lines_at_most(kind, text):
    assert len(text.splitlines()) <= 10
