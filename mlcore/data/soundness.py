"""Whether an opened data set can give correct results: checks of ``data check`` and ``train``.

A data set may have more attributes than its protocol requires, and then gets more checks:
``findings`` (what it found on opening), ``path(index)`` (the file of an image) and
``times_s(index)`` (when images were taken).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mlcore.data.checks import MAX_EXAMPLES, decode_sample, nearest_m
from mlcore.data.geometry_checks import (
    LARGEST_CROWD,
    LARGEST_JUMP_M,
    LARGEST_SPEED_M_PER_S,
    crowded,
    find_clusters,
    grid_step,
    too_fast,
)
from mlcore.data.leaks import shared_files
from mlcore.data.positions import apart_m
from mlcore.errors import ConfigError, DataError, did_you_mean
from mlcore.factories import Finding, Report
from mlcore.protocols import PlaceDataset, PlaceTable, Split

SPLITS = ("train", "validation", "test")
_FAULTY_SHARE = 0.01
_FAULTY_ROWS = 3
"""A suspicion is a fault from this share of all rows, or this many rows of one split."""
_MOST_FILES = 50_000
"""Files that are compared before a run; ``data check`` compares all."""

FAULTS: Mapping[str, str] = {
    "not-finite": "positions are NaN or infinite",
    "far-rows": "images lie up to {:.1f} km from the rest",
    "separate-groups": "images of one traversal lie in groups up to {:.0f} km apart",
    "impossible-speed": "images are more than {:.0f} m from the previous one, at a speed "
    "above {:.0f} m/s",
    "same-position": "images share one point with more than {} others",
    "coarse-grid": "positions are rounded to multiples of {:g} m, so that images share them",
    "damaged-files": "files of the download are damaged",
    "shared-images": "images are both in train and test: the same file, a link or a copy",
}
"""Names that ``dataset.accept_faults`` may list, and the message of each."""


@dataclass(frozen=True)
class Rows:
    """The images of all splits, as columns.

    Attributes:
        index: ``(N,)``, image indices.
        positions_m: ``(N, 2)`` or ``(N, 3)``.
        traversal: ``(N,)`` codes, of all tables alike.
        split: ``(N,)``, places in :data:`SPLITS`.
        region: ``(N,)`` codes; all 0 for one region.
    """

    index: NDArray[np.int64]
    positions_m: NDArray[np.float64]
    traversal: NDArray[np.int64]
    split: NDArray[np.int8]
    region: NDArray[np.int64]

    def take(self, rows: NDArray[np.bool_]) -> Rows:
        """Return some of the rows."""
        return Rows(
            self.index[rows],
            self.positions_m[rows],
            self.traversal[rows],
            self.split[rows],
            self.region[rows],
        )

    def by_region(self) -> list[Rows]:
        """Return the rows of each region."""
        codes = np.unique(self.region)
        return [self] if len(codes) < 2 else [self.take(self.region == code) for code in codes]


def splits_of(dataset: PlaceDataset) -> dict[str, Split]:
    """Return the splits that can be had; a data set may refuse one that is empty."""
    found = {}
    for name in SPLITS:
        try:
            found[name] = getattr(dataset, name)
        except DataError:
            continue
    return found


def check_opened(
    dataset: PlaceDataset, *, near_radius_m: float, thorough: bool = True
) -> list[Finding]:
    """Return what is wrong with an opened data set; no image is decoded.

    Args:
        dataset: The data set.
        near_radius_m: Test images this near to a training image are warned of.
        thorough: Whether to run also the checks that take minutes on millions of images:
            compare every file, and look for test images near training images.
    """
    splits = splits_of(dataset)
    rows = _rows(splits)
    findings = list(getattr(dataset, "findings", ()))
    if not len(rows.index):
        return findings
    finite = np.asarray(np.isfinite(rows.positions_m).all(axis=1), bool)
    if not finite.all():
        findings.append(_fault(dataset, "not-finite", (), rows.index[~finite]))
        rows = rows.take(finite)
    for part in rows.by_region():
        findings += _check_places(dataset, part, rows)
    findings += _check_times(dataset, rows)
    findings += _check_leaks(dataset, splits, thorough=thorough)
    if thorough:
        findings += _check_nearness(rows, near_radius_m)
    return findings


def check_any(dataset: PlaceDataset, near_radius_m: float, *, full: bool) -> Report:
    """Return the report on a data set without its own check.

    Args:
        dataset: The data set.
        near_radius_m: As of :func:`check_opened`.
        full: Whether to decode every image, not a sample.
    """
    findings = check_opened(dataset, near_radius_m=near_radius_m)
    findings += [Finding("info", note) for note in dataset.notes]
    findings += check_splits(dataset)
    splits = splits_of(dataset)
    facts: dict[str, str | int | float] = {}
    for name, split in splits.items():
        facts[f"{name}: references"] = len(split.references)
        facts[f"{name}: queries"] = len(split.queries)
    images = _rows(splits).index
    unreadable = "images cannot be decoded; replace them"
    findings += decode_sample(dataset, images, full=full, unreadable=unreadable)
    return Report(facts=facts, findings=tuple(findings))


def check_splits(dataset: PlaceDataset) -> list[Finding]:
    """Return a finding for each missing split that training or evaluation needs.

    Without test queries or references there is no result; a data set without training images
    can still be evaluated.
    """
    splits = splits_of(dataset)
    findings = []
    for name, severity, tables in (
        ("test", "fault", ("references", "queries")),
        ("train", "warning", ("references",)),
    ):
        empty = [
            table
            for table in tables
            if name not in splits or not len(getattr(splits[name], table))
        ]
        if empty:
            message = f"{name} has no {' and no '.join(empty)}: {_why_empty(dataset, name)}"
            findings.append(Finding(severity, message))  # type: ignore[arg-type]
    return findings


def _why_empty(dataset: PlaceDataset, name: str) -> str:
    try:
        getattr(dataset, name)
    except DataError as error:
        return str(error)
    return "'mlcore train' and 'mlcore evaluate' need it"


def require_sound(dataset: PlaceDataset, accepted: Sequence[str]) -> tuple[str, ...]:
    """Refuse a data set with faults that the user does not accept; return other findings.

    Args:
        dataset: The data set.
        accepted: Names of faults, as of the option ``dataset.accept_faults``.

    Raises:
        DataError: There is a fault that is not accepted.
        ConfigError: ``accepted`` holds a name that no fault has.
    """
    findings = check_opened(dataset, near_radius_m=0.0, thorough=False)
    known = {*FAULTS, *(finding.name for finding in findings if finding.name)}
    for name in accepted:
        if name not in known:
            raise ConfigError(
                f"dataset.accept_faults lists {name!r}, which is not the name of a fault"
                f"{did_you_mean(name, known)}"
            )
    faults = [finding for finding in findings if finding.severity == "fault"]
    refused = [finding for finding in faults if finding.name not in accepted]
    if refused:
        names = ",".join(dict.fromkeys(finding.name for finding in refused if finding.name))
        raise DataError(
            "; ".join(f"{finding} [{finding.name}]" for finding in refused)
            + ". Correct the data, see 'mlcore data check'"
            + (f", or accept it with --dataset.accept_faults {names}" if names else "")
        )
    warnings = [str(finding) for finding in findings if finding.severity == "warning"]
    return (
        *(line for line in warnings if line not in dataset.notes),
        *(f"accepted by dataset.accept_faults [{one.name}]: {one}" for one in faults),
    )


def _rows(splits: Mapping[str, Split]) -> Rows:
    """Return the images of all splits, each once."""
    tables = [
        (table, SPLITS.index(name))
        for name, split in splits.items()
        for table in (split.references, split.queries)
        if len(table)
    ]
    if not tables:
        empty = np.empty(0, np.int64)
        return Rows(empty, np.empty((0, 2)), empty, empty.astype(np.int8), empty)
    index = np.concatenate([table.index for table, _ in tables])
    index, first = np.unique(index, return_index=True)
    codes: dict[str, int] = {}
    traversal = [_traversals(table, codes) for table, _ in tables]
    split = [np.full(len(table), code, np.int8) for table, code in tables]
    codes_of = [np.zeros(len(t)) if t.region is None else t.region for t, _ in tables]
    region = np.concatenate(codes_of)[first].astype(np.int64)
    return Rows(
        index,
        np.concatenate([table.positions_m for table, _ in tables])[first],
        _apart(np.concatenate(traversal)[first], region),
        np.concatenate(split)[first],
        region,
    )


def _apart(traversal: NDArray[np.int64], region: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return codes of which each stands for a traversal's part in one region."""
    return traversal if not region.any() else traversal * (int(region.max()) + 1) + region


def _traversals(table: PlaceTable, codes: dict[str, int]) -> NDArray[np.int64]:
    """Return codes that mean the same traversal in every table."""
    of_name = [codes.setdefault(name, len(codes)) for name in table.traversals]
    traversal: NDArray[np.int64] = np.array(of_name, np.int64)[table.traversal]
    return traversal


def _check_places(dataset: PlaceDataset, rows: Rows, every: Rows) -> list[Finding]:
    """Return the findings on the positions of one region; ``every`` has all regions' rows."""
    findings = []
    clusters = find_clusters(rows.positions_m)
    km = clusters.distance_m / 1000
    if clusters.far.any():
        findings.append(suspicion(dataset, "far-rows", (km,), rows.index[clusters.far], every))
    mixed = clusters.separate & _in_both(rows.traversal, clusters.separate)
    if mixed.any():
        findings.append(suspicion(dataset, "separate-groups", (km,), rows.index[mixed], every))
    elif clusters.separate.any():
        message = f"images form groups up to {km:.0f} km apart, apparently several cities"
        findings.append(Finding("warning", message, int(clusters.separate.sum())))
    dense = crowded(rows.positions_m, rows.traversal)
    if dense.any():
        images = rows.index[dense]
        findings.append(suspicion(dataset, "same-position", (LARGEST_CROWD,), images, every))
    step = grid_step(rows.positions_m, rows.traversal)
    if step is not None:
        findings.append(suspicion(dataset, "coarse-grid", (step,), rows.index, every))
    return findings


def _in_both(labels: NDArray[np.int64], separate: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the rows whose label is found in the largest group and in another."""
    return np.isin(labels, np.intersect1d(labels[separate], labels[~separate]))


def _check_times(dataset: PlaceDataset, rows: Rows) -> list[Finding]:
    times_s = getattr(dataset, "times_s", None)
    if times_s is None:
        return []
    known = np.asarray(times_s(rows.index), np.float64)
    fast = too_fast(rows.positions_m, known, rows.traversal)
    if not fast.any():
        return []
    limits = (LARGEST_JUMP_M, LARGEST_SPEED_M_PER_S)
    return [suspicion(dataset, "impossible-speed", limits, rows.index[fast], rows)]


def _check_leaks(
    dataset: PlaceDataset, splits: Mapping[str, Split], *, thorough: bool
) -> list[Finding]:
    if "train" not in splits or "test" not in splits:
        return []
    train, test = _index(splits["train"]), _index(splits["test"])
    shared = np.intersect1d(train, test)
    path_of = getattr(dataset, "path", None)
    if path_of is not None and (thorough or len(train) + len(test) <= _MOST_FILES):
        others = shared_files(train, np.setdiff1d(test, shared), path_of)
        shared = np.union1d(shared, others)
    return [_fault(dataset, "shared-images", (), shared)] if len(shared) else []


def _check_nearness(rows: Rows, near_radius_m: float) -> list[Finding]:
    positions_m = apart_m(rows.positions_m, rows.region)
    train_m, test_m = (
        positions_m[rows.split == SPLITS.index(name)] for name in ("train", "test")
    )
    if not len(train_m) or not len(test_m):
        return []
    close = int((nearest_m(train_m, test_m) <= near_radius_m).sum())
    message = f"test images lie within {near_radius_m:g} m of a training image"
    return [Finding("warning", message, close)] if close else []


def _index(split: Split) -> NDArray[np.int64]:
    return np.unique(np.concatenate([split.references.index, split.queries.index]))


def suspicion(
    dataset: PlaceDataset,
    name: str,
    values: tuple[float, ...],
    images: NDArray[np.int64],
    rows: Rows,
) -> Finding:
    """Return a finding about images: a fault from 1 % of all rows or 3 rows of one split.

    Args:
        dataset: Names the images.
        name: A key of :data:`FAULTS`.
        values: What its message is filled with.
        images: Image indices, ascending.
        rows: Of all splits.
    """
    in_split = np.bincount(rows.split[np.isin(rows.index, images)], minlength=len(SPLITS))
    share = in_split.sum() / len(rows.index)
    is_fault = share >= _FAULTY_SHARE or in_split.max() >= _FAULTY_ROWS
    found = _fault(dataset, name, values, images)
    return found if is_fault else replace(found, severity="warning")


def _fault(
    dataset: PlaceDataset, name: str, values: tuple[float, ...], images: NDArray[np.int64]
) -> Finding:
    examples = tuple(map(dataset.image_name, images[:MAX_EXAMPLES].tolist()))
    return Finding("fault", FAULTS[name].format(*values), len(images), examples, name)
