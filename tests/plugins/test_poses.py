"""Camera poses of a made trajectory of known length, in three formats; and the published KITTI."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from mlcore.errors import ConfigError, DataError
from mlcore.factories import BuildContext
from mlcore_poses.config import PosesConfig
from mlcore_poses.plugin import mlcore_datasets
from mlcore_poses.readers import read_kitti
from tests.support.image_folders import save

FACTORY = mlcore_datasets()[0]
NUM, RADIUS_M = 60, 50.0
ANGLE = np.linspace(0, 2 * np.pi, NUM)
"""Clockwise round a circle from its northernmost point: the heading is a right angle more."""
EAST_NORTH = RADIUS_M * np.stack([np.sin(ANGLE), np.cos(ANGLE)], axis=1)
HEADING = ANGLE + np.pi / 2


def build(root, **options):
    return FACTORY.build(PosesConfig(root=root, **options), BuildContext())


def camera_to_world(columns):
    """Return rotations whose third column is the heading in ``columns`` of the world."""
    forward = np.zeros((NUM, 3))
    forward[:, columns[0]], forward[:, columns[1]] = np.sin(HEADING), np.cos(HEADING)
    down = np.zeros(3)
    down[({0, 1, 2} - set(columns)).pop()] = 1.0
    right = np.cross(down, forward)
    return np.stack([right, np.broadcast_to(down, right.shape), forward], axis=2)


def centres(columns):
    found = np.full((NUM, 3), 1.7)
    found[:, columns] = EAST_NORTH
    return found


def images(folder, names):
    for name in names:
        save(folder / name)
    return folder


def kitti(folder, columns=(0, 2)):
    matrices = np.concatenate([camera_to_world(columns), centres(columns)[:, :, None]], axis=2)
    np.savetxt(folder / "00.txt", matrices.reshape(NUM, 12))
    return images(folder, [f"{number:06d}.png" for number in range(NUM)])


def tum(folder, names=None):
    quaternions = Rotation.from_matrix(camera_to_world((0, 1))).as_quat()
    times = 1_305_031_102.0 + 0.1 * np.arange(NUM)
    rows = np.column_stack([times, centres((0, 1)), quaternions])
    np.savetxt(folder / "tum.txt", rows, fmt="%.9f", header="timestamp tx ty tz qx qy qz qw")
    return images(folder, names or [f"rgb/{time + 0.01:.6f}.png" for time in times])


def colmap_rows():
    to_camera = camera_to_world((0, 1)).transpose(0, 2, 1)
    quaternions = np.roll(Rotation.from_matrix(to_camera).as_quat(), 1, axis=1)
    translations = -(to_camera @ centres((0, 1))[:, :, None])[:, :, 0] / 4.0
    return [
        (number, [*quaternions[number], *translations[number]], f"cam a/{number:03d}.jpg")
        for number in np.random.default_rng(0).permutation(NUM).tolist()
    ]


def colmap_text(folder):
    lines = ["# Image list with two lines of data per image"]
    for number, pose, name in colmap_rows():
        lines += [f"{number} {' '.join(map(str, pose))} 1 {name}", "1.0 2.0 -1" * (number % 2)]
    (folder / "images.txt").write_text("\n".join(lines) + "\n")
    return images(folder, [name for _, _, name in colmap_rows()])


def colmap_binary(folder):
    content = struct.pack("<Q", NUM)
    for number, pose, name in colmap_rows():
        content += struct.pack("<I7dI", number, *pose, 1) + name.encode() + b"\0"
        content += struct.pack("<Q", 2) + bytes(48)
    (folder / "images.bin").write_bytes(content)
    return images(folder, [name for _, _, name in colmap_rows()])


FORMS = {
    "kitti": (kitti, {"poses": Path("00.txt")}),
    "tum": (tum, {"poses": Path("tum.txt"), "format": "tum"}),
    "colmap text": (
        colmap_text,
        {"poses": Path("images.txt"), "format": "colmap", "metres_per_unit": 4.0},
    ),
    "colmap binary": (
        colmap_binary,
        {"poses": Path("images.bin"), "format": "colmap", "metres_per_unit": 4.0},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_format_gives_the_same_places_and_headings(tmp_path, form):
    write, options = FORMS[form]
    data = build(write(tmp_path), train="..", **options)
    table = data.train.references
    assert np.abs(table.positions_m - EAST_NORTH).max() < 1e-6
    turn = np.angle(np.exp(1j * (table.headings_rad - HEADING)))
    assert np.abs(turn).max() < 1e-6
    steps_m = np.linalg.norm(np.diff(table.positions_m, axis=0), axis=1)
    chords_m = 2 * RADIUS_M * np.sin(np.pi / (NUM - 1)) * (NUM - 1)
    assert steps_m.sum() == pytest.approx(chords_m, abs=1e-5)
    if "colmap" not in form:
        assert table.arc_length_m[-1] == pytest.approx(chords_m, abs=1e-5)
        assert any("314 m" in note for note in data.notes)


def test_axes_may_be_turned(tmp_path):
    data = build(kitti(tmp_path), poses=Path("00.txt"), train="..", axes="z, -x")
    table = data.train.references
    assert (
        np.abs(table.positions_m - np.stack([EAST_NORTH[:, 1], -EAST_NORTH[:, 0]], 1)).max()
        < 1e-6
    )
    expected = np.arctan2(np.cos(HEADING), -np.sin(HEADING))
    assert np.abs(np.exp(1j * table.headings_rad) - np.exp(1j * expected)).max() < 1e-6


def test_ranges_of_frames_make_the_splits(tmp_path):
    options = {"train": "0..29", "test": "30..", "queries": "45.."}
    data = build(kitti(tmp_path), poses=Path("00.txt"), **options)
    assert data.train.references.index.tolist() == list(range(30))
    assert data.test.references.index.tolist() == list(range(30, 45))
    assert data.test.queries.index.tolist() == list(range(45, 60))
    with pytest.raises(DataError, match=r"set dataset\.validation to a range of frames"):
        _ = data.validation


def test_images_without_a_pose_are_left_out(tmp_path):
    write, options = FORMS["tum"]
    save(write(tmp_path) / "rgb" / "1305031200.000000.png")
    data = build(tmp_path, train="..", **options)
    assert len(data.train.references) == NUM
    assert any("images have no pose within 0.05 s and are left out (1" in n for n in data.notes)
    write, options = FORMS["colmap text"]
    (tmp_path / "b").mkdir()
    write(tmp_path / "b")
    (tmp_path / "b" / "cam a" / "007.jpg").unlink()
    data = build(tmp_path / "b", train="..", **options)
    assert any(
        "images have a pose and no file, and are left out (1: cam a/007" in n
        for n in data.notes
    )


def cut(folder, name, keep):
    file = folder / name
    file.write_bytes(file.read_bytes()[:keep])


@pytest.mark.parametrize(
    ("form", "change", "options", "kind", "message"),
    [
        (
            "kitti",
            lambda root: (root / "000003.png").unlink(),
            {},
            DataError,
            r"has 60 poses and .* has 59 images; there must be one pose per image",
        ),
        ("kitti", None, {"axes": "x,y"}, DataError, "look along the normal"),
        (
            "kitti",
            None,
            {"axes": "x"},
            ConfigError,
            r"dataset\.axes must be two different axes",
        ),
        (
            "kitti",
            None,
            {"format": "tum"},
            DataError,
            r"line 1 must have 8 finite numbers, got 12",
        ),
        ("kitti", None, {"poses": Path("01.txt")}, DataError, r"01\.txt, which does not exist"),
        (
            "kitti",
            None,
            {"train": "x"},
            ConfigError,
            r"dataset\.train must be a range of frames",
        ),
        ("kitti", None, {"test": "5..9"}, ConfigError, "overlaps another split"),
        ("kitti", None, {"train": "90.."}, DataError, "has none of 60 frames"),
        (
            "tum",
            None,
            {"format": "kitti"},
            DataError,
            "line 2 must have 12 finite numbers, got 8",
        ),
        (
            "tum",
            None,
            {"max_gap_s": 1e-6},
            DataError,
            r"no image has a pose of .* within 1e-06 s",
        ),
        (
            "colmap text",
            None,
            {"metres_per_unit": None},
            ConfigError,
            "metres_per_unit is missing",
        ),
        (
            "colmap binary",
            lambda root: cut(root, "images.bin", 3000),
            {},
            DataError,
            "is not a file of images of a COLMAP model",
        ),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path, form, change, options, kind, message):
    write, given = FORMS[form]
    write(tmp_path)
    if change is not None:
        change(tmp_path)
    with pytest.raises(kind, match=message):
        build(tmp_path, **{"train": "..", **given, **options})


@pytest.mark.parametrize(
    ("sequence", "length_m", "revisits"), [("00", 3722, 1706), ("06", 1233, 565)]
)
def test_published_kitti(sequence, length_m, revisits):
    folder = os.environ.get("MLCORE_KITTI_POSES")
    if folder is None:
        pytest.skip("MLCORE_KITTI_POSES does not name the folder of KITTI's poses")
    centres = read_kitti(Path(folder) / f"{sequence}.txt").centres
    assert np.linalg.norm(np.diff(centres, axis=0), axis=1).sum() == pytest.approx(
        length_m, abs=1
    )
    plane = centres[:, [0, 2]]
    near = cKDTree(plane).query_ball_point(plane, 5.0)
    again = [any(abs(other - frame) > 100 for other in rows) for frame, rows in enumerate(near)]
    assert sum(again) == pytest.approx(revisits, abs=2)
