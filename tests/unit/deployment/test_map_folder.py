"""Maps: what is written is found again, in one piece or not at all."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from mlcore.deployment.map_folder import MapFolder
from mlcore.errors import ConfigError, DataError
from mlcore.retrieval.search import search

from .conftest import save


def part(vectors, *names):
    return vectors[: len(names)], {"image": np.array(names, dtype=object)}


def test_rows_and_embeddings_come_back(folder, vectors):
    assert len(folder) == 600
    assert np.array_equal(folder.embeddings.read(0, 600), vectors)
    first, last = folder.rows([1, 599])
    assert first == {
        "image": "001.jpg",
        "easting_m": 622_001.25,
        "northing_m": -1.0,
        "altitude_m": None,
        "heading_rad": 1 / 400,
        "latitude_deg": None,
        "longitude_deg": None,
        "traversal": None,
        "condition": "night",
        "region": None,
    }
    assert last["image"] == "599.jpg"
    assert {last[name] for name in last if name != "image"} == {None}


def test_exact_search_is_that_of_evaluation(folder, vectors):
    queries = vectors[::50] + np.float32(0.01)
    found, expected = folder.search(queries, 5), search(vectors, queries, 5)
    assert np.array_equal(found.row, expected.row)
    assert np.array_equal(found.distance, expected.distance)


def test_appended_images_are_found(folder, vectors):
    new = np.full((1, 8), 9, np.float32)
    assert folder.append([(new, {"image": np.array(["new.jpg"], dtype=object)})]) == 1
    again = MapFolder.open(folder.path)
    for one in (folder, again):
        (row,) = one.search(new, 1).row[0]
        assert one.rows([int(row)])[0]["image"] == "new.jpg"


def test_an_append_that_fails_adds_nothing(folder, vectors):
    def parts():
        yield part(vectors, "a.jpg")
        raise DataError("unreadable")

    before = sorted(path.name for path in folder.path.iterdir())
    with pytest.raises(DataError, match="unreadable"):
        folder.append(parts())
    assert sorted(path.name for path in folder.path.iterdir()) == before
    assert len(MapFolder.open(folder.path)) == 600


def test_a_shard_whose_table_is_missing_does_not_count(folder, vectors):
    np.save(folder.path / "embeddings-00002.npy", vectors)
    assert len(MapFolder.open(folder.path)) == 600


def test_an_image_is_added_once(folder, vectors):
    message = r"2 images to be added are in map .* already by name, the first is 000.jpg"
    with pytest.raises(DataError, match=message):
        folder.append([part(vectors, "000.jpg", "001.jpg")])
    with pytest.raises(DataError, match=r"the first is twice\.jpg"):
        folder.append([part(vectors, "twice.jpg"), part(vectors, "twice.jpg")])


def test_embeddings_of_other_dimensions_are_refused(folder):
    with pytest.raises(DataError, match="holds embeddings of 8 dimensions, got 7"):
        folder.append([part(np.zeros((1, 7), np.float32), "a.jpg")])


def test_a_map_is_made_whole_or_not_at_all(model, tmp_path):
    def fail():
        raise DataError("unreadable")
        yield

    def make():
        with MapFolder.creating(tmp_path / "new", model.path) as new:
            new.append(fail())

    with pytest.raises(DataError, match="unreadable"):
        make()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_map_replaces_nothing(folder, model):
    with (
        pytest.raises(ConfigError, match="exists already; choose another folder"),
        MapFolder.creating(folder.path, model.path),
    ):
        pytest.fail("made")


def test_an_empty_map_says_so(model, tmp_path):
    with MapFolder.creating(tmp_path / "empty", model.path):
        pass
    with pytest.raises(DataError, match=r"map .*empty is empty; add references with"):
        MapFolder.open(tmp_path / "empty").search(np.zeros((1, 8), np.float32), 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "map.json cannot be read: JSONDecodeError"),
        ('{"format": 1}', r"map.json cannot be read: KeyError\('index'\)"),
        ('{"format": 2, "novelty": 1}', "has format 2, this mlcore reads formats up to 1"),
    ],
)
def test_a_damaged_description_is_named(folder, content, message):
    (folder.path / "map.json").write_text(content)
    with pytest.raises(DataError, match=message):
        MapFolder.open(folder.path)


def test_a_folder_that_is_no_map_says_so(tmp_path):
    with pytest.raises(DataError, match=r"is not a map: it has no map\.json"):
        MapFolder.open(tmp_path)


def test_damaged_shards_are_named(folder):
    (folder.path / "references-00001.arrow").write_bytes(b"ARROW1")
    with pytest.raises(DataError, match=r"references-00001\.arrow cannot be read"):
        _ = MapFolder.open(folder.path).columns
    (folder.path / "embeddings-00000.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"embeddings-00000\.npy cannot be read"):
        _ = MapFolder.open(folder.path).embeddings


def test_a_map_with_the_model_of_another_is_refused(folder):
    save(folder.path / "model", "--seed", "1")
    with pytest.raises(DataError, match="is not the model that embedded the references"):
        MapFolder.open(folder.path)


def test_the_map_says_which_index_it_has(folder):
    assert json.loads((folder.path / "map.json").read_text())["index"] is None
    folder.build_index("fp16")
    assert MapFolder.open(folder.path).info.index == folder.info.index
    folder.build_index("flat")
    assert MapFolder.open(folder.path).info.index is None
    assert not (folder.path / "index.faiss").exists()


def test_rows_are_read_without_pandas(folder):
    """Its import takes longer than a search; in a fresh process, for others may have it."""
    code = (
        "import sys\nfrom pathlib import Path\n"
        "from mlcore.deployment.map_folder import MapFolder\n"
        "rows = MapFolder.open(Path(sys.argv[1])).rows([401, 3])\n"
        "assert [row['image'] for row in rows] == ['401.jpg', '003.jpg'], rows\n"
        "assert 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code, str(folder.path)], check=True)
    assert folder.rows([]) == []
