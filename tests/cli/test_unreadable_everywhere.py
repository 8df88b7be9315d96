"""``skip_unreadable`` holds in every command that reads images, and each names what it left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlcore.cli.main import main
from mlcore.experiment import assemble
from mlcore.options import parse_run
from mlcore.registry.discovery import Registry

TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.near_per_tuple", "3", "--sampling.far_per_tuple", "3"),
    *("--training.max_steps", "4", "--training.log_every", "1", "--evaluation.dimensions", "8"),
]
# Of the training split, of the test's references, of the test's queries.
BROKEN = ["--dataset.broken", "3,17,40,61,100,150,365,371,425,430,509"]
SKIP = ["--training.skip_unreadable", "true"]
SUPPORT = Path(__file__).parents[1] / "support"
QUERY = "synthetic/0425"

pytestmark = pytest.mark.usefixtures("synthetic_plugin")


def mlcore(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SUPPORT)
        assert mlcore("train", *TINY, *BROKEN, *SKIP, "--out", run) == 0
    return run


@pytest.mark.parametrize(
    "words",
    [
        ["tsne", "--method", "pca"],
        ["tsne", "--method", "tsne"],
        ["evaluate"],
        ["sweep", "--dimensions", "4", "--spacings", "0"],
        ["movie", "--frames", "12"],
        ["report", "--explained", "1", "--pictures", "1"],
        ["explain", "--worst", "1", "--best", "0"],
    ],
)
def test_commands_leave_queries_and_references_out(run, tmp_path, capsys, words):
    suffix = {"tsne": ".png", "movie": ".mp4", "explain": ".png", "report": ".html"}
    out = tmp_path / f"out{suffix.get(words[0], '.json' if words[0] == 'evaluate' else '')}"
    assert mlcore(words[0], run, *words[1:], "--out", out) == 0
    assert out.exists()
    if words[0] in ("tsne", "evaluate", "movie"):
        assert QUERY in capsys.readouterr().err
    off = ["--training.skip_unreadable", "false", "--out", tmp_path / f"off{out.suffix}"]
    assert mlcore(words[0], run, *words[1:], *off) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert "cannot be decoded" in last
    assert "Traceback" not in last


def test_the_report_shows_embeddings_of_the_queries_that_can_be_read(run, tmp_path):
    page = tmp_path / "report.html"
    assert mlcore("report", run, "--explained", "0", "--pictures", "0", "--out", page) == 0
    text = page.read_text(encoding="utf-8")
    assert "Embeddings by place" in text
    assert "3 could not be read and are left out." in text


def test_embed_leaves_out_what_it_names(run, tmp_path, capsys):
    assert mlcore("embed", run, "--out", tmp_path / "e.npy", "--json") == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["num_images"] == 175
    assert QUERY in found["skipped"]
    assert f"skipped, unreadable: {QUERY}" in printed.err


def test_shards_are_counted_by_the_images_that_they_hold(run, tmp_path, capsys):
    words = ["embed", run, "--shard_size", "100", "--out", tmp_path / "shards"]
    for _ in range(2):  # written, then there already
        assert mlcore(*words, "--json") == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["num_images"], found["num_skipped"]) == (175, 5)
    assert mlcore(*words) == 0
    assert "175 images (5 skipped, unreadable) in 2 shards" in capsys.readouterr().out


def test_netvlad_starts_from_the_images_that_can_be_read(synthetic_dataset):
    words = [*TINY, *BROKEN, "--model.pooling", "netvlad", "--model.num_clusters", "4"]
    registry = Registry.discover()
    assert assemble(parse_run([*words, *SKIP], registry)).model is not None
    whole = assemble(parse_run([*words, "--dataset.broken", "", *SKIP], registry))
    assert whole.model.embedding_dim == 16


@pytest.mark.parametrize("broken", ["3", "3,17,40,61,100,150,365,371,425,430,509"])
def test_compare_leaves_them_out_of_every_run(tmp_path, capsys, broken):
    words = [*TINY, "--dataset.broken", broken, "--losses", "proposed,triplet"]
    assert mlcore("compare", *words, *SKIP, "--out", tmp_path / "out") == 0
    runs = sorted((tmp_path / "out" / "runs").iterdir())
    skipped = [json.loads((run / "evaluation.json").read_text()) for run in runs]
    names = [one["evaluations"][-1]["skipped"] for one in skipped]
    assert len(runs) == 2
    assert names[0] == names[1]
    assert (QUERY in names[0]) == ("425" in broken)
