"""``mlcore data check gsv-cities``: names against the tables in Dataframes, and the images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv

from mlcore.data import MAX_EXAMPLES, check_files, check_opened, check_splits
from mlcore.errors import DataError
from mlcore.factories import Finding, Report
from mlcore_gsv_cities.config import RADII, GsvCitiesConfig
from mlcore_gsv_cities.dataset import cities_of, open_gsv_cities, read_city, root_of
from mlcore_gsv_cities.names import View

TABLES = "Dataframes"
_COLUMNS = ("place_id", "year", "month", "panoid")
_FEWEST_IMAGES = 4
"""Of a published place, by the readme of the authors' repository, amaralibey/gsv-cities."""


def check_gsv_cities(config: GsvCitiesConfig, *, full: bool = False) -> Report:
    """Examine names, tables and images; what stops the data set from opening is a fault.

    Args:
        config: Options.
        full: Whether to decode every image, not a sample.

    Raises:
        ConfigError: The root is missing, or a city is in two splits.
    """
    try:
        dataset = open_gsv_cities(config)
        root = root_of(config)
        cities = [city for names in cities_of(config, root).values() for city in names]
        findings = [one for city in cities for one in _compare(root, city)]
    except DataError as error:
        return Report(findings=(Finding("fault", str(error)),))
    findings += check_opened(dataset, near_radius_m=RADII.near_radius_m)
    findings += check_splits(dataset)
    findings += check_files(
        dataset,
        len(dataset),
        np.empty(0, np.int64),  # they were found by listing the folders
        full=full,
        absent="",
        unreadable="images cannot be decoded; extract them again",
    )
    facts: dict[str, str | int | float] = {"images": len(dataset), "cities": ", ".join(cities)}
    return Report(facts=facts, findings=tuple(findings))


def _compare(root: Path, city: str) -> list[Finding]:
    """Return what the table of a city has and its folder of images has not, and vice versa."""
    file = root / TABLES / f"{city}.csv"
    if not file.is_file():
        return [Finding("warning", f"{city}: there is no {TABLES}/{city}.csv to compare with")]
    try:
        rows = pacsv.read_csv(
            file, convert_options=pacsv.ConvertOptions(include_columns=list(_COLUMNS))
        )
    except (pa.ArrowException, OSError) as error:
        message = f"{file} cannot be read as CSV with {', '.join(_COLUMNS)}: {error}"
        return [Finding("fault", message)]
    place, year, month, panorama = (rows[name].to_pylist() for name in _COLUMNS)
    # Releases number places from 0 in each city, or add a multiple of 100,000 per city.
    listed = {
        (int(p) % 100_000, 12 * int(y) + int(m) - 1, str(pano))
        for p, y, m, pano in zip(place, year, month, panorama, strict=True)
    }
    views, _ = read_city(root, city)
    there = {(v.place % 100_000, v.month, v.panorama): v.name for v in views}
    findings = _few_images(city, views)
    absent = sorted(listed - there.keys())
    if absent:
        examples = tuple(f"place {p}, panorama {pano}" for p, _, pano in absent[:MAX_EXAMPLES])
        message = f"{city}: rows of {TABLES}/{city}.csv have no image; extract its images again"
        findings.append(Finding("fault", message, len(absent), examples))
    extra = sorted(name for key, name in there.items() if key not in listed)
    if extra:
        message = f"{city}: images are not in {TABLES}/{city}.csv"
        findings.append(Finding("warning", message, len(extra), tuple(extra[:MAX_EXAMPLES])))
    return findings


def _few_images(city: str, views: Sequence[View]) -> list[Finding]:
    """Return a warning about places with fewer images than any published place has."""
    counts = Counter(view.place for view in views)
    few = [place for place, count in sorted(counts.items()) if count < _FEWEST_IMAGES]
    if not few:
        return []
    message = (
        f"{city}: places have fewer than {_FEWEST_IMAGES} images, as no published place has; "
        "extract the images of the city again"
    )
    examples = tuple(f"place {place}" for place in few[:MAX_EXAMPLES])
    return [Finding("warning", message, len(few), examples)]
