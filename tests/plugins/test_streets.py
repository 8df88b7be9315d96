"""The data set ``streets``: its tables, its images and its cache."""

from __future__ import annotations

import errno
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from mlcore import BuildContext, DataError, PlaceTable, Split
from mlcore_streets import render_processes
from mlcore_streets.cache import ImageCache, cache_key
from mlcore_streets.config import StreetsConfig
from mlcore_streets.dataset import StreetsDataset, tables
from mlcore_streets.districts import draw_districts
from mlcore_streets.plugin import mlcore_datasets

SMALL = StreetsConfig(
    train_length_m=60.0,
    validation_length_m=60.0,
    test_length_m=60.0,
    reference_spacing_m=8.0,
    query_spacing_m=12.0,
    image_width_px=64,
    image_height_px=32,
    num_processes=1,
)
SEEDS = (11, 12, 13)


def small(**changes: object) -> StreetsConfig:
    return StreetsConfig(**{**vars(SMALL), **changes})


def build(
    config: StreetsConfig, folder: Path, calls: list[int] | None = None
) -> StreetsDataset:
    def progress(_description: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        if calls is not None:
            calls.append(done)

    return StreetsDataset(config, BuildContext(cache_dir=folder, progress=progress))


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def dataset(cache_dir: Path) -> StreetsDataset:
    return build(SMALL, cache_dir)


@pytest.fixture(scope="module")
def town() -> dict[int, dict[str, Split]]:
    """The default town's tables, without its images."""
    return {seed: tables(draw_districts(StreetsConfig(town_seed=seed))) for seed in SEEDS}


def images_of(dataset: StreetsDataset, table: PlaceTable) -> np.ndarray:
    return np.stack([dataset.load_image(int(index)).numpy() for index in table.index])


def test_every_image_belongs_to_exactly_one_table(dataset: StreetsDataset) -> None:
    splits = (dataset.train, dataset.validation, dataset.test)
    index = np.concatenate([part.index for s in splits for part in (s.references, s.queries)])
    np.testing.assert_array_equal(np.sort(index), np.arange(len(index)))


@pytest.mark.parametrize("seed", SEEDS)
def test_districts_are_out_of_sight_of_each_other(town: dict, seed: int) -> None:
    points = [
        np.concatenate([split.references.positions_m, split.queries.positions_m])
        for split in town[seed].values()
    ]
    for number, others in ((0, 1), (0, 2), (1, 2)):
        distance, _ = cKDTree(points[number]).query(points[others])
        assert distance.min() > 300.0


@pytest.mark.parametrize("seed", SEEDS)
def test_training_sees_every_condition_and_the_test_queries_have_one_drive_each(
    town: dict, seed: int
) -> None:
    for name in ("train", "validation", "test"):
        queries = town[seed][name].queries
        seen = {queries.conditions[code] for code in np.unique(queries.condition)}
        assert seen == {"overcast", "sun", "night", "snow", "rain"}
        references = town[seed][name].references
        assert {references.conditions[code] for code in references.condition} == {"overcast"}
    test = town[seed]["test"].queries
    assert len(test.traversals) == 5


@pytest.mark.parametrize("seed", SEEDS)
def test_nearly_every_query_has_a_reference_within_five_metres(town: dict, seed: int) -> None:
    for name in ("validation", "test"):
        split = town[seed][name]
        distance, _ = cKDTree(split.references.positions_m).query(split.queries.positions_m)
        for code in np.unique(split.queries.condition):
            assert (distance[split.queries.condition == code] < 5.0).mean() >= 0.98


@pytest.mark.parametrize("seed", SEEDS)
def test_headings_point_where_the_drive_goes(town: dict, seed: int) -> None:
    for split in town[seed].values():
        for table in (split.references, split.queries):
            heading = table.headings_rad
            assert ((heading > -np.pi) & (heading <= np.pi)).all()
            step = np.diff(table.positions_m, axis=0)
            within = np.diff(table.traversal) == 0
            course = np.arctan2(step[:, 0], step[:, 1])
            off = np.abs(np.angle(np.exp(1j * (heading[1:] - course))))[within]
            # The camera sways, and cuts corners between two images.
            assert np.median(off) < np.radians(12)
            assert np.quantile(off, 0.99) < np.radians(50)


def test_rows_of_a_drive_are_in_the_order_they_were_taken(town: dict) -> None:
    for table in (town[11]["train"].queries, town[11]["test"].references):
        within = np.diff(table.traversal) == 0
        assert (np.diff(table.arc_length_m)[within] > 0).all()


def test_images_are_rgb_tensors_of_the_configured_size(dataset: StreetsDataset) -> None:
    image = dataset.load_image(0)
    assert image.dtype == torch.uint8
    assert image.shape == (3, 32, 64)
    assert image.is_contiguous()


def test_an_index_beyond_the_last_image_is_named(dataset: StreetsDataset) -> None:
    with pytest.raises(DataError, match="not 100000"):
        dataset.load_image(100_000)


def test_names_say_split_drive_and_number(dataset: StreetsDataset) -> None:
    night = dataset.test.queries.traversals.index("night-1")
    rows = np.flatnonzero(dataset.test.queries.traversal == night)
    assert dataset.image_name(int(dataset.test.queries.index[rows[2]])) == "test/night-1/0002"
    assert dataset.image_name(0) == "train/overcast-1/0000"


def test_conditions_look_different(dataset: StreetsDataset) -> None:
    tables_of_queries = [split.queries for split in (dataset.train, dataset.test)]
    pictures = np.concatenate([images_of(dataset, table) for table in tables_of_queries])
    condition = np.concatenate([table.condition for table in tables_of_queries])
    mean = {
        name: pictures[condition == code].astype(float).mean(axis=0)
        for code, name in enumerate(dataset.test.queries.conditions)
    }
    assert mean["night"].mean() < 0.5 * mean["overcast"].mean()
    road = np.s_[:, 26:, :]
    assert mean["snow"][road].mean() > 1.3 * mean["overcast"][road].mean()
    assert mean["rain"][road].mean() < 0.9 * mean["overcast"][road].mean()
    blueness = {name: (picture[2] - picture[0])[:6].mean() for name, picture in mean.items()}
    assert blueness["sun"] > blueness["overcast"] + 20


def test_two_processes_render_the_same_bits_as_one(
    dataset: StreetsDataset, tmp_path: Path
) -> None:
    calls: list[int] = []
    again = build(small(num_processes=2), tmp_path, calls)
    assert again.fingerprint == dataset.fingerprint
    for split in ("train", "test"):
        table = getattr(dataset, split).queries
        np.testing.assert_array_equal(images_of(dataset, table), images_of(again, table))
    assert calls[0] == 0
    assert calls[-1] == len(again)


def test_another_seed_is_another_town(dataset: StreetsDataset) -> None:
    other = tables(draw_districts(small(town_seed=5)))["test"].references
    here = dataset.test.references
    assert len(other) != len(here) or not np.allclose(other.positions_m, here.positions_m)
    assert cache_key(small(town_seed=5)) != cache_key(SMALL)


def test_a_second_opening_renders_nothing(dataset: StreetsDataset, cache_dir: Path) -> None:
    calls: list[int] = []
    again = build(SMALL, cache_dir, calls)
    assert not calls
    assert again.fingerprint == dataset.fingerprint
    assert again.notes == ()


def test_a_pickled_data_set_carries_no_images(dataset: StreetsDataset) -> None:
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 1_000_000
    assert torch.equal(pickle.loads(pickled).load_image(7), dataset.load_image(7))


@pytest.mark.parametrize("damage", ["cut short", "a byte changed", "empty", "no checksum"])
def test_a_damaged_cache_is_rendered_again(
    dataset: StreetsDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    whole = ImageCache(tmp_path / "streets" / f"{cache_key(SMALL)}.npy", dataset.image_shape)
    content = (dataset.cache_path).read_bytes()
    damaged = {
        "cut short": content[:-1000],
        "a byte changed": content[:5000] + bytes([content[5000] ^ 1]) + content[5001:],
        "empty": b"",
        "no checksum": content,
    }[damage]
    whole.path.parent.mkdir()
    whole.path.write_bytes(damaged)
    if damage != "no checksum":
        note = dataset.cache_path.with_suffix(".json")
        whole.path.with_suffix(".json").write_text(note.read_text())

    def copy_whole(_config: object, path: Path, *_: object) -> None:
        path.write_bytes(content)

    monkeypatch.setattr("mlcore_streets.cache.render_to_file", copy_whole)
    again = build(SMALL, tmp_path)
    assert "rendered again" in again.notes[0]
    assert torch.equal(again.load_image(3), dataset.load_image(3))
    assert sorted(path.suffix for path in whole.path.parent.iterdir()) == [".json", ".npy"]


def test_a_full_disk_is_named_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", no_space)
    with pytest.raises(DataError, match=r"No space left on device.*XDG_CACHE_HOME"):
        build(SMALL, tmp_path)
    assert list((tmp_path / "streets").iterdir()) == []


def test_a_process_that_fails_ends_the_rendering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(DataError, match="exit code 1"):
        build(small(num_processes=2), tmp_path)
    assert list((tmp_path / "streets").iterdir()) == []


def test_what_a_killed_run_left_is_removed_an_hour_later(
    dataset: StreetsDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "streets"
    folder.mkdir()
    old, new = folder / ".old.1.tmp", folder / ".new.2.tmp"
    for path in (old, new):
        path.touch()
    os.utime(old, (0, 0))
    monkeypatch.setattr("mlcore_streets.cache.render_to_file", lambda *_: None)
    build(SMALL, tmp_path)
    assert not old.exists()
    assert new.exists()


def test_default_cache_follows_xdg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("mlcore_streets.cache.render_to_file", lambda *_: None)
    opened = StreetsDataset(SMALL, BuildContext())
    assert opened.cache_path.is_relative_to(tmp_path / "mlcore" / "streets")


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("town_seed", -1),
        ("test_length_m", 10.0),
        ("query_spacing_m", float("nan")),
        ("image_width_px", 8),
        ("num_processes", 0),
    ],
)
def test_options_out_of_range_are_refused_by_name(option: str, value: float) -> None:
    with pytest.raises(ValueError, match=option):
        StreetsConfig(**{option: value})


def test_the_plugin_is_listed_without_numpy_or_torch() -> None:
    program = (
        "import sys, mlcore_streets.plugin as plugin\n"
        "[factory] = plugin.mlcore_datasets()\n"
        "print(factory.name, {'numpy', 'torch'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.split(maxsplit=1) == ["streets", "set()\n"]


def test_the_factory_builds_the_data_set(cache_dir: Path, dataset: StreetsDataset) -> None:
    [factory] = mlcore_datasets()
    built = factory.build(SMALL, BuildContext(cache_dir=cache_dir))
    assert built.fingerprint == dataset.fingerprint


def test_a_worker_renders_its_range_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], dataset: StreetsDataset
) -> None:
    path = tmp_path / "images"
    path.write_bytes(bytes(10 + 4 * 32 * 64 * 3))
    render_processes.main(json.dumps([vars(SMALL), str(path), 10, 2, 4]))
    written = np.frombuffer(path.read_bytes(), dtype=np.uint8)[10:].reshape(4, 32, 64, 3)
    assert not written[:2].any()
    expected = dataset.load_image(3).permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(written[3], expected)
    assert capsys.readouterr().out == "2\n"
