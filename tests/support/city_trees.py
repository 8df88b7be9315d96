"""Trees in the published form of GSV-Cities and MSLS: their names and tables, small images."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from tests.support.image_folders import save

PLACES = {
    "London": (51.5072, -0.1276),
    "Tokyo": (35.6895, 139.6917),
    "Sydney": (-33.87, 151.21),
    "cph": (55.676, 12.568),
    "sf": (37.775, -122.418),
    "goa": (15.49, 73.82),
}
_DEGREES_PER_M = 1 / 111_195
VIEW = ("view_direction",)


def gsv_names(city: str, num_places: int, per_place: int = 4, seed: int = 0):
    """Return names and table rows of a city: places 40 m apart, images some metres apart."""
    generator = np.random.default_rng(seed)
    latitude, longitude = PLACES[city]
    names, rows = [], []
    letters = np.array(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"))
    for place in range(num_places):
        for view in range(per_place):
            north_m, east_m = generator.normal((0, 40 * place), 2)
            lat = round(latitude + north_m * _DEGREES_PER_M, 13)
            lon = longitude + east_m * _DEGREES_PER_M / np.cos(np.radians(latitude))
            lon = round(float(lon), 13)
            panorama = "".join(generator.choice(letters, 22))
            heading = int(generator.integers(-10, 732))
            year, month = 2007 + 3 * view, int(generator.integers(1, 13))
            names.append(
                f"{city}_{place:07d}_{year:04d}_{month:02d}_{heading:03d}_{lat}_{lon}_"
                f"{panorama}.JPG"
            )
            rows.append((place, year, month, heading, city, lat, lon, panorama))
    return names, rows


def write_gsv(root: Path, cities=("London", "Tokyo"), num_places: int = 12) -> Path:
    for number, city in enumerate(cities):
        names, rows = gsv_names(city, num_places, seed=number)
        for shade, name in enumerate(names):
            save(root / "Images" / city / name, (shade % 256, 40 * number, 90), (64, 48))
        header = ("place_id", "year", "month", "northdeg", "city_id", "lat", "lon", "panoid")
        _write_csv(root / "Dataframes" / f"{city}.csv", header, rows)
    return root


def write_msls(root: Path, cities=("cph", "goa"), num: int = 24) -> Path:
    """Write cities of two sequences of images 8 m apart; the third image is a panorama."""
    for number, city in enumerate(cities):
        for role, offset in (("database", 0.0), ("query", 3.0)):
            _write_msls_role(root / "train_val" / city / role, city, role, number, num, offset)
    return root


def _write_msls_role(folder: Path, city: str, role: str, number: int, num: int, offset: float):
    latitude, longitude = PLACES[city]
    keys = [f"{city}{role}{k:03d}-_x" for k in range(num)]
    for shade, key in enumerate(keys):
        save(folder / "images" / f"{key}.jpg", (shade, 40 * number, 200), (64, 48))
    processed, raw, sequences, subtasks = [], [], [], []
    for k, key in enumerate(keys):
        is_night = k >= num // 2
        view = ("Forward", "Sideways")[k % 2]
        east = 400_000.0 + 8 * k + offset
        processed.append((k, key, east, 5_000_000.0, k // 4, is_night, False, view))
        month = "2018-01" if is_night else "2018-07"
        raw.append((k, key, longitude, latitude, 10.0 * k, f"{month}-05", k == 2))
        sequences.append((k, key, f"s{k * 2 // num}", k))
        subtasks.append((k, key, True, *([role == "database", False] * 3)))
    _write_csv(
        folder / "postprocessed.csv",
        ("", "key", "easting", "northing", "unique_cluster", "night", "control_panel", *VIEW),
        processed,
    )
    _write_csv(
        folder / "raw.csv", ("", "key", "lon", "lat", "ca", "captured_at", "pano"), raw[::-1]
    )
    _write_csv(folder / "seq_info.csv", ("", "key", "sequence_key", "frame_number"), sequences)
    _write_csv(
        folder / "subtask_index.csv",
        ("", "key", "all", "s2w", "w2s", "o2n", "n2o", "d2n", "n2d"),
        subtasks,
    )


def _write_csv(path: Path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
