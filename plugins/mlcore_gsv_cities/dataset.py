"""Opens GSV-Cities: the images of each city by their names, each city a region."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.data import (
    MAX_EXAMPLES,
    ListedImages,
    Zone,
    file_names,
    project,
    split_cities,
    wrap_rad,
)
from mlcore.errors import ConfigError, DataError
from mlcore.factories import Finding
from mlcore.protocols import PlaceTable, Split
from mlcore_gsv_cities.config import GsvCitiesConfig
from mlcore_gsv_cities.names import View, parse_all

_SUFFIXES = (".jpg", ".jpeg", ".png")
IMAGES = "Images"


def open_gsv_cities(config: GsvCitiesConfig) -> ListedImages:
    """Open GSV-Cities.

    Raises:
        ConfigError: The root is missing, or a city is in two splits.
        DataError: The folder Images is missing, no city of that name, or a city without images.
    """
    root = root_of(config)
    chosen = cities_of(config, root)
    cities = [city for names in chosen.values() for city in names]
    views: list[View] = []
    city: list[int] = []
    paths: list[str] = []
    findings: list[Finding] = []
    for number, name in enumerate(cities):
        found, others = read_city(root, name)
        if others:
            message = f"{name}: file names of another form are left out"
            examples = tuple(others[:MAX_EXAMPLES])
            findings.append(Finding("warning", message, len(others), examples, "left-out"))
        views += found
        city += [number] * len(found)
        paths += [f"{IMAGES}/{name}/{view.name}" for view in found]
    table = _table(views, np.array(city, np.int64), cities)
    place = np.array([view.place for view in views], np.int64)
    splits = {
        split: _split(
            split, table.take(np.isin(table.traversal, [cities.index(c) for c in names])), place
        )
        for split, names in chosen.items()
        if names
    }
    return ListedImages(
        root,
        np.array(paths),
        splits,
        (_summary(table, place), *_wrapped(views), *findings),
        coordinates_deg=np.array([(view.latitude_deg, view.longitude_deg) for view in views]),
        without={
            "train": "all cities are in validation_cities or test_cities",
            "validation": "set dataset.validation_cities to cities to validate on",
            "test": "GSV-Cities is for training: set dataset.test_cities to cities to test "
            "on, or add a data set to test on, as in --dataset gsv-cities,msls",
        },
    )


def root_of(config: GsvCitiesConfig) -> Path:
    """Return the root, in which there is a folder Images."""
    if config.root is None:
        raise ConfigError(
            "data set 'gsv-cities' needs dataset.root, the folder with Images and Dataframes"
        )
    root = config.root.expanduser()
    if not (root / IMAGES).is_dir():
        raise DataError(
            f"dataset.root is {root}, which has no folder {IMAGES}; give the folder that the "
            f"archive was extracted to, with {IMAGES} and Dataframes"
        )
    return root


def cities_of(config: GsvCitiesConfig, root: Path) -> dict[str, tuple[str, ...]]:
    """Return the cities of each split."""
    return split_cities(
        root / IMAGES,
        train=config.cities,
        validation=config.validation_cities,
        test=config.test_cities,
    )


def read_city(root: Path, city: str) -> tuple[list[View], list[str]]:
    """Return the views of a city, and names of images of another form.

    Raises:
        DataError: It has no image.
    """
    names = file_names(root / IMAGES / city)
    images = [name for name in names if name.lower().endswith(_SUFFIXES)]
    views, others = parse_all(images)
    if not views:
        raise DataError(
            f"{root / IMAGES / city} has no image named like {city}_0000001_2015_06_158_"
            "LATITUDE_LONGITUDE_PANORAMA.JPG; extract the images of the city again"
        )
    return views, others


def _table(views: Sequence[View], city: NDArray[np.int64], cities: Sequence[str]) -> PlaceTable:
    longitude = np.array([view.longitude_deg for view in views])
    latitude = np.array([view.latitude_deg for view in views])
    positions_m = np.empty((len(views), 2))
    for number in range(len(cities)):
        mine = city == number
        zone = Zone.of(longitude[mine], latitude[mine])
        positions_m[mine] = project(longitude[mine], latitude[mine], zone)
    own = np.stack([city, [view.place for view in views]])
    place = np.unique(own, axis=1, return_inverse=True)[1].ravel()
    headings_deg = np.array([view.heading_deg for view in views])
    return PlaceTable(
        index=np.arange(len(views)),
        positions_m=positions_m,
        headings_rad=wrap_rad(np.radians(headings_deg)),
        traversal=city,
        traversals=tuple(cities),
        condition=np.zeros(len(views), np.int64),
        conditions=("all",),
        region=city if len(cities) > 1 else None,
        regions=tuple(cities) if len(cities) > 1 else (),
        place=place,
    )


def _split(name: str, table: PlaceTable, place: NDArray[np.int64]) -> Split:
    """Return all images as references to train on; else the newest of each place as query."""
    if name == "train" or not len(table):
        return Split(references=table, queries=table.take(slice(0, 0)))
    own = np.stack([table.traversal, place[table.index]], axis=1)
    # Rows are in the order of city, place and time: the last of each place is the newest.
    new = np.append(np.any(own[1:] != own[:-1], axis=1), True)
    alone = new & np.append(True, new[:-1])
    return Split(references=table.take(~new), queries=table.take(new & ~alone))


def _summary(table: PlaceTable, place: NDArray[np.int64]) -> Finding:
    places = np.unique(np.stack([table.traversal, place]), axis=1).shape[1]
    cities = len(table.traversals)
    return Finding("info", f"{len(table):,} images of {places:,} places in {cities} cities")


def _wrapped(views: Sequence[View]) -> list[Finding]:
    beyond = [view.name for view in views if not 0.0 <= view.heading_deg <= 360.0]
    if not beyond:
        return []
    message = "headings outside 0 to 360 degrees are wrapped to a full turn"
    return [Finding("info", message, len(beyond), tuple(beyond[:MAX_EXAMPLES]))]
