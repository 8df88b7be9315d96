"""``evaluate``, ``localize``, ``embed`` and ``report`` on one tiny trained run."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from mlcore.cli.main import main
from mlcore.retrieval.shards import ShardedEmbeddings

TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.max_steps", "3"),
    *("--training.log_every", "1", "--training.augment", "false"),
    *("--evaluation.dimensions", "8"),
]
SUPPORT = Path(__file__).parents[1] / "support"

pytestmark = pytest.mark.usefixtures("synthetic_plugin")


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "first"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SUPPORT)
        assert main(["train", *TINY, "--out", str(run)]) == 0
    return run


@pytest.fixture
def run(trained_run, tmp_path):
    """Return a copy of the run that a test may write into."""
    return Path(shutil.copytree(trained_run, tmp_path / "run"))


def mlcore(*words: object) -> int:
    return main([str(word) for word in words])


def test_what_cannot_be_written_is_known_before_the_work(run, capsys, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    assert mlcore("evaluate", run) == 2
    assert capsys.readouterr().err == (
        f"mlcore: error: {run} cannot be written to; give --out FILE elsewhere\n"
    )
    assert mlcore("evaluate", run, "--out", run / "again.json") == 2
    assert f"again.json: the folder {run} cannot be written to" in capsys.readouterr().err


def test_evaluate_repeats_what_training_found(run, capsys):
    before = json.loads((run / "evaluation.json").read_text())
    (run / "evaluation.json").unlink()
    assert mlcore("evaluate", run) == 0
    assert json.loads((run / "evaluation.json").read_text()) == before
    printed = capsys.readouterr()
    assert "upper bound" in printed.out
    assert f"Written: {run / 'evaluation.json'}" in printed.err


def test_evaluate_takes_another_protocol_data_set_and_file(run, tmp_path, capsys):
    before = (run / "evaluation.json").read_text()
    out = tmp_path / "other.json"
    words = ["--whitening", "none", "--spacing_m", "5", "--baselines", "false"]
    data = ["--dataset", "synthetic", "--dataset.radius_m", "30", "--split", "validation"]
    assert mlcore("evaluate", *words, *data, "--json", run, "--out", out) == 0
    (only,) = json.loads(capsys.readouterr().out)["evaluations"]
    assert json.loads(out.read_text())["evaluations"] == [only]
    assert (run / "evaluation.json").read_text() == before
    assert (only["model"], only["whitening"], only["dimensions"]) == ("trained", "none", 16)
    assert only["protocol"]["split"] == "validation"
    assert only["protocol"]["spacing_m"] == 5.0
    # A lap of 60 images, 3.14 m apart: every second one is at least 5 m from the last.
    assert only["protocol"]["num_references"] == 30


def test_protocols_lie_side_by_side(run, capsys):
    before = (run / "evaluation.json").read_bytes()
    other = ["--dataset", "synthetic", "--dataset.radius_m", "30", "--baselines", "false"]
    assert mlcore("evaluate", run, *other) == 0
    (path,) = (run / "evaluations").glob("test-*.json")
    assert f"Written: {path}" in capsys.readouterr().err
    assert (run / "evaluation.json").read_bytes() == before
    assert mlcore("evaluate", run, *other) == 0
    assert len(list((run / "evaluations").iterdir())) == 1
    few = ["--explained", "0", "--pictures", "2"]
    assert mlcore("report", run, *few) == 0
    assert "Other evaluations of this run" in (run / "report.html").read_text()
    assert mlcore("report", run, *few, *other[:4], "--out", run / "other.html") == 0


def test_an_evaluation_replaces_no_file(run, tmp_path, capsys):
    (tmp_path / "other.json").write_text("kept")
    assert mlcore("evaluate", run, "--out", tmp_path / "other.json") == 2
    assert "already exists" in capsys.readouterr().err
    assert (tmp_path / "other.json").read_text() == "kept"


def test_another_data_set_takes_no_option_of_the_first(run, tmp_path, capsys):
    words = ["--dataset", "images", "--dataset.table", tmp_path / "none.csv"]
    assert mlcore("evaluate", run, *words) == 2
    assert "none.csv" in capsys.readouterr().err


def test_localize_names_references_and_metres(run, capsys):
    assert mlcore("localize", run, "synthetic/0425", "--top", "3", "--json") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["image"] == "synthetic/0425"
    assert len(found["matches"]) == 3
    distances = [match["embedding_distance"] for match in found["matches"]]
    assert distances == sorted(distances)
    best = found["matches"][0]
    assert best["condition"] == "overcast"
    assert best["distance_m"] == pytest.approx(
        np.linalg.norm(np.subtract(best["position_m"], found["position_m"]))
    )


def test_localize_a_file_of_unknown_place(run, tmp_path, capsys):
    photo, picture = tmp_path / "my $photo.jpg", tmp_path / "match.png"
    Image.new("RGB", (40, 30), "orange").save(photo)
    assert mlcore("localize", run, photo, "synthetic/0425", "--picture", picture) == 0
    printed = capsys.readouterr()
    assert str(photo) in printed.out
    assert "unknown" in printed.out
    with Image.open(picture) as drawn:
        assert drawn.width > 600


def test_localize_recognises_a_file_of_the_data_set(run, tmp_path, capsys, synthetic_dataset):
    folder = tmp_path / "synthetic"
    folder.mkdir()
    pixels = synthetic_dataset.load_image(425).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(folder / "0425", format="png")
    Image.fromarray(255 - pixels).save(folder / "0426", format="png")
    assert mlcore("localize", run, folder / "0425", folder / "0426", "--json") == 0
    same, other = json.loads(capsys.readouterr().out)
    assert same["position_m"] is not None
    assert other["position_m"] is None


def test_embed_a_split_to_parquet(run, tmp_path, capsys):
    out = tmp_path / "embeddings.parquet"
    assert mlcore("embed", run, "--out", out) == 0
    said = "180 images, 8 dimensions, whitened on 180 images (train)\n"
    assert capsys.readouterr().out == said
    table = parquet.read_table(out)
    assert table.column_names == [
        *("image", "role", "easting_m", "northing_m", "heading_rad"),
        *("traversal", "condition", "embedding"),
    ]
    assert table["role"].to_pylist() == ["reference"] * 60 + ["query"] * 120
    raw = tmp_path / "raw.parquet"
    assert mlcore("embed", run, "--out", raw, "--whitening", "none") == 0
    embeddings = np.array(parquet.read_table(raw)["embedding"].to_pylist())
    assert embeddings.shape == (180, 16)
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1.0, atol=1e-6)


def test_embed_in_shards_and_go_on(run, tmp_path, capsys):
    out = tmp_path / "shards"
    words = ["embed", run, "--out", out, "--shard_size", "50"]
    assert mlcore(*words) == 0
    assert mlcore("embed", run, "--out", tmp_path / "whole.npy") == 0
    shards, whole = ShardedEmbeddings.open(out), np.load(tmp_path / "whole.npy")
    assert shards.shape == whole.shape == (180, 8)
    np.testing.assert_allclose(shards.read(0, 180), whole, atol=1e-6)
    lines = [(out / f"embeddings-{n:05d}.csv").read_text().splitlines() for n in range(4)]
    joined = [lines[0][0], *(line for part in lines for line in part[1:])]
    assert joined == (tmp_path / "whole.csv").read_text().splitlines()
    # What a kill left out is made again, what is there is left as it is.
    (out / "embeddings-00002.csv").unlink()
    kept = (out / "embeddings-00001.npy").stat().st_mtime_ns
    before = (out / "embeddings-00002.npy").read_bytes()
    capsys.readouterr()
    assert mlcore(*words) == 0
    assert "3 of 4 shards exist already" in capsys.readouterr().err
    assert (out / "embeddings-00001.npy").stat().st_mtime_ns == kept
    assert (out / "embeddings-00002.npy").read_bytes() == before
    assert (out / "embeddings-00002.csv").exists()


def test_shards_of_something_else_are_never_added(run, tmp_path, capsys):
    out = tmp_path / "shards"
    assert mlcore("embed", run, "--out", out, "--shard_size", "100") == 0
    for words, message in (
        (["--shard_size", "50"], "shard_size 100, this command has 50"),
        (["--shard_size", "100", "--split", "train"], "images test, this command has train"),
        (["--shard_size", "0"], "--shard_size must be at least 1, got 0"),
        ([], "must end in .parquet or .npy, or be a folder with --shard_size"),
    ):
        assert mlcore("embed", run, "--out", out, *words) == 2
        assert message in capsys.readouterr().err.splitlines()[-1]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("")
    assert mlcore("embed", run, "--out", tmp_path / "other", "--shard_size", "9") == 2
    assert "holds files that are not shards" in capsys.readouterr().err.splitlines()[-1]


def test_embed_a_folder_to_npy(run, tmp_path):
    photos = tmp_path / "photos"
    (photos / "more").mkdir(parents=True)
    for name in ("b.jpg", "more/a.PNG"):
        Image.new("RGB", (40, 30), "navy").save(photos / name)
    (photos / "notes.txt").write_text("no image")
    out = tmp_path / "embeddings.npy"
    assert mlcore("embed", run, "--images", photos, "--out", out) == 0
    assert np.load(out).shape == (2, 8)
    with (tmp_path / "embeddings.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [
        str(photos / "b.jpg"),
        str(photos / "more" / "a.PNG"),
    ]


def test_report_draws_one_run_or_several(run, trained_run, tmp_path, capsys):
    picture = run / "plots" / "metres.png"
    picture.unlink()
    assert mlcore("report", run) == 0
    with Image.open(picture) as drawn:
        assert drawn.height > 400
    assert "trained" in capsys.readouterr().out
    out = tmp_path / "both.png"
    assert mlcore("report", trained_run, run, "--out", out) == 0
    assert out.exists()
    printed = capsys.readouterr().out
    for name in ("untrained", "pixels", "first", "run", "upper bound"):
        assert f" {name} " in printed


BAD_INPUT = {
    "no folder": ("evaluate none", "no run folder at none"),
    "no run": ("evaluate .", ". is not a run folder: it has no config.toml"),
    "never trained": ("evaluate fresh", "fresh has no checkpoint"),
    "never evaluated": ("report fresh", "fresh has no evaluation.json"),
    "torn results": ("report torn", "torn/evaluation.json cannot be read"),
    "old results": ("report old", "old/evaluation.json: expected an evaluation of format 1"),
    "two runs, one default": ("report run run", "several runs need --out"),
    "misspelt option": ("evaluate run --whitenin none", "unknown option '--whitenin'"),
    "misspelt flag": ("localize run x.png --pictur y.png", "unknown option '--pictur'"),
    "another training": (
        "evaluate run --loss.beta 40",
        "--loss.beta cannot be changed after training",
    ),
    "wrong value": ("evaluate run --dimensions many", "--evaluation.dimensions: expected int"),
    "unknown split": ("evaluate run --split train", "mlcore evaluate: argument --split"),
    "no place to write": ("evaluate run --out none/x.json", "--out none/x.json: the folder"),
    "no image": (
        "localize run none.jpg",
        "no image file at none.jpg, and the data set has no image of that name",
    ),
    "no picture": ("localize run text.jpg", "text.jpg is not an image"),
    "no match wanted": ("localize run text.jpg --top 0", "--top must be at least 1, got 0"),
    "no image named": ("localize run", "mlcore localize: the following arguments"),
    "other form": ("embed run --out x.txt", "--out x.txt must end in .parquet or .npy"),
    "no folder of images": ("embed run --images none --out x.npy", "no folder of images at"),
    "empty folder": ("embed run --images empty --out x.npy", "no image in empty"),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_one_message(trained_run, tmp_path, monkeypatch, capsys, case):
    words, message = BAD_INPUT[case]
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.jpg").write_text("text")
    (tmp_path / "run").symlink_to(trained_run)
    for name, content in (("fresh", None), ("torn", '{"form'), ("old", '{"format": 0}')):
        (tmp_path / name).mkdir()
        shutil.copy(trained_run / "config.toml", tmp_path / name)
        if content is not None:
            (tmp_path / name / "evaluation.json").write_text(content)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert mlcore(*words.split()) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].startswith(f"mlcore: error: {message}")
    assert "Traceback" not in printed.err


def test_no_command_on_a_trained_run_imports_lightning(trained_run):
    program = (
        "import sys; from mlcore.cli.main import main; "
        f"code = main(['localize', {str(trained_run)!r}, 'synthetic/0425']); "
        "assert code == 0, code; "
        "found = {'lightning', 'pytorch_metric_learning', 'tensorboard'} & set(sys.modules); "
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
