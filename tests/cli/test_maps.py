"""``index``, ``localize MAP`` and ``export`` on one tiny run, away from its data and plugin."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from PIL import Image

from mlcore.cli.main import main

SUPPORT = Path(__file__).parents[1] / "support"
TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.max_steps", "2"),
    *("--training.log_every", "1", "--training.augment", "false"),
    *("--evaluation.dimensions", "8", "--evaluation.baselines", "false"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Return a folder with a run, a map of its test references, and photographs."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SUPPORT)
        assert main(["train", *TINY, "--out", str(folder / "run")]) == 0
        assert main(["index", str(folder / "run"), "--out", str(folder / "map")]) == 0
        dataset = sys.modules["mlcore_synthetic"].SyntheticDataset()
        for index in (425, 370, 371, 372):
            pixels = dataset.load_image(index).permute(1, 2, 0).numpy()
            (folder / "photos").mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / "photos" / f"{index}.png")
        assert main(["localize", str(folder / "run"), "synthetic/0425", "--json"]) == 0
    return folder


@pytest.fixture
def here(home, tmp_path):
    """Return a copy to write into; the data set's plugin is not installed here."""
    return Path(shutil.copytree(home, tmp_path / "copy"))


def mlcore(*words: object) -> int:
    return main([str(word) for word in words])


def found_by(capsys, *words: object):
    """Return what a command prints as JSON."""
    capsys.readouterr()
    assert mlcore(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def error_of(capsys, *words: object) -> str:
    """Return the one sentence of a command that fails, its line breaks as spaces."""
    capsys.readouterr()
    assert mlcore(*words) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    return " ".join(error.split())


def test_a_map_finds_what_the_run_finds(home, here, capsys, monkeypatch):
    shutil.rmtree(here / "run")
    (by_map,) = found_by(capsys, "localize", here / "map", here / "photos" / "425.png")
    monkeypatch.syspath_prepend(SUPPORT)
    (by_run,) = found_by(capsys, "localize", home / "run", "synthetic/0425")
    assert len(by_map["matches"]) == 5
    for one, other in zip(by_map["matches"], by_run["matches"], strict=True):
        for name in ("image", "position_m", "heading_rad", "condition", "traversal"):
            assert one[name] == other[name]
        assert one["embedding_distance"] == pytest.approx(other["embedding_distance"])


def test_several_maps_and_a_folder_without_positions(here, capsys):
    photos, both = here / "photos", here / "both"
    made = found_by(capsys, "index", here / "run", "--images", photos, "--out", both)
    assert (made["references"], made["with_position"], made["index"]) == (4, 0, None)
    (found,) = found_by(
        capsys, "localize", here / "map", both, photos / "425.png", "--top", "3"
    )
    first = found["matches"][0]
    assert (first["map"], first["image"]) == (str(both), "425.png")
    assert first["position_m"] is None
    assert first["embedding_distance"] == pytest.approx(0, abs=1e-3)
    assert found["matches"][1]["map"] == str(here / "map")
    assert mlcore("localize", both, photos / "425.png") == 0
    assert "unknown" in capsys.readouterr().out


def test_what_is_no_map_is_not_to_be_added_to(here, capsys):
    (here / "note.txt").write_text("x")
    words = ("index", here / "map", "--images", here / "photos", "--out", here / "note.txt")
    assert error_of(capsys, *words).endswith("note.txt exists already; choose another folder")
    damaged = here / "damaged.jpg"
    damaged.write_text("x")
    error = error_of(capsys, "localize", here / "map", damaged)
    assert error.endswith("; replace it, or leave it out")


def test_images_are_appended_and_the_index_follows(here, capsys):
    assert found_by(capsys, "index", here / "map", "--index", "fp16")["references"] == 60
    words = ("index", here / "map", "--append", "--images", here / "photos")
    grown = found_by(capsys, *words)
    assert (grown["references"], grown["with_position"]) == (64, 60)
    assert (grown["index"]["kind"], grown["index"]["num_references"]) == ("fp16", 64)
    (found,) = found_by(capsys, "localize", here / "map", here / "photos" / "425.png")
    assert found["matches"][0]["image"] == "425.png"
    assert "4 images to be added are in map" in error_of(capsys, *words)


def test_the_images_of_a_table_have_positions(here, capsys):
    rows = ["path,easting_m,northing_m,heading_deg"]
    rows += [
        f"{path.name},{row}.5,7,90" for row, path in enumerate((here / "photos").iterdir())
    ]
    (here / "photos" / "positions.csv").write_text("\n".join(rows) + "\n")
    own = ["--dataset", "images", "--dataset.root", here / "photos", "--dataset.train", "*"]
    made = found_by(
        capsys, "index", here / "run", *own, "--split", "train", "--out", here / "own"
    )
    assert made["with_position"] == 4
    (found,) = found_by(capsys, "localize", here / "own", here / "photos" / "371.png")
    first = found["matches"][0]
    assert first["image"] == "371.png"
    assert first["position_m"][1] == 7.0
    assert first["heading_rad"] == pytest.approx(1.5708, abs=1e-4)


def test_latitude_and_longitude_come_out_where_they_came_in(here, capsys):
    rows = ["path,latitude,longitude"]
    rows += [
        f"{path.name},50.{row}000015,14.5"
        for row, path in enumerate((here / "photos").iterdir())
    ]
    (here / "photos" / "positions.csv").write_text("\n".join(rows) + "\n")
    own = ["--dataset", "images", "--dataset.root", here / "photos", "--dataset.train", "*"]
    words = ("index", here / "run", *own, "--split", "train", "--out", here / "own")
    assert found_by(capsys, *words)["with_position"] == 4
    (found,) = found_by(capsys, "localize", here / "own", here / "photos" / "371.png")
    first = found["matches"][0]
    (row,) = [row for row in rows if row.startswith("371")]
    assert first["latitude_deg"] == float(row.split(",")[1])
    assert first["longitude_deg"] == 14.5
    assert mlcore("localize", here / "own", here / "photos" / "371.png") == 0
    assert f"{first['latitude_deg']:.6f}" in capsys.readouterr().out
    (found,) = found_by(capsys, "localize", here / "map", here / "photos" / "371.png")
    assert found["matches"][0]["latitude_deg"] is None


def never_sure(folder: Path) -> None:
    """Give the model in a folder thresholds that no answer meets."""
    path = folder / "model" / "confidence.json"
    path.write_text(
        json.dumps(json.loads(path.read_text()) | {"distance": 0, "distance_alone": 0})
    )


def test_an_answer_says_whether_it_is_sure(here, capsys):
    query = here / "photos" / "371.png"
    (found,) = found_by(capsys, "localize", here / "map", query)
    assert (found["confidence"], found["reason"]) == ("sure", "")
    never_sure(here / "map")
    (found,) = found_by(capsys, "localize", here / "map", query)
    assert found["confidence"] == "unsure"
    assert "which is more than 0.000" in found["reason"]
    assert mlcore("localize", here / "map", query) == 0
    assert "unsure: the nearest reference" in " ".join(capsys.readouterr().out.split())
    (here / "map" / "model" / "confidence.json").unlink()
    (found,) = found_by(capsys, "localize", here / "map", query)
    assert found["confidence"] == "unknown"


def test_unsure_answers_are_compared_by_thumbnails(here, capsys):
    pytest.importorskip("cv2")
    query = here / "photos" / "371.png"
    words = ("index", here / "run", "--images", here / "photos", "--out", here / "own")
    assert found_by(capsys, *words, "--thumbnails", "64")["thumbnail_px"] == 64
    reranker = ("--reranker", "sift", "--reranker.min_inliers", "5")
    (found,) = found_by(capsys, "localize", here / "own", query, *reranker)
    assert found["confidence"] == "sure"  # and not compared
    never_sure(here / "own")
    (found,) = found_by(capsys, "localize", here / "own", query, *reranker)
    assert found["confidence"] == "verified"
    assert found["matches"][0]["image"] == "371.png"
    (found,) = found_by(capsys, "localize", here / "own", query, "--reranker", "sift")
    assert "sift verified no reference" in found["reason"] or found["confidence"] == "verified"
    grown = found_by(capsys, "index", here / "own", "--append", "--images", more_photos(here))
    assert (grown["references"], grown["thumbnail_px"]) == (5, 64)


def more_photos(here: Path) -> Path:
    (here / "more").mkdir()
    shutil.copy(here / "photos" / "372.png", here / "more" / "new.png")
    return here / "more"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("localize map photos/371.png --reranker sift", "map map has no thumbnails to compare"),
        ("localize map photos/371.png --reranker sifter", "did you mean 'sift'?"),
        ("localize map photos/371.png --rerank 5", "--rerank needs --reranker NAME"),
        ("localize map photos/371.png --reranker.ratio 1", "--reranker.ratio needs --reranker"),
        (
            "localize map photos/371.png --reranker sift --rerank 0",
            "--rerank must be at least 1",
        ),
        ("localize map photos/371.png --reranker sift --reranker.ratios 1", "'ratio'?"),
        ("index run --images photos --thumbnails 8 --out x", "--thumbnails must be between 16"),
        ("index map --append --images photos --thumbnails 64", "map map has none; leave"),
        ("index map --index fp16 --thumbnails 64", "needs --append to add images"),
    ],
)
def test_what_a_reranker_needs(here, capsys, monkeypatch, command, message):
    monkeypatch.chdir(here)
    assert message in error_of(capsys, *command.split())


def test_references_are_thinned_as_in_evaluation_or_as_asked(here, capsys, monkeypatch):
    monkeypatch.syspath_prepend(SUPPORT)
    # A lap of 60 images, 2.09 m apart: every second one is at least 4 m from the last.
    made = found_by(capsys, "index", here / "run", "--spacing_m", "4", "--out", here / "thin")
    assert made["references"] == 30


def test_a_run_without_its_model_folder_gets_one(here, capsys, monkeypatch):
    monkeypatch.syspath_prepend(SUPPORT)
    before = json.loads((here / "run" / "model" / "model.json").read_text())
    shutil.rmtree(here / "run" / "model")
    assert mlcore("index", here / "run", "--images", here / "photos", "--out", here / "m") == 0
    assert "has no model folder yet" in capsys.readouterr().err
    assert json.loads((here / "run" / "model" / "model.json").read_text()) == before


def test_the_first_evaluation_leaves_the_model(here, capsys, monkeypatch):
    monkeypatch.syspath_prepend(SUPPORT)
    before = (here / "run" / "model" / "model.json").read_text()
    shutil.rmtree(here / "run" / "model")
    assert mlcore("evaluate", here / "run", "--whitening", "none") == 0
    assert not (here / "run" / "model").exists()
    assert mlcore("evaluate", here / "run") == 0
    assert (here / "run" / "model" / "model.json").read_text() == before


def test_training_since_is_noted(here, capsys):
    (here / "run" / "checkpoints" / "step-000000009.ckpt").touch()
    assert mlcore("index", here / "run", "--images", here / "photos", "--out", here / "m") == 0
    assert "the model after step 2, as it was evaluated" in capsys.readouterr().err


def test_maps_of_different_models_are_refused(here, capsys):
    info = here / "map" / "map.json"
    shutil.copytree(here / "map", here / "other")
    content = json.loads(info.read_text())
    for name, path in (("map.json", info), ("model.json", here / "map/model/model.json")):
        content = json.loads(path.read_text())
        content["model" if name == "map.json" else "identity"] = "0" * 32
        path.write_text(json.dumps(content))
    photo = here / "photos" / "425.png"
    error = error_of(capsys, "localize", here / "other", here / "map", photo)
    assert "are of different models, so that their distances cannot be compared" in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("localize map none.png", "no image file at none.png; a map is searched with image"),
        ("localize map map/map.json", "is not an image of a known format"),
        ("localize map map", "give an image file to localize, after the maps"),
        ("localize map x.png --split train", "--split needs a run and its data set"),
        ("localize map x.png --picture x.png", "--picture needs a run and its data set"),
        ("localize map photos/425.png --whitening none", "--whitening does not apply here"),
        ("localize map photos/425.png --dataset streets", "--dataset does not apply here"),
        ("index run", "run is not a map; give --out MAP to make one"),
        ("index map", "map map needs --append to add images to it"),
        ("index map --index tree", "--index tree: faiss has no such index"),
        ("index map --append", "has no data set of its own; give --images DIR or --dataset"),
        ("index map --append --out x", "--append adds to the map that is given"),
        ("index photos --append --images photos", "photos is not a map"),
        ("index run --out map --images photos", "--out map exists already"),
        ("index run --out x --images photos --split test", "--split chooses images of a data"),
        ("index run --out x --images nowhere", "no folder of images at nowhere"),
        ("index run --out x --images photos --index tree", "faiss has no such index"),
        ("index run --out x --images photos --spacing_m 4", "--spacing_m does not apply here"),
        ("index nowhere --out x --images photos", "no run folder at nowhere"),
        ("index run --out x", "unknown dataset 'synthetic'"),
        ("export run --format faiss --out x.faiss", "--format faiss needs a map, and run is"),
        ("export map --format faiss --out x.index", "--out x.index must end in .faiss"),
        ("export map --format faiss --out x.faiss --top 3", "--top applies to --format hloc"),
        ("export map --format hloc --out x.h5 --top 3", "--top needs --queries DIR"),
        ("export map --format hloc --out x.h5 --top 0", "--top must be at least 1, got 0"),
        ("export photos --format onnx --out x.onnx", "photos is not a run folder, which has"),
        ("localize photos photo.png", "nor a map of 'mlcore index', which has a map.json"),
        ("export map --format faiss --out here/x.faiss", "here does not exist"),
    ],
)
def test_what_cannot_be_is_one_sentence(home, words, message, capsys, monkeypatch):
    monkeypatch.chdir(home)
    before = sorted(home.rglob("*"))
    assert message in error_of(capsys, *words.split())
    assert sorted(home.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("x.pt2", "run --format torch-export --images photos --layout BHWC"),
        ("x.faiss", "map --format faiss"),
        ("x.h5", "map --format hloc --queries photos --top 2"),
        ("x.safetensors", "run --format safetensors"),
    ],
)
def test_exports_are_written_once(here, name, words, capsys, monkeypatch):
    monkeypatch.chdir(here)
    command = ["export", *words.split(), "--out", name]
    found = found_by(capsys, *command)
    assert found["written"][0] == name
    assert all(Path(path).stat().st_size > 0 for path in found["written"])
    if name == "x.pt2":
        assert 0 <= found["parity"] < 1e-4
    if name == "x.safetensors":
        assert "trained" in (here / "x.md").read_text()
    if name == "x.h5":
        assert len((here / "x-pairs.txt").read_text().splitlines()) == 8
    assert f"{name} exists already" in error_of(capsys, *command)


def test_an_export_that_differs_is_not_written(here, capsys, monkeypatch):
    monkeypatch.setattr("mlcore.deployment.parity.TOLERANCE", 1e-12)
    out = here / "x.pt2"
    error = error_of(capsys, "export", here / "run", "--format", "torch-export", "--out", out)
    assert "more than 1e-12; nothing is written" in error
    assert not out.exists()


def test_matches_are_written_as_predictions(here, capsys):
    file = here / "predictions.txt"
    photos = sorted((here / "photos").iterdir())
    words = ("localize", here / "map", *photos, "--top", "3", "--predictions", file)
    found = found_by(capsys, *words)
    lines = [line.split() for line in file.read_text().splitlines()]
    assert [line[0] for line in lines] == ["370", "371", "372", "425"]
    assert [line[1:] for line in lines] == [
        [match["image"].removeprefix("synthetic/") for match in one["matches"]] for one in found
    ]
    blank = here / "photos" / "a b.png"
    photos[0].rename(blank)
    error = error_of(capsys, "localize", here / "map", blank, "--predictions", file)
    assert "the name of image 'a b' contains blanks" in error
