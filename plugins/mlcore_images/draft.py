"""``mlcore data draft``: a table of a folder's EXIF positions, with a spatial cut."""

from __future__ import annotations

import csv
import io
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from mlcore.data import MAX_EXAMPLES
from mlcore.errors import ConfigError, DataError
from mlcore.factories import Finding, Report
from mlcore.files import atomic_write
from mlcore.protocols import Progress
from mlcore_images.checks.positions import read_positions
from mlcore_images.config import DraftConfig, ImagesConfig
from mlcore_images.cuts import BUFFER, FAR, TEST, TRAIN, VALIDATION, Cut, cut_apart
from mlcore_images.readers.captures import times_of
from mlcore_images.readers.layouts import find_listing
from mlcore_images.readers.listing import Listing

_WORDS = {TRAIN: "train", VALIDATION: "validation", TEST: "test"}
_REVISIT_AFTER_S = 60.0
_REVISIT_AFTER_IMAGES = 10
_LARGEST_HEADING_DEG = 360.0

Severity = Literal["info", "warning"]


def draft_table(options: DraftConfig, folder: Path, out: Path, progress: Progress) -> Report:
    """Write path, position, heading, date, split and role of the images of a folder.

    Nothing is written if there is an error.

    Raises:
        ConfigError: The file exists.
        DataError: The folder is missing, no image has an EXIF position, or the images cover
            too little for the cut that the options ask for.
    """
    if out.exists():
        raise ConfigError(f"--out {out} already exists; choose another file")
    if not folder.is_dir():
        what = "is a file" if folder.exists() else "does not exist"
        raise DataError(f"{folder} {what}; give the folder of the images")
    progress("Reading EXIF", 0, 1)
    listing = find_listing(ImagesConfig(root=folder, layout="exif"))
    progress("Reading EXIF", 1, 1)
    located = read_positions(listing, ImagesConfig())
    region = located.region
    order, after, of_order = _order(listing)
    cut = cut_apart(
        located.positions_m,
        np.zeros(len(listing), np.int64) if region is None else region,
        order,
        test=options.test,
        validation=options.validation,
        buffer_m=options.buffer_m,
        revisit_m=options.revisit_m,
        revisit_after=after,
    )
    if options.test and not (cut.split == TEST).any():
        width_m, height_m = np.ptp(located.positions_m, axis=0)
        raise DataError(
            f"the images with a position in {folder} ({len(listing)}) cover {width_m:.0f} x "
            f"{height_m:.0f} m, too little for a test {options.buffer_m:g} m from training: "
            "lower --buffer_m, or write positions without a cut: --test 0 --validation 0"
        )
    columns, of_columns = _columns(listing, cut, has_cut=bool(options.test))
    _write(out, columns)
    findings = (*listing.findings, *of_order, *of_columns, *_findings(listing, cut, options))
    return Report(_facts(cut, options), findings, _commands(folder, out))


def _order(listing: Listing) -> tuple[NDArray[np.float64], float, list[Finding]]:
    """Return when images were taken, the least time to a revisit, and what was found."""
    times_s = times_of(listing)
    unknown = ~np.isfinite(times_s)
    if not unknown.any():
        return times_s, _REVISIT_AFTER_S, []
    message = "images have no EXIF date, so that the order of names stands for that in time"
    found = Finding("info", message, int(unknown.sum()), _names(listing, unknown))
    return np.arange(len(listing), dtype=np.float64), _REVISIT_AFTER_IMAGES, [found]


def _names(listing: Listing, rows: NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(
        str(listing.paths[row]) for row in np.flatnonzero(rows)[:MAX_EXAMPLES].tolist()
    )


def _columns(
    listing: Listing, cut: Cut, *, has_cut: bool
) -> tuple[Mapping[str, list[str]], list[Finding]]:
    """Return the columns of the table as text, and what was left out of them."""
    columns = {"path": listing.paths.to_pylist()}
    findings = []
    for name in ("latitude", "longitude"):
        columns[name] = [f"{degrees:.8f}" for degrees in listing.numbers(name)]
    if "heading_deg" in listing:
        headings, missing = listing.optional_numbers("heading_deg")
        wrong = ~missing & (np.abs(headings) > _LARGEST_HEADING_DEG)
        known = ~missing & ~wrong
        columns["heading_deg"] = [
            f"{heading:.6g}" if is_known else ""
            for heading, is_known in zip(headings, known, strict=True)
        ]
        if wrong.any():
            message = "EXIF headings are not within 360 degrees and are left empty"
            findings.append(
                Finding("warning", message, int(wrong.sum()), _names(listing, wrong))
            )
    if "timestamp" in listing:
        columns["timestamp"] = _dates(times_of(listing))
    if "condition" in listing:
        conditions = listing.column("condition").to_pylist()
        columns["condition"] = [text or "" for text in conditions]
    if cut.region.any():
        columns["region"] = [str(code + 1) for code in cut.region.tolist()]
    if has_cut:
        columns["split"] = [_WORDS.get(code, "") for code in cut.split.tolist()]
        roles = np.where(cut.is_query, "query", "reference")
        columns["role"] = np.where(cut.split < 0, "", roles).tolist()
    return columns, findings


def _dates(times_s: NDArray[np.float64]) -> list[str]:
    known = np.isfinite(times_s)
    seconds = pa.array(np.where(known, times_s, 0).astype(np.int64)).cast(pa.timestamp("s"))
    texts = pc.strftime(seconds, "%Y-%m-%dT%H:%M:%S").to_pylist()
    return [text if is_known else "" for text, is_known in zip(texts, known, strict=True)]


def _write(out: Path, columns: Mapping[str, list[str]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    with atomic_write(out) as file:
        file.write(text.getvalue().encode())


def _facts(cut: Cut, options: DraftConfig) -> dict[str, str | int | float]:
    facts: dict[str, str | int | float] = {"images with a position": len(cut.split)}
    if cut.region.any():
        facts["regions"] = int(cut.region.max()) + 1
    if options.test:
        for code, word in _WORDS.items():
            mine = cut.split == code
            facts[f"{word}: references"] = int((mine & ~cut.is_query).sum())
            facts[f"{word}: queries"] = int((mine & cut.is_query).sum())
        facts["left out at the edges"] = int((cut.split == BUFFER).sum())
        facts["distance between splits"] = f"more than {options.buffer_m:g} m"
    return facts


def _findings(listing: Listing, cut: Cut, options: DraftConfig) -> list[Finding]:
    """Return what the cut means for training and test."""
    findings = []

    def found(severity: Severity, message: str, rows: NDArray[np.bool_]) -> None:
        if rows.any():
            names = _names(listing, rows)
            findings.append(Finding(severity, message, int(rows.sum()), names))

    if not options.test:
        return []
    found("warning", "images lie far from all others and are in no split", cut.split == FAR)
    message = (
        f"images within {options.buffer_m:g} m of another split are in no split; no test image "
        f"lies within {options.buffer_m:g} m of a training image"
    )
    found("info", message, cut.split == BUFFER)
    if any(name in listing for name in ("split", "role")):
        message = "folder names such as train or queries are not used: the table decides"
        findings.append(Finding("info", message))
    if not (cut.is_query & (cut.split == TEST)).any():
        message = (
            "the test has no query, for no place was photographed again within "
            f"{options.revisit_m:g} m: add images of another visit, raise --revisit_m, or "
            "train with --training.evaluate false"
        )
        findings.append(Finding("warning", message))
    if options.validation and not (cut.split == VALIDATION).any():
        message = "there is no validation: too few images lie far enough from the test"
        findings.append(Finding("warning", message))
    return findings


def _commands(folder: Path, out: Path) -> list[str]:
    options = ["--dataset.root", str(folder), "--dataset.table", str(out.absolute())]
    return [
        shlex.join(["mlcore", "data", "check", "images", *options]),
        shlex.join(["mlcore", "train", "--dataset", "images", *options]),
    ]
