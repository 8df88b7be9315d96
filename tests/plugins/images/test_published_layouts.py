"""Folders and names of published benchmarks, as small made trees: what opens as what."""

from __future__ import annotations

import numpy as np
import pytest

from mlcore_images.checks.checking import check_images
from mlcore_images.config import ImagesConfig
from tests.support.image_folders import build, save

WEATHER = ("night", "overcast", "rain", "snow", "sun")
LAYOUTS = {
    "SVOX": {
        **{
            f"images/{split}/{part}": 12
            for split in ("train", "val")
            for part in ("gallery", "queries")
        },
        "images/test/gallery": 12,
        **{f"images/test/queries_{weather}": 6 for weather in WEATHER},
    },
    "SF-XL": {
        **{f"train/37.7{k}": 10 for k in range(3)},
        "val/database": 12,
        "val/queries": 6,
        "test/database": 12,
        "test/queries_v1": 6,
        "test/queries_v2": 6,
    },
    "Tokyo 24/7": {"images/test/database": 12, "images/test/queries": 6},
    "St Lucia": {"images/test/database": 12, "images/test/queries": 6},
    "Nordland": {"images/test/database": 12, "images/test/queries": 12},
    "Eynsham": {"images/test/database": 12, "images/test/queries": 6},
}
FRAMES, GREY = {"Nordland"}, {"Eynsham"}
ORIGIN_M = {"train": (0, 0), "37": (0, 0), "val": (5_000, 0), "test": (0, 5_000)}


def write(root, name):
    """One image per 4 m, references and queries along the same street of each split."""
    for number, (folder, num) in enumerate(LAYOUTS[name].items()):
        split = folder.removeprefix("images/").split("/")[0]
        east, north = ORIGIN_M[split]
        for k in range(num):
            if name in FRAMES:
                file = f"@{k}@0@@@@@@@@@@@{k:05d}@.jpg"
            else:
                along = 4 * k + (48 * number if split == "train" else 0)
                position = f"{551_000.25 + east + along:010.2f}@{4_178_000.75 + north:010.2f}"
                file = f"@{position}@10@S@037.7@-122.4@pano_-{k}@@{30 * k - 10}@@@@201311@@.jpg"
            shade = (20 * number, 20 * k, 3 * (number + k))
            save(root / folder / file, (k + 12 * number,) * 3 if name in GREY else shade)
    return root


@pytest.mark.parametrize("name", LAYOUTS)
def test_folders_say_split_role_and_condition(tmp_path, name):
    data = build(write(tmp_path, name))
    for split in ("train", "validation", "test"):
        found = data.splits[split]
        for table, words in (
            (found.references, ("database", "gallery", "37.7")),
            (found.queries, ("queries",)),
        ):
            folders = [
                (folder, num)
                for folder, num in LAYOUTS[name].items()
                if folder.removeprefix("images/").startswith(
                    {"validation": "val"}.get(split, split)
                )
                and any(word in folder for word in words)
            ]
            assert len(table) == sum(num for _, num in folders), (split, words)
    queries = data.test.queries
    conditions = {queries.conditions[code] for code in queries.condition.tolist()}
    expected = {"SVOX": set(WEATHER), "SF-XL": {"v1", "v2"}}
    assert conditions == expected.get(name, {"all"})
    distances = np.linalg.norm(
        queries.positions_m[:, None] - data.test.references.positions_m, axis=2
    )
    assert distances.min(axis=1).max() == 0.0, "each query is where a reference is"
    if name in FRAMES:
        assert queries.headings_rad is None
        assert queries.positions_m[:, 0].tolist() == list(range(12)), "frames, not metres"
    else:
        assert np.abs(queries.headings_rad).max() <= np.pi


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_whole_tree_has_no_fault(tmp_path, name):
    report = check_images(ImagesConfig(root=write(tmp_path, name)))
    assert report.ok
    warnings = [one.message for one in report.findings if one.severity == "warning"]
    has_train = any("train" in folder for folder in LAYOUTS[name])
    assert [text.partition(":")[0] for text in warnings] == (
        [] if has_train else ["train has no references"]
    )


def test_training_and_test_may_be_different_benchmarks(tmp_path):
    """Tokyo 24/7 has no training images; SF-XL beside it has."""
    from mlcore.data.several import SeveralDatasets

    parts = {
        name: build(write(tmp_path / str(k), name))
        for k, name in enumerate(("SF-XL", "Tokyo 24/7"))
    }
    both = SeveralDatasets(parts)
    assert len(both.train.references) == 30
    assert len(both.test.queries) == 12 + 6
    assert "no images in train: Tokyo 24/7" in both.notes
