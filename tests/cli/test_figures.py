"""``sweep``, ``tsne``, ``explain``, ``movie`` and ``report`` on two tiny trained runs."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import imageio_ffmpeg
import pytest
from PIL import Image

from mlcore.cli import run_arguments
from mlcore.cli.main import main

TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.max_steps", "3"),
    *("--training.log_every", "1", "--evaluation.dimensions", "8"),
]
SUPPORT = Path(__file__).parents[1] / "support"

pytestmark = pytest.mark.usefixtures("synthetic_plugin")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two runs."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SUPPORT)
        for name, loss in (("first", "proposed"), ("second", "triplet")):
            assert main(["train", *TINY, "--loss", loss, "--out", str(folder / name)]) == 0
    return folder


@pytest.fixture
def run(runs, tmp_path):
    """Return a copy of the first run that a test may write into."""
    return Path(shutil.copytree(runs / "first", tmp_path / "run"))


def mlcore(*words: object) -> int:
    return main([str(word) for word in words])


def test_sweep_draws_several_runs_in_one_plot(runs, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    words = ["--dimensions", "2,8,64", "--spacings", "0,5", "--at", "5", "--thresholds", "0:12"]
    assert mlcore("sweep", runs / "first", runs / "second", *words, "--out", out) == 0
    printed = capsys.readouterr()
    for name in ("untrained", "first", "second"):
        assert f" {name} " in printed.out
        assert f"note: {name}: whitening keeps 16 of the 64 dimensions asked" in printed.err
    rows = json.loads((out / "sweep.json").read_text())["rows"]
    settings = [(row["model"], row["spacing_m"], row["dimensions"]) for row in rows]
    assert settings == [
        (name, spacing, size)
        for name in ("untrained", "first", "second")
        for spacing in (0, 5)
        for size in (2, 8, 16)
    ]
    for name in ("dimensions", "spacings", "metres"):
        with Image.open(out / f"{name}.png") as picture:
            assert picture.width > 800
    assert not list(tmp_path.rglob("*.tmp"))


def test_sweep_at_the_runs_own_dimension_is_its_evaluation(run, capsys):
    words = ["--dimensions", "8", "--spacings", "0", "--baselines", "false", "--json"]
    assert mlcore("sweep", run, *words) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    evaluations = json.loads((run / "evaluation.json").read_text())["evaluations"]
    assert row["overall"] == evaluations[-1]["summary"]["overall"]
    assert row["conditions"] == evaluations[-1]["summary"]["conditions"]
    assert (run / "plots" / "sweep.json").is_file()


def test_tsne_of_one_run_goes_to_its_plots(run, capsys):
    assert mlcore("tsne", run, "--method", "pca", "--baselines", "false") == 0
    assert f"Written: {run}/plots/tsne.png" in capsys.readouterr().err
    with Image.open(run / "plots" / "tsne.png") as picture:
        assert picture.width > 1000


def test_explain_draws_a_row_a_model(runs, tmp_path):
    sizes = {}
    for name, words in {
        "two": ["--query", "synthetic/0425", "--query", "synthetic/0426"],
        "one": ["--query", "synthetic/0425", "--query", "synthetic/0425"],
        "worst": ["--worst", "1", "--best", "0"],
    }.items():
        out = tmp_path / f"{name}.png"
        assert mlcore("explain", runs / "first", *words, "--out", out) == 0
        with Image.open(out) as picture:
            sizes[name] = picture.size
    assert sizes["one"] == sizes["worst"]
    assert sizes["two"] == (sizes["one"][0], 2 * sizes["one"][1])


def test_movie_of_a_traversal(runs, tmp_path, capsys):
    out = tmp_path / "movie.mp4"
    words = ["--traversal", "night", "--frames", "7", "--fps", "2.5", "--panel", "64"]
    assert mlcore("movie", runs / "first", *words, "--out", out) == 0
    said = capsys.readouterr().err
    assert f"Written: {out}" in said
    assert "7 frames, 2.8 s" in said
    assert out.read_bytes()[4:8] == b"ftyp"


def test_report_holds_every_part(run, capsys):
    shutil.copy(run / "plots" / "metres.png", run / "metres.png")
    summary = {"overall": {"accuracy": {"5": 0.5}, "area": {"25": 0.5}}}
    entry = {"name": "my-loss", "summaries": {"0": summary}}
    (first, *_) = json.loads((run / "evaluation.json").read_text())["evaluations"]
    document = {"protocol": first["protocol"], "entries": [entry]}
    (run / "comparison.json").write_text(json.dumps(document))
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    assert mlcore("report", run, "--pictures", "9", "--explained", "1") == 0
    printed = capsys.readouterr()
    assert "metrics.jsonl: row 4 is incomplete" in printed.err
    assert f"Written: {run / 'report.html'}" in printed.err
    text = (run / "report.html").read_text()
    for part in ("results", "curves", "map", "gradcam", "tsne", "comparison", "training"):
        assert f'<section id="{part}"' in text
    assert text.count('<figure class="match') == 2
    assert text.count('role="option"') == 9
    assert "data fingerprint" in text
    assert "my-loss" in text


def test_a_report_on_other_data_than_was_evaluated(run, capsys):
    document = json.loads((run / "evaluation.json").read_text())
    for one in document["evaluations"]:
        one["protocol"]["data_fingerprint"] = "other"
    (run / "evaluation.json").write_text(json.dumps(document))
    capsys.readouterr()
    assert mlcore("report", run) == 2
    assert "was measured on other data (other) than this (synthetic)" in capsys.readouterr().err
    assert not (run / "report.html").exists()


BAD_INPUT = {
    "sweep dimension": ("sweep RUN --dimensions 0,8", "--dimensions must be at least 1, got 0"),
    "sweep fraction": ("sweep RUN --dimensions 8.5", "--dimensions must be integers"),
    "sweep spacing": ("sweep RUN --spacings=-1", "--spacings must not be negative, got -1"),
    "sweep words": ("sweep RUN --spacings a", "--spacings must be numbers separated"),
    "sweep nan": ("sweep RUN --spacings nan", "--spacings must be finite"),
    "sweep range": ("sweep RUN --thresholds 25:0", "--thresholds must be FROM:TO in metres"),
    "sweep at": ("sweep RUN --at 0", "--at must be a positive number of metres, got 0"),
    "sweep raw": ("sweep RUN --whitening none", "--whitening none does not order"),
    "two runs": ("sweep RUN RUN", "several runs need --out FOLDER"),
    "two runs, file": ("tsne RUN RUN", "several runs need --out FILE.png"),
    "other form": ("tsne RUN --out x.jpg", "--out x.jpg must end in .png"),
    "no folder": ("movie RUN --out none/x.mp4", "--out none/x.mp4: the folder"),
    "unknown query": ("explain RUN --query none", "--query none: the test split has no query"),
    "no query": ("explain RUN --worst 0 --best 0", "--worst and --best must not be negative"),
    "within": ("explain RUN --within=-1", "--within must be a positive number of metres"),
    "traversal": (
        "movie RUN --traversal x",
        "--traversal x: the test split has no queries of that traversal; it has ",
    ),
    "frames": ("movie RUN --frames 0", "--frames must be at least 1, got 0"),
    "panel": ("movie RUN --panel 9", "--panel must be between 32 and 2000 pixels, got 9"),
    "report form": ("report RUN --out x.pdf", "--out x.pdf must end in .html or .png"),
    "report of two": ("report RUN RUN --out x.html", "--out x.html: a report shows one run"),
    "unused": (
        "report RUN --out x.png --whitening none",
        "--whitening has no effect on a picture",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_message(runs, tmp_path, monkeypatch, capsys, case):
    words, message = BAD_INPUT[case]
    monkeypatch.chdir(tmp_path)
    assert mlcore(*words.replace("RUN", str(runs / "first")).split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].startswith(f"mlcore: error: {message}")
    assert "Traceback" not in printed.err
    assert not list(tmp_path.iterdir())


def test_runs_of_other_data_are_not_mixed(runs, tmp_path, monkeypatch, capsys):
    open_run = run_arguments.open_run

    def open_run_with_other_data(path, *arguments):
        trained = open_run(path, *arguments)
        trained.dataset.fingerprint = path.name
        return trained

    monkeypatch.setattr(run_arguments, "open_run", open_run_with_other_data)
    words = ["--out", tmp_path / "x.png", "--baselines", "false"]
    assert mlcore("tsne", runs / "first", runs / "second", *words) == 2
    message = f"{runs / 'second'} was trained on other data (fingerprint second) than "
    assert message in capsys.readouterr().err


def test_no_ffmpeg_is_said_before_long_work(runs, tmp_path, monkeypatch, capsys):
    def missing():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", missing)
    monkeypatch.setitem(
        sys.modules, "mlcore.evaluation.gradcam", None
    )  # it would be imported then
    assert mlcore("movie", runs / "first", "--out", tmp_path / "movie.mp4") == 2
    assert "mlcore: error: a movie needs ffmpeg" in capsys.readouterr().err
