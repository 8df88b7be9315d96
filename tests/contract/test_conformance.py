"""The conformance kit over everything that is shipped, plugin by plugin, check by check."""

from __future__ import annotations

from importlib.metadata import entry_points

import numpy as np
import pytest
from PIL import Image

from mlcore.hookspecs import ENTRY_POINT_GROUP
from mlcore.registry.discovery import Registry
from mlcore.testing import CheckSkipped, checks
from mlcore_gsv_cities.config import GsvCitiesConfig
from mlcore_images.config import ImagesConfig
from mlcore_msls.config import MslsConfig
from mlcore_streets.config import StreetsConfig
from tests.support.city_trees import write_gsv, write_msls

SHIPPED = sorted(
    point.name
    for point in entry_points(group=ENTRY_POINT_GROUP)
    if point.dist is not None and point.dist.name == "mlcore-localization"
)

# A town that is rendered in seconds; the one of the default options is a slow test.
SMALL_TOWN = StreetsConfig(
    train_length_m=120,
    validation_length_m=60,
    test_length_m=60,
    reference_spacing_m=6,
    query_spacing_m=8,
    image_width_px=48,
    image_height_px=32,
    num_processes=1,
)
CONFIGS = {"streets": {"streets": SMALL_TOWN}}

CHECKS = [
    check
    for plugin in Registry.discover(only=SHIPPED).plugins
    if plugin.status != "blocked"
    for check in checks(plugin.name, configs=CONFIGS.get(plugin.name))
]


@pytest.mark.parametrize("check", CHECKS, ids=str)
def test_conformance(check):
    check()


def test_every_component_is_checked():
    components = {
        f"{plugin.name}/{factory.kind}/{factory.name}"
        for plugin in Registry.discover(only=SHIPPED).plugins
        for factory in plugin.factories
    }
    assert len(components) > 40
    assert components <= {f"{check.plugin}/{check.component}" for check in CHECKS}


@pytest.mark.slow
def test_the_town_of_the_default_options():
    """What depends on the size of a town; the other checks see a small one.

    Only its images are small: no check here looks at them, and drawing them takes minutes.
    """
    small_images = {"streets": StreetsConfig(image_width_px=32, image_height_px=32)}
    named = {
        check.name: check
        for check in checks("streets", only="dataset/streets/*", configs=small_images)
    }
    for name in ("metres-plausible", "splits-disjoint"):
        named[name]()


def test_a_folder_of_ones_own_images(tmp_path):
    """The data set that has none of its own: all its checks run, none is skipped."""
    generator = np.random.default_rng(0)
    for number, split in enumerate(("train", "val", "test")):
        for role in ("database", "queries"):
            folder = tmp_path / split / role
            folder.mkdir(parents=True)
            for along in range(12):
                image = generator.integers(0, 256, size=(8, 8, 3), dtype=np.uint8)
                easting = 455_000 + 1000 * number + 2 * along
                name = f"@{easting}.0@5735000.0@@@@@{along}@.png"
                Image.fromarray(image).save(folder / name)
    assert num_checked("images", ImagesConfig(root=tmp_path)) == 11


def num_checked(name, config):
    """Run all checks of a data set, none of which may be skipped; return how many there are."""
    ran = 0
    for check in checks(name, only="dataset/*", configs={name: config}):
        try:
            check()
        except CheckSkipped as skipped:
            pytest.fail(f"{check} did not run: {skipped}")
        ran += 1
    return ran


def test_data_sets_of_many_cities(tmp_path):
    write_gsv(tmp_path / "gsv", cities=("London", "Tokyo", "cph", "sf"))
    apart = {"validation_cities": ("cph",), "test_cities": ("sf",)}
    assert num_checked("gsv-cities", GsvCitiesConfig(root=tmp_path / "gsv", **apart)) == 11
    write_msls(tmp_path / "msls", cities=("goa", "London", "cph", "sf"))
    assert num_checked("msls", MslsConfig(root=tmp_path / "msls", **apart)) == 11
