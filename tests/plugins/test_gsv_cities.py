"""GSV-Cities in the published form: names, tables, splits, and a run on them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from pyproj import Geod

from mlcore.errors import ConfigError, DataError
from mlcore.factories import BuildContext
from mlcore_gsv_cities.checking import check_gsv_cities
from mlcore_gsv_cities.config import GsvCitiesConfig
from mlcore_gsv_cities.names import parse, parse_all
from mlcore_gsv_cities.plugin import mlcore_datasets
from tests.support.city_trees import gsv_names, write_gsv
from tests.support.image_folders import build as build_images

FACTORY = mlcore_datasets()[0]


def build(root, **options):
    return FACTORY.build(GsvCitiesConfig(root=root, **options), BuildContext())


def faults_of(root, **options):
    report = check_gsv_cities(GsvCitiesConfig(root=root, **options))
    return [str(one) for one in report.findings if one.severity == "fault"]


def test_twenty_thousand_names_are_parsed():
    names, rows = gsv_names("London", 5000)
    views, others = parse_all(names)
    assert (len(views), others) == (20_000, [])
    found = {
        (v.place, v.heading_deg, v.latitude_deg, v.longitude_deg, v.panorama) for v in views
    }
    assert found == {(r[0], float(r[3]), r[5], r[6], r[7]) for r in rows}
    assert any("_" in view.panorama and "-" in view.panorama for view in views)
    assert min(view.heading_deg for view in views) < 0
    assert max(view.heading_deg for view in views) > 720


def test_names_of_the_published_readme_are_parsed():
    """As it shows them: another abbreviation than the folder, headings beyond a full turn."""
    names = [
        "PRS_0000003_2015_05_584_48.79733778544615_2.231461206488333_7P0FnGV3k4Fmtw66b8_-Gg.JPG",
        "Boston_0006385_2018_09_117_42.37602467319898_-71.0689666533628_NWx_VsRKGwOQnvV8Gllyog.JPG",
        "London_0000130_2018_04_015_51.4861_-0.0895151_6jFjb3wGyCkcBfq4k559ag.JPG",
    ]
    views, others = parse_all(names)
    assert others == []
    assert [(v.place, v.heading_deg) for v in views] == [(3, 584), (130, 15), (6385, 117)]
    assert views[0].panorama == "7P0FnGV3k4Fmtw66b8_-Gg"
    assert views[2].longitude_deg == -71.0689666533628


def test_the_same_names_between_ats_open_as_your_own_images(tmp_path):
    """Twenty thousand of them, listed as files without a pixel."""
    names, rows = gsv_names("Tokyo", 5000)
    folder = tmp_path / "train"
    folder.mkdir()
    for k, (_, year, month, heading, _, lat, lon, panorama) in enumerate(rows):
        fields = (500_000 + k, 4_000_000, 54, "S", lat, lon, panorama, "", heading)
        stamp = f"{year}{month:02d}"
        (folder / f"@{'@'.join(map(str, fields))}@@@@{stamp}@@.jpg").touch()
    data = build_images(tmp_path)
    assert len(data.train.references) == len(names) == 20_000
    headings = data.train.references.headings_rad
    assert (np.abs(headings) <= np.pi).all()


@pytest.mark.parametrize(
    "name",
    [
        "London_0000001_2015_06_158_51.5.JPG",
        "London_x_2015_06_158_51.5_0.1_pano.JPG",
        "London_0000001_2015_06_158_95_0.1_pano.JPG",
        "London_0000001_2015_06_nan_51.5_0.1_pano.JPG",
        "cover.jpg",
    ],
)
def test_names_of_another_form_are_no_views(name):
    assert parse(name) is None


def test_cities_are_regions_in_metres(tmp_path):
    data = build(write_gsv(tmp_path))
    table = data.train.references
    assert len(table) == 96
    assert table.regions == table.traversals == ("London", "Tokyo")
    assert np.bincount(table.region).tolist() == [48, 48]
    names = [data.image_name(index).rpartition("/")[2] for index in table.index.tolist()]
    views = [parse(name) for name in names]
    for city in (0, 1):
        mine = np.flatnonzero(table.region == city)
        lat = np.array([views[row].latitude_deg for row in mine])
        lon = np.array([views[row].longitude_deg for row in mine])
        _, _, geodesic = Geod(ellps="WGS84").inv(lon[:-1], lat[:-1], lon[1:], lat[1:])
        metres = np.linalg.norm(np.diff(table.positions_m[mine], axis=0), axis=1)
        assert np.abs(metres / geodesic - 1).max() < 1e-3
    expected = np.radians([view.heading_deg for view in views])
    assert np.allclose(np.cos(table.headings_rad), np.cos(expected))
    assert (np.abs(table.headings_rad) <= np.pi).all()
    assert any("96 images of 24 places in 2 cities" in note for note in data.notes)
    assert any("headings outside 0 to 360 degrees are wrapped" in note for note in data.notes)


def test_the_newest_image_of_each_place_of_a_test_city_is_a_query(tmp_path):
    data = build(write_gsv(tmp_path), test_cities=("Tokyo",))
    assert len(data.train.references) == 48
    assert (len(data.test.references), len(data.test.queries)) == (36, 12)
    years = [data.image_name(i).split("_")[2] for i in data.test.queries.index.tolist()]
    assert Counter(years) == {"2016": 12}
    with pytest.raises(DataError, match=r"set dataset\.validation_cities"):
        _ = data.validation


def test_without_a_test_city_the_message_says_what_to_do(tmp_path):
    data = build(write_gsv(tmp_path))
    with pytest.raises(DataError, match="as in --dataset gsv-cities,msls"):
        _ = data.test


def test_a_whole_tree_has_no_fault(tmp_path):
    assert faults_of(write_gsv(tmp_path), test_cities=("Tokyo",)) == []


def test_rows_without_an_image_and_images_without_a_row_are_found(tmp_path):
    root = write_gsv(tmp_path)
    images = sorted((root / "Images" / "London").iterdir())
    images[3].unlink()
    images[4].rename(images[4].with_name(images[4].name.replace("_2", "_1", 1)))
    (root / "Images" / "London" / "cover.jpg").touch()
    report = check_gsv_cities(GsvCitiesConfig(root=root, test_cities=("Tokyo",)))
    texts = "\n".join(str(one) for one in report.findings)
    assert (
        "London: rows of Dataframes/London.csv have no image; extract its images again (2"
        in texts
    )
    assert "London: images are not in Dataframes/London.csv (1" in texts
    assert "London: places have fewer than 4 images" in texts
    assert "London: file names of another form are left out (1: cover.jpg)" in texts
    assert not report.ok


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"cities": ("Lodnon",)}, DataError, "has no city 'Lodnon'; did you mean 'London'"),
        (
            {"cities": ("Tokyo",), "test_cities": ("Tokyo",)},
            ConfigError,
            "listed more than once",
        ),
    ],
)
def test_wrong_cities_are_refused(tmp_path, options, kind, message):
    write_gsv(tmp_path, num_places=2)
    with pytest.raises(kind, match=message):
        build(tmp_path, **options)


def test_wrong_roots_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"needs dataset\.root"):
        FACTORY.build(GsvCitiesConfig(), BuildContext())
    with pytest.raises(DataError, match="which has no folder Images"):
        build(tmp_path)
    (tmp_path / "Images" / "Rome").mkdir(parents=True)
    with pytest.raises(DataError, match="has no image named like Rome_0000001_2015_06_158_"):
        build(tmp_path)
