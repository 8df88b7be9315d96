"""Every option of every data set changes what is opened or prepared, or is refused.

A tiny tree is opened with and without the option. What may change are the notes, the columns of
the splits, an image, or the message of an error. A new option without a row fails here.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

from mlcore.data.soundness import require_sound, splits_of
from mlcore.errors import MlcoreError
from mlcore.factories import BuildContext, DatasetFactory
from mlcore.protocols import no_progress
from mlcore.registry.discovery import Registry
from tests.plugins import test_poses
from tests.support import city_trees, pittsburgh_tree, robotcar_tree
from tests.support.image_folders import save

OF_TESTS = {"synthetic"}
DATES = robotcar_tree.PAPER
UNKNOWN = {"accept_faults": "nonsense"}
SMALL_TOWN = {
    "train_length_m": 60.0,
    "validation_length_m": 60.0,
    "test_length_m": 60.0,
    "reference_spacing_m": 20.0,
    "query_spacing_m": 20.0,
    "image_width_px": 32,
    "image_height_px": 32,
    "num_processes": 1,
}
ROWS = {
    "gsv-cities": {
        **UNKNOWN,
        "root": Path("other"),
        "cities": ("London",),
        "validation_cities": ("Tokyo",),
        "test_cities": ("Tokyo",),
    },
    "images": {
        **UNKNOWN,
        "root": Path("other"),
        "table": Path("other.csv"),
        "layout": "names",
        "train": "frame=0..2",
        "validation": "frame=8",
        "test": "frame=8..9",
        "references": "condition=dusk",
        "queries": "frame=3..5",
        "region": "condition",
        "heading_convention": "counterclockwise-from-east",
        "swap_axes": True,
    },
    "msls": {
        **UNKNOWN,
        "root": Path("other"),
        "cities": ("cph",),
        "validation_cities": ("goa",),
        "test_cities": ("goa",),
        "condition": "season",
        "subtask": "s2w",
        "view": "forward",
    },
    "pittsburgh": {
        **UNKNOWN,
        "root": Path("other"),
        "protocol": "paper",
        "specs": Path("other"),
        "reference_root": Path("other"),
        "query_root": Path("other"),
    },
    "poses": {
        **UNKNOWN,
        "root": Path("other"),
        "poses": Path("other.txt"),
        "format": "kitti",
        "axes": "x,-y",
        "metres_per_unit": 2.0,
        "max_gap_s": 0.001,
        "train": "0..19",
        "validation": "45..59",
        "test": "30..39",
        "queries": "5..35",
    },
    "robotcar": {
        **UNKNOWN,
        "root": Path("other"),
        "layout": "names",
        "camera": "mono_left",
        "poses": "rtk",
        "rtk_root": (Path("../rtk"), {"poses": "rtk"}),
        "max_gap_s": 0.01,
        "distortion_table": Path("nowhere.bin"),
        "longest_side_px": 16,
        "image_format": "png",
        "jpeg_quality": 30,
        "num_processes": 1,
        "exposure_percentiles": (5.0, 95.0),
        "max_offset_m": 1.0,
        "leave_out": (DATES[2],),
        "regions": Path("regions.txt"),
        "protocol": "paper",
        "reference": DATES[1],
        "queries": (DATES[1],),
        "validation_reference": DATES[1],
        "validation_queries": (DATES[1],),
    },
    "streets": {
        "town_seed": 1,
        "train_length_m": 100.0,
        "validation_length_m": 100.0,
        "test_length_m": 100.0,
        "reference_spacing_m": 15.0,
        "query_spacing_m": 15.0,
        "image_width_px": 48,
        "image_height_px": 48,
        "num_processes": None,
    },
}
"""A value of each option, with further options if it needs some.

None where nothing may change: the town is the same for any number of processes.
"""
BASE = {
    "gsv-cities": {},
    "images": {"train": "frame=0..5", "test": "frame=6..9", "queries": "condition=dusk"},
    "msls": {"test_cities": ("cph",)},
    "pittsburgh": {},
    "poses": {"poses": Path("tum.txt"), "format": "tum", "train": "0..29", "test": "30..44"},
    "robotcar": {"protocol": "all"},
    "streets": SMALL_TOWN,
}


def images_tree(root):
    lines = ["path,easting_m,northing_m,heading_deg,frame,condition"]
    for frame in range(20):
        name, condition = f"{frame:02d}.png", ("noon", "dusk")[frame % 2]
        save(root / name, (frame, 10, 20))
        lines.append(f"{name},{500_000 + 9 * frame}.5,5700000.25,30,{frame // 2},{condition}")
    (root / "positions.csv").write_text("\n".join(lines))
    (root / "other.csv").write_text("\n".join([*lines[:12], *lines[14:]]))


def poses_tree(root):
    test_poses.tum(root)
    lines = (root / "tum.txt").read_text().splitlines()
    (root / "other.txt").write_text("\n".join(lines[:-1]))


def robotcar_with_rtk_elsewhere(root):
    robotcar_tree.write_tree(root, dates=DATES[:3])
    (root.parent / "rtk" / DATES[0]).mkdir(parents=True)
    (root / DATES[0] / "rtk.csv").rename(root.parent / "rtk" / DATES[0] / "rtk.csv")


TREES = {
    "gsv-cities": lambda root: city_trees.write_gsv(root, num_places=4),
    "images": images_tree,
    "msls": lambda root: city_trees.write_msls(root, num=8),
    "pittsburgh": pittsburgh_tree.write_tree,
    "poses": poses_tree,
    "robotcar": robotcar_with_rtk_elsewhere,
}


@pytest.fixture(scope="module")
def factories():
    found = [factory for _, factory in Registry.discover().factories(DatasetFactory)]
    return {factory.name: factory for factory in found if factory.name not in OF_TESTS}


def test_every_option_of_every_data_set_has_a_row(factories):
    named = {name: {f.name for f in fields(one.config)} for name, one in factories.items()}
    assert {name: {*rows} for name, rows in ROWS.items()} == named


@pytest.fixture(scope="module")
def outcome_of(factories, tmp_path_factory):
    """Return what can be seen of a data set that is opened with some options."""
    home = tmp_path_factory.mktemp("trees")
    seen = {}

    def outcome(name, options):
        root = home / name
        if not root.exists():
            for folder in (root, root / "other"):
                folder.mkdir()
            if name in TREES:
                TREES[name](root)
        key = name, tuple(sorted(options.items()))
        if key not in seen:
            given = dict(options)
            if "root" in {f.name for f in fields(factories[name].config)}:
                given = {"root": root, **given}
            if given.get("root") == Path("other"):
                given["root"] = root / "other"
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(root)
                seen[key] = opened(factories[name], given, home / "cache")
        return seen[key]

    return outcome


def opened(factory, options, cache):
    try:
        config = factory.config(**options)
        dataset = factory.build(config, BuildContext(cache_dir=cache))
        notes = require_sound(dataset, getattr(config, "accept_faults", ()))
        splits = splits_of(dataset)
        first = dataset.load_image(int(next(iter(splits.values())).references.index[0]))
    except MlcoreError as error:
        return str(error)
    columns = list(splits)
    for split in splits.values():
        for table in (split.references, split.queries):
            columns += [
                b"" if column is None else np.ascontiguousarray(column).tobytes()
                for column in (
                    table.positions_m,
                    table.headings_rad,
                    table.region,
                    np.array(table.traversals)[table.traversal],
                    np.array(table.conditions)[table.condition],
                )
            ]
            columns += [dataset.image_name(int(index)) for index in table.index]
    return dataset.notes, notes, columns, first.numpy().tobytes()


def rows():
    for name, options in ROWS.items():
        marks = [pytest.mark.walk] if name == "streets" else []
        for option, value in options.items():
            yield pytest.param(name, option, value, id=f"{name} {option}", marks=marks)


@pytest.mark.parametrize(("name", "option", "value"), list(rows()))
def test_an_option_of_a_data_set_has_an_effect(outcome_of, name, option, value):
    others = BASE[name]
    if isinstance(value, tuple) and value and isinstance(value[-1], dict):
        value, more = value
        others = {**others, **more}
    if value is None:
        assert outcome_of(name, others) == outcome_of(name, {**others, option: 2})
        return
    value = (value,) if option == "accept_faults" else value
    assert outcome_of(name, others) != outcome_of(name, {**others, option: value})


@pytest.mark.parametrize("name", [n for n in ROWS if n != "streets"])
def test_the_trees_open(outcome_of, name):
    """Else options would be compared by the message of one error."""
    assert not isinstance(outcome_of(name, BASE[name]), str)


@pytest.mark.parametrize(
    ("option", "value", "others"),
    [  # max_offset_m needs drives beside each other: tests/plugins/robotcar/test_prepare.py
        ("image_format", "png", {}),
        ("jpeg_quality", 30, {}),
        ("jpeg_quality", 30, {"image_format": "png"}),
        ("exposure_percentiles", (20.0, 80.0), {}),
        ("longest_side_px", 16, {}),
        ("max_gap_s", 0.01, {}),
        ("rtk_root", Path("nowhere"), {}),
    ],
)
def test_an_option_of_preparing_robotcar_has_an_effect(
    factories, tmp_path, option, value, others
):
    robotcar_tree.write_tree(tmp_path / "raw", dates=DATES[:2])
    factory = factories["robotcar"]
    found = []
    for number, options in enumerate((others, {**others, option: value})):
        out = tmp_path / str(number)
        config = factory.config(
            root=tmp_path / "raw", protocol="all", num_processes=1, **options
        )
        try:
            factory.prepare(config, out, no_progress)
        except MlcoreError as error:
            found.append(str(error))
            continue
        pictures = sorted(p for p in out.rglob("*") if p.suffix in (".jpg", ".png"))
        kept = opened(factory, {"root": out, "protocol": "all"}, tmp_path)
        found.append(([(p.name, p.read_bytes()) for p in pictures], kept))
    assert found[0] != found[1]
    assert not isinstance(found[0], str)
