"""``mlcore data check`` of your own images: every file looked for, a sample decoded."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore.factories import Finding, Report
from mlcore.positions import PositionIndex
from mlcore.protocols import Split
from mlcore_images.config import ImagesConfig
from mlcore_images.dataset import ImagesDataset, open_images
from mlcore_images.folders import is_utf8
from mlcore_images.listing import NUM_EXAMPLES
from mlcore_images.splits import SPLITS

NUM_DECODED = 200
"""Images that are decoded, evenly spaced over all; all of them in a full check."""
_RADII_M = (10.0, 25.0)

Facts = dict[str, str | int | float]


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
    findings = [Finding("info", note) for note in dataset.notes]
    if len(missing):
        examples = tuple(dataset.image_name(int(index)) for index in missing[:NUM_EXAMPLES])
        message = f"image files are missing in {dataset.root}; copy them or remove their rows"
        findings.append(Finding("fault", message, len(missing), examples))
    there = np.setdiff1d(np.arange(len(dataset.paths)), missing)
    findings += _decode(dataset, there, len(there) if full else NUM_DECODED)
    findings += _coverage(dataset)
    return Report(facts=facts, findings=tuple(findings))


def _facts(dataset: ImagesDataset) -> Facts:
    facts: Facts = {"layout": dataset.layout, "images": len(dataset.paths)}
    for name in SPLITS:
        split = dataset.splits[name]
        facts[f"{name}: references"] = len(split.references)
        facts[f"{name}: queries"] = len(split.queries)
    positions_m = np.concatenate([_positions(dataset.splits[name]) for name in SPLITS])
    width_m, height_m = np.ptp(positions_m, axis=0) if len(positions_m) else (0.0, 0.0)
    table = dataset.splits["train"].references
    facts["extent"] = f"{width_m:.0f} x {height_m:.0f} m"
    facts["headings"] = "no" if table.headings_rad is None else "yes"
    facts["traversals"] = len(table.traversals)
    facts["conditions"] = ", ".join(table.conditions)
    return facts


def _positions(split: Split) -> NDArray[np.float64]:
    return np.concatenate([split.references.positions_m, split.queries.positions_m])


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
        there = pa.array(_files(dataset.root / folder), names.type)
        found = pc.is_in(names.take(pa.array(rows)), value_set=there)
        missing.append(rows[~found.to_numpy(zero_copy_only=False)])
    return np.sort(np.concatenate(missing))


def _files(folder: Path) -> list[str]:
    """Return the names of the files in a folder, none if there is no such folder."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file()]
    except (OSError, ValueError):  # ValueError: a zero byte in the name
        return []
    return [name for name in names if is_utf8(name)]


def _decode(dataset: ImagesDataset, there: NDArray[np.int64], number: int) -> list[Finding]:
    """Decode a number of the images that are there."""
    if not len(there):
        return []
    spread = np.unique(np.linspace(0, len(there) - 1, number).astype(int))
    sizes: Counter[str] = Counter()
    unreadable = []
    for index in there[spread]:
        try:
            _, height, width = dataset.load_image(int(index)).shape
        except DataError as error:
            unreadable.append(str(error))
            continue
        sizes[f"{width} x {height} px"] += 1
    listed = ", ".join(f"{size} ({count})" for size, count in sizes.most_common(NUM_EXAMPLES))
    findings = [Finding("info", f"{len(spread)} images decoded: {listed or 'none'}")]
    if unreadable:
        examples = tuple(unreadable[:NUM_EXAMPLES])
        message = "images cannot be decoded; replace them or remove their rows"
        findings.append(Finding("fault", message, len(unreadable), examples))
    return findings


def _coverage(dataset: ImagesDataset) -> list[Finding]:
    """Report test queries without a reference nearby, and tests that were trained on."""
    test = dataset.splits["test"]
    findings = []
    if len(test.queries) and len(test.references):
        distance_m = _nearest_m(test.references.positions_m, test.queries.positions_m)
        for radius_m in _RADII_M:
            if alone := int((distance_m > radius_m).sum()):
                message = f"test queries have no reference within {radius_m:g} m"
                findings.append(Finding("warning", message, alone))
    train_m, test_m = _positions(dataset.splits["train"]), _positions(test)
    if len(train_m) and len(test_m):
        close = int((_nearest_m(train_m, test_m) <= _RADII_M[-1]).sum())
        if close:
            message = f"test images lie within {_RADII_M[-1]:g} m of a training image"
            findings.append(Finding("warning", message, close))
    return findings


def _nearest_m(
    positions_m: NDArray[np.float64], points_m: NDArray[np.float64]
) -> NDArray[np.float64]:
    nearest = positions_m[PositionIndex(positions_m).nearest(points_m)]
    distance_m: NDArray[np.float64] = np.linalg.norm(nearest - points_m, axis=1)
    return distance_m
