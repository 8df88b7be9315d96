"""``embed`` writes what the table of a run was measured on, or says what it wrote instead."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pyarrow import parquet

from mlcore.cli.main import main
from mlcore.retrieval.search import search
from mlcore.retrieval.shards import ShardedEmbeddings

TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.max_steps", "2"),
    *("--evaluation.dimensions", "8", "--evaluation.baselines", "false"),
]
SUPPORT = Path(__file__).parents[1] / "support"

pytestmark = pytest.mark.usefixtures("synthetic_plugin")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SUPPORT)
        assert main(["train", *TINY, "--out", str(run)]) == 0
    return run


def mlcore(*words: object) -> int:
    return main([str(word) for word in words])


def facts_of(path):
    return json.loads(Path(f"{path}.json").read_text())


@pytest.mark.parametrize(
    ("changes", "whitening", "dimensions"),
    [
        ([], "train", 8),
        (["--dimensions", "4"], "train", 4),
        (["--whitening", "references", "--dimensions", "5"], "references", 5),
        (["--whitening", "references", "--spacing_m", "4"], "references", 7),
        (["--whitening", "train", "--whitening_images", "24"], "train", 6),
        (["--whitening", "none"], "none", 16),
    ],
)
def test_searching_what_is_written_repeats_the_table(
    run, tmp_path, changes, whitening, dimensions
):
    out, results = tmp_path / "e.npy", tmp_path / "evaluation.json"
    assert mlcore("embed", run, "--out", out, *changes) == 0
    assert mlcore("evaluate", run, "--out", results, *changes) == 0
    (expected,) = json.loads(results.read_text())["evaluations"]
    facts, embeddings = facts_of(out), np.load(out)
    for found in (facts, expected):
        assert (found["whitening"], found["dimensions"]) == (whitening, dimensions)
    assert facts["whitening_images"] == expected["whitening_images"]
    assert embeddings.shape == (180, dimensions)
    if "--spacing_m" in changes:  # the table searches a part of the references
        return
    found = search(embeddings[:60], embeddings[60:], 1)
    assert (180 * 2 + found.row[:, 0]).tolist() == expected["reference_index"]
    np.testing.assert_allclose(found.distance[:, 0], expected["embedding_distance"], rtol=1e-5)


def test_the_file_says_what_it_was_made_from(run, tmp_path, capsys):
    out = tmp_path / "e.parquet"
    assert mlcore("embed", run, "--out", out) == 0
    assert capsys.readouterr().out == (
        "180 images, 8 dimensions, whitened on 180 images (train)\n"
    )
    facts = json.loads(parquet.read_schema(out).metadata[b"mlcore"])
    checkpoint = run / "checkpoints" / "step-000000002.ckpt"
    assert facts == {
        "run": str(run),
        "weights": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "images": "test",
        "data": "synthetic",
        "whitening": "train",
        "whitening_images": 180,
        "dimensions": 8,
    }
    assert mlcore("embed", run, "--out", tmp_path / "raw.npy", "--whitening", "none") == 0
    assert capsys.readouterr().out == "180 images, 16 dimensions, not whitened\n"
    raw = facts_of(tmp_path / "raw.npy")
    assert raw == {**facts, "whitening": "none", "whitening_images": 0, "dimensions": 16}
    assert mlcore("embed", run, "--out", out, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert facts.items() <= printed.items()
    assert printed["written"] == [str(out)]


def test_photographs_of_a_folder_are_whitened_alike(run, tmp_path, synthetic_dataset):
    photos = tmp_path / "photos"
    photos.mkdir()
    first = int(synthetic_dataset.test.references.index[0])
    pixels = synthetic_dataset.load_image(first).permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(photos / "a.png")
    assert mlcore("embed", run, "--images", photos, "--out", tmp_path / "photo.npy") == 0
    assert mlcore("embed", run, "--out", tmp_path / "split.npy") == 0
    photo, split = np.load(tmp_path / "photo.npy"), np.load(tmp_path / "split.npy")
    np.testing.assert_allclose(photo[0], split[0], atol=1e-4)
    with (tmp_path / "photo.csv").open(newline="") as file:
        assert [row["image"] for row in csv.DictReader(file)] == [str(photos / "a.png")]


def test_a_folder_is_embedded_without_data_set_and_plugin(run, tmp_path, capsys):
    """As on a robot: nothing is there but the run's folder, under another name."""
    robot, photos = tmp_path / "robot", tmp_path / "photos"
    shutil.copytree(run, robot)
    shutil.rmtree(robot / "checkpoints")
    photos.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 48), (40 * number, 90, 9)).save(photos / f"{number}.png")
    words = ["--images", photos, "--block", "soft-contrastive", "--block", "synthetic"]
    assert mlcore("embed", robot, *words, "--out", tmp_path / "robot.npy") == 0
    assert mlcore("embed", run, "--images", photos, "--out", tmp_path / "here.npy") == 0
    assert np.array_equal(np.load(tmp_path / "robot.npy"), np.load(tmp_path / "here.npy"))
    facts = facts_of(tmp_path / "robot.npy")
    model = json.loads((run / "model" / "model.json").read_text())
    assert facts == {
        "run": "run",
        "model": model["identity"],
        "images": str(photos),
        "whitening": "train",
        "whitening_images": 180,
        "dimensions": 8,
    }
    capsys.readouterr()
    assert mlcore("embed", robot, *words, "--split", "test", "--out", tmp_path / "e.npy") == 2
    assert "--split chooses images of a data set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "whitening", "dimensions"),
    [
        (["--dimensions", "4"], "train", 4),
        (["--evaluation.whitening", "train", "--dimensions", "8"], "train", 8),
        (["--whitening", "none"], "none", 16),
    ],
)
def test_less_whitening_of_a_folder_needs_no_data_set(
    run, tmp_path, words, whitening, dimensions
):
    """The same numbers as from whitening that is fitted again, on the training images."""
    photos = tmp_path / "photos"
    photos.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(photos / "a.png")
    given = ["embed", run, "--images", photos, *words]
    blocked = ["--block", "soft-contrastive", "--block", "synthetic"]
    assert mlcore(*given, *blocked, "--out", tmp_path / "here.npy") == 0
    facts = facts_of(tmp_path / "here.npy")
    assert (facts["whitening"], facts["dimensions"]) == (whitening, dimensions)
    # An option of the data set makes it needed.
    fitted = [*given, "--dataset", "synthetic", "--out", tmp_path / "fitted.npy"]
    assert mlcore(*fitted) == 0
    here, again = np.load(tmp_path / "here.npy"), np.load(tmp_path / "fitted.npy")
    np.testing.assert_allclose(here, again, rtol=1e-4, atol=1e-5)


def test_more_whitening_of_a_folder_needs_the_data_set(run, tmp_path, capsys):
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (64, 48), (40, 90, 9)).save(photos / "a.png")
    words = [
        "embed",
        run,
        "--images",
        photos,
        "--dimensions",
        "12",
        "--out",
        tmp_path / "e.npy",
    ]
    assert mlcore(*words, "--block", "synthetic") == 2
    assert "synthetic" in capsys.readouterr().err
    assert mlcore(*words) == 0
    assert np.load(tmp_path / "e.npy").shape == (1, 12)


def test_shards_are_whitened_and_keep_their_whitening(run, tmp_path, capsys):
    out = tmp_path / "shards"
    words = ["embed", run, "--shard_size", "70", "--out", out]
    assert mlcore(*words) == 0
    assert "3 shards, 8 dimensions, whitened on 180 images (train)" in capsys.readouterr().out
    assert mlcore("embed", run, "--out", tmp_path / "whole.npy") == 0
    shards = ShardedEmbeddings.open(out).read(0, 180)
    np.testing.assert_allclose(shards, np.load(tmp_path / "whole.npy"), atol=1e-4)
    for other, named in (
        (["--dimensions", "4"], "dimensions 8, this command has 4"),
        (["--whitening", "references"], "with whitening train, this command has references"),
        (["--whitening", "none"], "this command has none"),
    ):
        assert mlcore(*words, *other) == 2
        assert named in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--whitening none --dimensions 4", "--evaluation.dimensions has no effect with"),
        (
            "--whitening none --whitening_images 9",
            "--evaluation.whitening_images has no effect",
        ),
        ("--spacing_m 3", "--spacing_m has no effect with --evaluation.whitening train"),
        ("--recall_at 5", "--evaluation.recall_at has no effect in 'mlcore embed'"),
        ("--evaluation.thresholds_m 3", "--evaluation.thresholds_m has no effect in"),
        ("--baselines false", "--evaluation.baselines has no effect in 'mlcore embed'"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(run, tmp_path, capsys, words, message):
    assert mlcore("embed", run, "--out", tmp_path / "e.npy", *words.split()) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"mlcore: error: {message}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("command", "option"),
    [
        (["localize", "synthetic/0425"], "recall_at"),
        (["tsne", "--method", "pca"], "whitening"),
        (["explain"], "thresholds_m"),
        (["movie"], "auc_limits_m"),
        (["sweep"], "dimensions"),
        (["sweep"], "spacing_m"),
    ],
)
def test_commands_refuse_options_of_evaluations_that_they_do_not_use(
    run, capsys, command, option
):
    value = "none" if option == "whitening" else "7"
    assert mlcore(command[0], run, *command[1:], f"--evaluation.{option}", value) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert f"--evaluation.{option} has no effect in 'mlcore {command[0]}'" in last
