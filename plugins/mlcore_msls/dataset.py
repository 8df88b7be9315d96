"""Opens MSLS: cities as regions, drives as traversals, panoramas left out and counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.data import ListedImages, split_cities, wrap_rad
from mlcore.errors import ConfigError, DataError
from mlcore.factories import Finding
from mlcore.protocols import PlaceTable, Split
from mlcore_msls.config import MslsConfig
from mlcore_msls.tables import ROLES, CityRows, read_city

_SEASONS = ("winter", "spring", "summer", "autumn")

_Part = tuple[str, str, CityRows]
"""City, role and rows."""


def open_msls(config: MslsConfig) -> ListedImages:
    """Open MSLS.

    Raises:
        ConfigError: The root is missing, or a city is in two splits.
        DataError: The folder train_val or a city is missing, or a table is malformed.
    """
    root = root_of(config)
    chosen = cities_of(config, root)
    cities = [city for names in chosen.values() for city in names]
    parts = [
        (city, role, _selected(config, split, read_city(root, city, role, config.subtask)))
        for split, names in chosen.items()
        for city in names
        for role in ROLES
    ]
    parts = [part for part in parts if len(part[2])]
    if not parts:
        raise DataError(f"no image of {root} has the view direction {config.view}")
    table = _table(parts, cities, config.condition)
    role = np.repeat([part[1] for part in parts], [len(part[2]) for part in parts])
    city = np.repeat([part[0] for part in parts], [len(part[2]) for part in parts])
    splits = {
        split: Split(
            references=table.take(np.isin(city, names) & (role == ROLES[0])),
            queries=table.take(np.isin(city, names) & (role == ROLES[1])),
        )
        for split, names in chosen.items()
        if names
    }
    return ListedImages(
        root,
        np.concatenate([part[2].paths for part in parts]),
        splits,
        _findings(parts, table),
        times_s=_times_s(parts),
        without={
            "train": "all cities are in validation_cities or test_cities",
            "validation": "set dataset.validation_cities to cities to validate on",
            "test": "set dataset.test_cities to cities to test on, such as cph,sf",
        },
    )


def root_of(config: MslsConfig) -> Path:
    """Return the root, in which there is a folder train_val."""
    if config.root is None:
        raise ConfigError("data set 'msls' needs dataset.root, the folder with train_val")
    root = config.root.expanduser()
    if not (root / "train_val").is_dir():
        raise DataError(
            f"dataset.root is {root}, which has no folder train_val; give the folder that the "
            "archives were extracted to"
        )
    return root


def cities_of(config: MslsConfig, root: Path) -> dict[str, tuple[str, ...]]:
    """Return the cities of each split; of default test cities, those that are there."""
    folder, test = root / "train_val", config.test_cities
    if test == MslsConfig().test_cities:
        test = tuple(city for city in test if (folder / city).is_dir())
    return split_cities(
        folder, train=config.cities, validation=config.validation_cities, test=test
    )


def _selected(config: MslsConfig, split: str, rows: CityRows) -> CityRows:
    keep = np.ones(len(rows), bool)
    if split != "train":
        keep &= rows.in_subtask
    if config.view != "all":
        keep &= rows.view == config.view
    return rows.take(keep)


def _table(parts: list[_Part], cities: list[str], condition: str) -> PlaceTable:
    rows = [part[2] for part in parts]
    headings_deg = np.concatenate([part.heading_deg for part in rows])
    drives = np.concatenate(
        [[f"{city}/{role}/{name}" for name in part.sequence] for city, role, part in parts]
    )
    traversals, traversal = np.unique(drives, return_inverse=True)
    conditions, code = np.unique(
        np.concatenate([_conditions(part, condition) for part in rows]), return_inverse=True
    )
    region = np.repeat(
        [cities.index(city) for city, _, _ in parts], [len(part) for part in rows]
    )
    return PlaceTable(
        index=np.arange(len(headings_deg)),
        positions_m=np.concatenate([part.positions_m for part in rows]),
        headings_rad=(
            wrap_rad(np.radians(headings_deg)) if np.isfinite(headings_deg).all() else None
        ),
        traversal=traversal,
        traversals=tuple(traversals.tolist()),
        condition=code,
        conditions=tuple(conditions.tolist()),
        region=region if len(cities) > 1 else None,
        regions=tuple(cities) if len(cities) > 1 else (),
    )


def _conditions(rows: CityRows, condition: str) -> NDArray[np.str_]:
    if condition == "night":
        return np.where(rows.night, "night", "day")
    if condition == "view":
        return rows.view
    if condition == "season":
        return _seasons(rows)
    return np.full(len(rows), "all")


def _seasons(rows: CityRows) -> NDArray[np.str_]:
    """Return the meteorological season of each image: December to February is winter."""
    known = ~np.isnat(rows.captured)
    months = np.where(known, rows.captured, np.datetime64("2000-01-01")).astype("datetime64[M]")
    quarter = (months.astype(np.int64) % 12 + 1) % 12 // 3
    quarter = np.where(rows.latitude_deg < 0, (quarter + 2) % 4, quarter)
    return np.where(known, np.array(_SEASONS)[quarter], "unknown")


def _times_s(parts: list[_Part]) -> NDArray[np.float64]:
    days = np.concatenate([part[2].captured for part in parts])
    seconds = days.astype("datetime64[s]").astype(np.float64)
    return np.where(np.isnat(days), np.nan, seconds)


def _findings(parts: list[_Part], table: PlaceTable) -> list[Finding]:
    cities = len({city for city, _, _ in parts})
    findings = [
        Finding(
            "info",
            f"{len(table):,} images of {cities} cities in {len(table.traversals):,} sequences",
        )
    ]
    panoramas = sum(part[2].num_panoramas for part in parts)
    if panoramas:
        findings.append(Finding("info", "panoramas are left out", panoramas))
    headings_deg = np.concatenate([part[2].heading_deg for part in parts])
    unknown = int(np.isnan(headings_deg).sum())
    if unknown:
        message = "images have no compass angle, so headings are not used"
        findings.append(Finding("info", message, unknown))
    return findings
