"""``mlcore data check`` of your own images: every file looked for, a sample decoded."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlcore.data import (
    apart_m,
    check_coverage,
    check_files,
    check_opened,
    check_splits,
    file_names,
)
from mlcore.errors import DataError
from mlcore.factories import Finding, Report, SamplingRadii
from mlcore_images.config import ImagesConfig
from mlcore_images.dataset import ImagesDataset, open_images
from mlcore_images.readers.folders import is_utf8
from mlcore_images.splits import SPLITS

Facts = dict[str, str | int | float]

NEAR_RADIUS_M = SamplingRadii().near_radius_m


def check_images(config: ImagesConfig, *, full: bool = False) -> Report:
    """Examine the table, the positions and the files.

    What stops the data set from opening is a fault of the report, not an error.

    Args:
        config: Options.
        full: Whether to decode every image, not a sample.

    Raises:
        ConfigError: Options do not fit together, or a selection is malformed.
    """
    try:
        dataset = open_images(config)
    except DataError as error:
        return Report(findings=(Finding("fault", str(error)),))
    missing = missing_files(dataset)
    facts = {**_facts(dataset), "missing files": len(missing)}
    findings = check_opened(dataset, near_radius_m=NEAR_RADIUS_M)
    findings += check_splits(dataset)
    findings += check_files(
        dataset,
        len(dataset.paths),
        missing,
        full=full,
        absent=f"image files are missing in {dataset.root}; copy them or remove their rows",
        unreadable="images cannot be decoded; replace them or remove their rows",
    )
    findings += _coverage(dataset)
    return Report(facts=facts, findings=tuple(findings))


def _facts(dataset: ImagesDataset) -> Facts:
    facts: Facts = {"layout": dataset.layout, "images": len(dataset.paths)}
    for name in SPLITS:
        split = dataset.splits[name]
        facts[f"{name}: references"] = len(split.references)
        facts[f"{name}: queries"] = len(split.queries)
    table = dataset.splits["train"].references
    facts |= _extents(dataset)
    facts["headings"] = "no" if table.headings_rad is None else "yes"
    facts["traversals"] = len(table.traversals)
    facts["conditions"] = ", ".join(table.conditions)
    return facts


def _extents(dataset: ImagesDataset) -> Facts:
    """Return width and height of what each region covers."""
    tables = [
        table
        for split in dataset.splits.values()
        for table in (split.references, split.queries)
        if len(table)
    ]
    if not tables:
        return {"extent": "0 x 0 m"}
    positions_m = np.concatenate([table.positions_m for table in tables])
    names = tables[0].regions
    if not names:
        return {"extent": _extent(positions_m)}
    region = np.concatenate([np.asarray(table.region) for table in tables])
    return {
        f"extent of {names[code]}": _extent(positions_m[region == code])
        for code in np.unique(region).tolist()
    }


def _extent(positions_m: NDArray[np.float64]) -> str:
    width_m, height_m = np.ptp(positions_m, axis=0)
    return f"{width_m:.0f} x {height_m:.0f} m"


def missing_files(dataset: ImagesDataset) -> NDArray[np.int64]:
    """Return the images without a file; each folder is listed once, no file is opened."""
    parts = pc.extract_regex(dataset.paths, r"^(?s)(?P<folder>(?:.*/)?)(?P<name>[^/]*)$")
    folders = parts.field("folder").dictionary_encode()
    names, codes = parts.field("name"), folders.indices.to_numpy()
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(folders.dictionary)))
    missing = []
    for folder, rows in zip(
        folders.dictionary.to_pylist(), np.split(order, ends[:-1]), strict=True
    ):
        there = pa.array(filter(is_utf8, file_names(dataset.root / folder)), names.type)
        found = pc.is_in(names.take(pa.array(rows)), value_set=there)
        missing.append(rows[~found.to_numpy(zero_copy_only=False)])
    return np.sort(np.concatenate(missing))


def _coverage(dataset: ImagesDataset) -> list[Finding]:
    """Report test queries without a reference nearby."""
    test = dataset.splits["test"]
    if not len(test.queries) or not len(test.references):
        return []
    tables = test.references, test.queries
    return check_coverage(
        "test", *(apart_m(table.positions_m, table.region) for table in tables)
    )
