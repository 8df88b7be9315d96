"""Regions of your own images: columns, UTM zones of names, groups of latitude and longitude."""

from __future__ import annotations

import numpy as np
import pytest
from pyproj import Geod, Transformer

from mlcore_images.checks.checking import check_images
from mlcore_images.config import ImagesConfig
from tests.support.image_folders import build, error_of, save

LONDON, TOKYO = (-0.1276, 51.5072), (139.6917, 35.6895)
SPLIT = {"train": "*"}


def table(folder, header, rows):
    lines = [",".join(map(str, (f"{number}.jpg", *row))) for number, row in enumerate(rows)]
    for number in range(len(rows)):
        save(folder / f"{number}.jpg")
    (folder / "positions.csv").write_text("\n".join([f"path,{header}", *lines]) + "\n")
    return folder


def around(place, num, seed):
    spread = np.random.default_rng(seed).normal(0, 0.05, (num, 2))
    return (np.array(place) + spread).tolist()


def notes_of(dataset, word):
    return [note for note in dataset.notes if word in note]


def test_a_column_names_regions(tmp_path):
    rows = [(0, 0, "Berlin"), (1, 0, "Paris"), (2, 0, " Berlin ")]
    data = build(table(tmp_path, "easting_m,northing_m,region", rows), **SPLIT)
    found = data.train.references
    assert found.regions == ("Berlin", "Paris")
    assert found.region.tolist() == [0, 1, 0]
    assert notes_of(data, "2 regions, infinitely far from each other: Berlin (2 images), Paris")


def test_any_column_or_part_of_the_path_can_name_regions(tmp_path):
    for city in ("rome", "oslo"):
        save(tmp_path / city / "train" / "@5@5@.jpg")
    data = build(tmp_path, region="folder1")
    assert data.train.references.regions == ("oslo", "rome")
    assert build(tmp_path).train.references.region is None
    told = error_of(tmp_path, region="folder3")
    assert "folder3 is empty, so that the image has no region" in told
    assert "has no column 'town'" in error_of(tmp_path, region="town")


def test_one_region_or_none_is_no_region(tmp_path):
    rows = [(0, 0, "Berlin"), (1, 0, "Berlin")]
    folder = table(tmp_path, "easting_m,northing_m,region", rows)
    assert build(folder, **SPLIT).train.references.region is None
    rows[1] = (1, 0, "Paris")
    table(tmp_path, "easting_m,northing_m,region", rows)
    assert build(folder, region="none", **SPLIT).train.references.region is None


def test_a_region_column_with_gaps_is_refused(tmp_path):
    rows = [(0, 0, "Berlin"), (1, 0, "")]
    told = error_of(table(tmp_path, "easting_m,northing_m,region", rows), **SPLIT)
    assert "line 3: region is empty, so that the image has no region" in told
    assert "name the region of every image, or set dataset.region to none" in told


def test_london_and_tokyo_are_projected_apart(tmp_path):
    degrees = around(LONDON, 40, 1) + around(TOKYO, 30, 2)
    data = build(table(tmp_path, "longitude,latitude", degrees), **SPLIT)
    found = data.train.references
    assert found.regions == ("1", "2")
    assert np.bincount(found.region).tolist() == [40, 30]
    assert notes_of(data, "form 2 groups more than 100 km apart, which are taken for regions")
    assert notes_of(data, "projected to UTM zone 1: 30N, 2: 54N")
    for code in (0, 1):
        mine = found.region == code
        lon, lat = np.array(degrees)[mine].T
        _, _, geodesic = Geod(ellps="WGS84").inv(lon[:-1], lat[:-1], lon[1:], lat[1:])
        metres = np.linalg.norm(np.diff(found.positions_m[mine], axis=0), axis=1)
        assert np.abs(metres / geodesic - 1).max() < 1e-3


def test_named_regions_are_projected_each_in_its_own_zone(tmp_path):
    degrees = [(*place, "b") for place in around(LONDON, 4, 1)]
    degrees += [(*place, "a") for place in around(TOKYO, 3, 2)]
    data = build(table(tmp_path, "longitude,latitude,region", degrees), **SPLIT)
    assert data.train.references.regions == ("a", "b")
    assert notes_of(data, "projected to UTM zone a: 54N, b: 30N")


def test_groups_less_than_100_km_apart_are_one_region(tmp_path):
    degrees = around((8.0, 50.0), 30, 1) + around((8.0, 50.5), 30, 2)
    assert (
        build(table(tmp_path, "longitude,latitude", degrees), **SPLIT).train.references.region
        is None
    )


def test_a_row_in_a_wrong_place_is_no_region(tmp_path):
    degrees = [*around(LONDON, 60, 1), (5.0, 52.0)]
    folder = table(tmp_path, "longitude,latitude", degrees)
    assert build(folder, **SPLIT).train.references.region is None
    report = check_images(ImagesConfig(root=folder, test="*", queries="path=60.jpg"))
    assert any(finding.name == "far-rows" for finding in report.findings)


def named(folder, rows, split="train"):
    for number, (easting, northing, zone, band) in enumerate(rows):
        save(folder / split / f"@{easting:.2f}@{northing:.2f}@{zone}@{band}@@@{number}@.jpg")
    return folder


def test_zones_of_names_are_regions_with_equal_numbers(tmp_path):
    rows = [(400_000.0, 5_700_000.0, 30, "U"), (400_000.0, 5_700_000.0, 54, "S")]
    found = build(named(tmp_path, rows)).train.references
    assert found.regions == ("30N", "54N")
    assert found.positions_m.tolist() == [[400_000.0, 5_700_000.0]] * 2


def test_bands_of_one_hemisphere_are_one_region(tmp_path):
    rows = [(400_000.0, 5e6, 33, band) for band in ("T", "U", "X", "")]
    assert build(named(tmp_path, rows)).train.references.region is None
    rows = [(400_000.0, 5e6, 33, "T"), (400_000.0, 5e6, 33, "M"), (4e5 + 1, 5e6, 33, "C")]
    found = build(named(tmp_path / "both", rows)).train.references
    counts = np.bincount(found.region).tolist()
    assert dict(zip(found.regions, counts, strict=True)) == {"33N": 1, "33S": 2}


def test_a_place_across_the_edge_of_two_zones_is_one_region(tmp_path):
    """6 degrees east of Greenwich zone 31 ends; two images there are 70 m apart."""
    to_31, to_32 = (
        Transformer.from_crs("EPSG:4326", f"EPSG:{code}", always_xy=True)
        for code in (32631, 32632)
    )
    rows = [(*to_31.transform(5.9995, 50.0), 31, "U"), (*to_31.transform(5.999, 50.0), 31, "U")]
    rows.append((*to_32.transform(6.0005, 50.0), 32, "U"))
    data = build(named(tmp_path, rows))
    found = data.train.references
    assert found.region is None
    _, _, geodesic = Geod(ellps="WGS84").inv(5.9995, 50.0, 6.0005, 50.0)
    by_name = sorted(found.positions_m[:, 0].tolist())
    assert by_name[2] - by_name[1] == pytest.approx(geodesic, rel=1e-3)
    assert notes_of(
        data, "images in UTM zones 31N, 32N share a region: all are converted to zone 31N"
    )


def test_the_equator_runs_through_a_region(tmp_path):
    south = Transformer.from_crs("EPSG:4326", "EPSG:32717", always_xy=True)
    north = Transformer.from_crs("EPSG:4326", "EPSG:32617", always_xy=True)
    rows = [
        (*south.transform(-78.45, -0.001), 17, "M"),
        (*north.transform(-78.45, 0.001), 17, "N"),
    ]
    found = build(named(tmp_path, rows)).train.references
    assert found.region is None
    assert np.ptp(found.positions_m[:, 1]) == pytest.approx(221.1, abs=0.5)


def test_a_name_without_a_zone_beside_two_zones_is_refused(tmp_path):
    rows = [(4e5, 5e6, 30, "U"), (4e5, 5e6, 54, "S"), (4e5, 5e6, "", "")]
    told = error_of(named(tmp_path, rows))
    assert "is no UTM zone, while others are in 30N, 54N" in told
    assert build(tmp_path, region="none").train.references.region is None


def test_the_report_has_the_extent_of_each_region(tmp_path):
    rows = [(400_000.0 + x, 5.7e6, zone, "U") for x in (0, 30) for zone in (30, 33)]
    named(tmp_path, rows, "test")
    report = check_images(ImagesConfig(root=tmp_path, queries="zone=30U"))
    assert report.facts["extent of 30N"] == report.facts["extent of 33N"] == "30 x 0 m"


def test_the_fingerprint_knows_regions(tmp_path):
    rows = [(0, 0, "Berlin"), (1, 0, "Paris")]
    folder = table(tmp_path, "easting_m,northing_m,region", rows)
    assert (
        build(folder, **SPLIT).fingerprint != build(folder, region="none", **SPLIT).fingerprint
    )
