"""``mlcore data check`` of Pittsburgh: counts, files, and names in step with positions."""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.data import (
    MAX_EXAMPLES,
    check_coverage,
    check_files,
    check_opened,
    check_splits,
    file_names,
)
from mlcore.errors import DataError
from mlcore.factories import Finding, Report
from mlcore.protocols import PlaceTable
from mlcore_pittsburgh.config import RADII, PittsburghConfig
from mlcore_pittsburgh.dataset import PittsburghDataset, open_pittsburgh
from mlcore_pittsburgh.splits import KNOWN_COUNTS, PARTS

_STEP_M = 1.0
"""By how much the position in a name, or of a panorama's views, may differ."""
_PANORAMA = re.compile(r"^(.*\d+)_pitch\d+_yaw\d+\.")
_POSITION = re.compile(r"(?:^|/)@(-?\d+\.?\d*)@(-?\d+\.?\d*)@")


def check_pittsburgh(config: PittsburghConfig, *, full: bool = False) -> Report:
    """Examine specs, positions and files.

    What stops the data set from opening is a fault of the report, not an error.

    Args:
        config: Options.
        full: Whether to decode every image, not a sample.

    Raises:
        ConfigError: No root is given, or a folder is none.
    """
    try:
        dataset = open_pittsburgh(config)
    except DataError as error:
        return Report(findings=(Finding("fault", str(error)),))
    missing = missing_files(dataset)
    findings = check_opened(dataset, near_radius_m=RADII.near_radius_m)
    findings += check_splits(dataset)
    findings += _counts(dataset)
    findings += check_files(
        dataset,
        len(dataset.names),
        missing,
        full=full,
        absent="image files are missing; extract every archive of the download",
        unreadable="images cannot be decoded; extract them again",
    )
    for split in PARTS:
        findings += _split_findings(dataset, split)
    return Report(facts=_facts(dataset, len(missing)), findings=tuple(findings))


def _facts(dataset: PittsburghDataset, num_missing: int) -> dict[str, str | int | float]:
    facts: dict[str, str | int | float] = {
        "layout": dataset.layout,
        "specs": ", ".join(spec.path.name for spec in dataset.specs.values()),
        "images": len(dataset.names),
    }
    for name, split in dataset.splits.items():
        facts[f"{name}: references"] = len(split.references)
        facts[f"{name}: queries"] = len(split.queries)
    tables = [table for split in dataset.splits.values() for table in (split.references,)]
    width_m, height_m = np.ptp(np.concatenate([t.positions_m for t in tables]), axis=0)
    facts["extent"] = f"{width_m:.0f} x {height_m:.0f} m"
    facts["missing files"] = num_missing
    return facts


def _counts(dataset: PittsburghDataset) -> list[Finding]:
    """Compare every spec with the published one of its name."""
    findings = []
    for stem, spec in dataset.specs.items():
        found = (len(spec.references), len(spec.queries))
        if found != KNOWN_COUNTS[stem]:
            message = (
                "{} names {:,} references and {:,} queries, the published one {:,} and {:,}; "
                "results do not compare with published ones"
            ).format(spec.path.name, *found, *KNOWN_COUNTS[stem])
            findings.append(Finding("warning", message))
    return findings


def missing_files(dataset: PittsburghDataset) -> NDArray[np.int64]:
    """Return the images without a file; each folder is listed once, no file is opened."""
    listed = cache(file_names)
    missing = []
    for index in range(len(dataset.names)):
        folder, name = os.path.split(dataset.path(index))
        if name not in listed(Path(folder)):
            missing.append(index)
    return np.array(missing, dtype=np.int64)


def _split_findings(dataset: PittsburghDataset, name: str) -> list[Finding]:
    split = dataset.splits[name]
    findings = []
    for role, table in (("references", split.references), ("queries", split.queries)):
        if len(table):
            findings += _out_of_step(dataset, f"{name}: {role}", table)
    if len(split.references) and len(split.queries):
        findings += check_coverage(
            name, split.references.positions_m, split.queries.positions_m
        )
    return findings


def _out_of_step(dataset: PittsburghDataset, label: str, table: PlaceTable) -> list[Finding]:
    """Report names that disagree with the spec's positions, or panoramas with several."""
    names = dataset.names.take(table.index).to_pylist()
    findings = []
    told, positions_m = _told(names), table.positions_m
    odd = [
        row
        for row, position in told.items()
        if np.linalg.norm(positions_m[row] - position) > _STEP_M
    ]
    remedy = "names and positions are out of step; take both from one release"
    if odd:
        examples = tuple(names[row] for row in odd[:MAX_EXAMPLES])
        message = f"{label} are not where their names say: {remedy}"
        findings.append(Finding("fault", message, len(odd), examples))
    torn = _torn(names, positions_m)
    if torn:
        message = f"{label}: panoramas have views more than {_STEP_M:g} m apart: {remedy}"
        findings.append(Finding("fault", message, len(torn), tuple(torn[:MAX_EXAMPLES])))
    if len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        message = f"{label} are named more than once"
        findings.append(Finding("warning", message, len(twice), tuple(twice[:MAX_EXAMPLES])))
    return findings


def _told(names: list[str]) -> dict[int, NDArray[np.float64]]:
    """Return the positions in names of the form ``@easting@northing@...``, by row."""
    found = {row: _POSITION.search(name) for row, name in enumerate(names)}
    return {row: np.array([float(m[1]), float(m[2])]) for row, m in found.items() if m}


def _torn(names: list[str], positions_m: NDArray[np.float64]) -> list[str]:
    """Return the panoramas whose views do not share one position."""
    first: dict[str, int] = {}
    panoramas = [found[1] if (found := _PANORAMA.match(name)) else name for name in names]
    firsts = [first.setdefault(name, row) for row, name in enumerate(panoramas)]
    apart_m = np.linalg.norm(positions_m - positions_m[firsts], axis=1)
    return sorted({panoramas[row] for row in np.flatnonzero(apart_m > _STEP_M).tolist()})
