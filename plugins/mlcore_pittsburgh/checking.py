"""``mlcore data check`` of Pittsburgh: counts, files, and names in step with positions."""

from __future__ import annotations

import os
import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mlcore.errors import DataError
from mlcore.factories import Finding, Report
from mlcore.positions import PositionIndex
from mlcore.protocols import PlaceTable
from mlcore_pittsburgh.config import PittsburghConfig
from mlcore_pittsburgh.dataset import PittsburghDataset, open_pittsburgh
from mlcore_pittsburgh.protocols import KNOWN_COUNTS, PARTS

NUM_DECODED = 200
"""Images that are decoded, evenly spaced over all; all of them in a full check."""
_NUM_EXAMPLES = 5
_RADII_M = (10.0, 25.0)
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
    findings = [Finding("info", note) for note in dataset.notes if note not in dataset.warnings]
    findings += [Finding("warning", warning) for warning in dataset.warnings]
    findings += _counts(dataset)
    if len(missing):
        examples = tuple(map(dataset.image_name, missing[:_NUM_EXAMPLES].tolist()))
        message = "image files are missing; extract every archive of the download"
        findings.append(Finding("fault", message, len(missing), examples))
    there = np.setdiff1d(np.arange(len(dataset.names)), missing)
    findings += _decode(dataset, there, len(there) if full else NUM_DECODED)
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

    @cache
    def listed(folder: str) -> frozenset[str]:
        return _files(Path(folder))

    missing = []
    for index in range(len(dataset.names)):
        folder, name = os.path.split(dataset.path(index))
        if name not in listed(folder):
            missing.append(index)
    return np.array(missing, dtype=np.int64)


def _files(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except (OSError, ValueError):  # no such folder, or a name that none can have
        return frozenset()


def _decode(dataset: PittsburghDataset, there: NDArray[np.int64], number: int) -> list[Finding]:
    """Decode a number of the images that are there."""
    if not len(there):
        return []
    spread = np.unique(np.linspace(0, len(there) - 1, number).astype(int))
    sizes: Counter[str] = Counter()
    unreadable = []
    for index in there[spread].tolist():
        try:
            _, height, width = dataset.load_image(index).shape
        except DataError as error:
            unreadable.append(str(error))
            continue
        sizes[f"{width} x {height} px"] += 1
    common = ", ".join(f"{size} ({n})" for size, n in sizes.most_common(_NUM_EXAMPLES))
    findings = [Finding("info", f"{len(spread)} images decoded: {common or 'none'}")]
    if unreadable:
        message = "images cannot be decoded; extract them again"
        examples = tuple(unreadable[:_NUM_EXAMPLES])
        findings.append(Finding("fault", message, len(unreadable), examples))
    return findings


def _split_findings(dataset: PittsburghDataset, name: str) -> list[Finding]:
    split = dataset.splits[name]
    findings = []
    for role, table in (("references", split.references), ("queries", split.queries)):
        if len(table):
            findings += _out_of_step(dataset, f"{name}: {role}", table)
    if len(split.references) and len(split.queries):
        findings += _alone(name, split.references.positions_m, split.queries.positions_m)
    return findings


def _out_of_step(dataset: PittsburghDataset, label: str, table: PlaceTable) -> list[Finding]:
    """Report names that tell another position than the spec, or several for a panorama."""
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
        examples = tuple(names[row] for row in odd[:_NUM_EXAMPLES])
        message = f"{label} are not where their names say: {remedy}"
        findings.append(Finding("fault", message, len(odd), examples))
    torn = _torn(names, positions_m)
    if torn:
        message = f"{label}: panoramas have views more than {_STEP_M:g} m apart: {remedy}"
        findings.append(Finding("fault", message, len(torn), tuple(torn[:_NUM_EXAMPLES])))
    if len(set(names)) < len(names):
        twice = [name for name, count in Counter(names).items() if count > 1]
        message = f"{label} are named more than once"
        findings.append(Finding("warning", message, len(twice), tuple(twice[:_NUM_EXAMPLES])))
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


def _alone(
    name: str, references_m: NDArray[np.float64], queries_m: NDArray[np.float64]
) -> list[Finding]:
    """Report queries without a reference nearby."""
    nearest = references_m[PositionIndex(references_m).nearest(queries_m)]
    away_m = np.linalg.norm(nearest - queries_m, axis=1)
    findings = []
    for radius_m in _RADII_M:
        if alone := int((away_m > radius_m).sum()):
            message = f"{name}: queries have no reference within {radius_m:g} m"
            findings.append(Finding("warning", message, alone))
    return findings
