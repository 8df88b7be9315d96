"""What stops a run, what warns, and what the user may accept."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from mlcore.data import check_opened, check_splits, require_sound
from mlcore.errors import ConfigError, DataError
from mlcore.protocols import PlaceTable, Split


def dataset(positions_m, in_test, columns=(), **more):
    """A data set of one traversal: ``in_test`` says which rows are queries and references."""
    positions_m, in_test = np.asarray(positions_m, float), np.asarray(in_test)
    table = PlaceTable(
        index=np.arange(len(positions_m)),
        positions_m=positions_m,
        traversal=np.zeros(len(positions_m), np.int8),
        traversals=["a"],
        condition=np.zeros(len(positions_m), np.int8),
        conditions=["all"],
    )
    table = replace(table, **dict(columns))
    none = table.take(slice(0, 0))
    return SimpleNamespace(
        train=Split(references=table.take(~in_test), queries=none),
        validation=Split(references=none, queries=none),
        test=Split(references=table.take(in_test), queries=table.take(in_test)),
        notes=(),
        image_name=lambda index: f"{index}.jpg",
        **more,
    )


def route(num, far=()):
    positions_m = np.stack([4.0 * np.arange(num), np.zeros(num)], 1)
    for row in far:
        positions_m[row, 1] = 1e5 * (row + 1)
    return positions_m


def severities(data):
    return {
        one.name: one.severity for one in check_opened(data, near_radius_m=15.0) if one.name
    }


@pytest.mark.parametrize(
    ("num", "far", "severity"),
    [
        (50, [3], "fault"),  # 2 % of the rows
        (1000, [3], "warning"),
        (1000, [3, 990], "warning"),
        (1000, [3, 4, 5], "fault"),  # three of one split
        (1000, [3, 4, 990, 991], "warning"),
    ],
)
def test_a_suspicion_is_a_fault_by_share_or_by_rows_of_a_split(num, far, severity):
    data = dataset(route(num, far), np.arange(num) >= num * 0.8)
    assert severities(data) == {"far-rows": severity}


def test_a_fault_stops_a_run_unless_it_is_accepted():
    data = dataset(route(60, [7]), np.arange(60) >= 40)
    with pytest.raises(DataError) as caught:
        require_sound(data, ())
    assert "images lie up to 800.0 km from the rest (1: 7.jpg) [far-rows]" in str(caught.value)
    assert "--dataset.accept_faults far-rows" in str(caught.value)
    (note,) = require_sound(data, ("far-rows",))
    assert note.startswith("accepted by dataset.accept_faults [far-rows]: images lie up to")
    with pytest.raises(DataError):
        require_sound(data, ("shared-images",))
    with pytest.raises(ConfigError, match="'far-row', which is not the name of a fault; did"):
        require_sound(data, ("far-row",))


def test_a_warning_does_not_stop_a_run_and_is_returned():
    data = dataset(route(1000, [3]), np.arange(1000) >= 800)
    (note,) = require_sound(data, ())
    assert note.startswith("images lie up to 399.7 km from the rest")


def test_positions_that_are_not_numbers_are_a_fault():
    positions_m = route(400)
    positions_m[5, 0] = np.nan
    assert severities(dataset(positions_m, np.arange(400) >= 300)) == {"not-finite": "fault"}


def test_impossible_speed_is_seen_where_times_are_known():
    positions_m = route(400)
    positions_m[100:110, 1] = 300.0
    times = {"times_s": lambda index: index / 8.0}
    assert severities(dataset(positions_m, np.arange(400) >= 300)) == {}
    found = severities(dataset(positions_m, np.arange(400) >= 300, **times))
    assert found == {"impossible-speed": "warning"}  # two rows of 400


def test_groups_of_one_traversal_are_a_fault_those_of_two_a_warning_and_regions_neither():
    positions_m = np.concatenate([route(100), route(100) + 7.5e6])
    in_test = np.arange(200) % 2 == 0
    assert severities(dataset(positions_m, in_test)) == {"separate-groups": "fault"}
    city = np.arange(200) // 100
    columns = {"traversal": city, "traversals": ("a", "b")}
    cities = dataset(positions_m, in_test, columns)
    found = [one.message for one in check_opened(cities, near_radius_m=0.0)]
    assert severities(cities) == {}
    assert any("several cities" in message for message in found)
    columns = {"region": city, "regions": ("a", "b")}
    assert check_opened(dataset(positions_m, in_test, columns), near_radius_m=0.0) == []


@pytest.mark.parametrize("kind", ["spelling", "link", "hard link", "copy"])
def test_one_file_in_training_and_in_the_test_is_a_fault(tmp_path, kind):
    names = [tmp_path / f"{number}.jpg" for number in range(40)]
    for number, path in enumerate(names):
        path.write_bytes(bytes([number]) * (1000 + number % 2))
    (tmp_path / "sub").mkdir()
    if kind == "spelling":
        names[35] = tmp_path / "sub/../3.jpg"
    elif kind == "copy":
        names[35].write_bytes(names[3].read_bytes())
    else:
        names[35].unlink()
        (names[35].symlink_to if kind == "link" else names[35].hardlink_to)(names[3])
    files = {"path": names.__getitem__}
    data = dataset(route(40), np.arange(40) >= 30, **files)
    (found,) = [one for one in check_opened(data, near_radius_m=0.0) if one.name]
    assert (found.name, found.severity) == ("shared-images", "fault")
    assert (found.count, found.examples) == (1, ("35.jpg",))


def test_many_files_of_one_content_are_not_copies(tmp_path):
    names = [tmp_path / f"{number}.jpg" for number in range(40)]
    for path in names:
        path.write_bytes(b"black")
    data = dataset(route(40), np.arange(40) >= 30, path=names.__getitem__)
    assert severities(data) == {}


def test_an_image_of_two_splits_is_a_fault_without_files():
    data = dataset(route(40), np.arange(40) >= 30)
    data.train = Split(references=data.test.references, queries=data.train.queries)
    assert severities(data) == {"shared-images": "fault"}


def test_test_images_near_training_images_are_warned_of():
    data = dataset(route(40), np.arange(40) >= 30)
    (found,) = check_opened(data, near_radius_m=10.0)
    assert (found.severity, found.count) == ("warning", 2)
    assert found.message == "test images lie within 10 m of a training image"
    assert check_opened(data, near_radius_m=3.0) == []


def test_empty_splits_are_named():
    data = dataset(route(40), np.zeros(40, bool))
    (found,) = check_splits(data)
    assert found.severity == "fault"
    assert found.message.startswith("test has no references and no queries")
