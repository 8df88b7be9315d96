"""``mlcore data check`` of RobotCar: tars, tables, poses, images and matches."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Sequence
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
    too_fast,
)
from mlcore.errors import DataError
from mlcore.factories import Finding, Report
from mlcore_robotcar.config import RADII, RobotCarConfig
from mlcore_robotcar.dataset import RobotCarDataset, open_robotcar
from mlcore_robotcar.download.poses import MICROSECONDS
from mlcore_robotcar.download.traversal import PosedFrames
from mlcore_robotcar.download.tree import DATE
from mlcore_robotcar.layouts.prepared import PreparedSource
from mlcore_robotcar.layouts.sources import RawSource
from mlcore_robotcar.prepare.index import read_rows, word_codes
from mlcore_robotcar.regions import REGIONS

NUM_TRAVERSALS = 133
"""That Oxford gives out; 114 have gps, 128 images of stereo/centre."""
_DAY_S = 86_400
_FEW_GOOD = 0.5

Facts = dict[str, str | int | float]


def check_robotcar(config: RobotCarConfig, *, full: bool = False) -> Report:
    """Examine the files, the positions and the images.

    An error that prevents opening becomes a fault in the report.

    Args:
        config: Options.
        full: Whether to decode every image, not a sample.

    Raises:
        ConfigError: No root is given, or a traversal that an option names is not there.
    """
    try:
        dataset = open_robotcar(config)
    except DataError as error:
        return Report(findings=(Finding("fault", str(error)),))
    source = dataset.source
    facts = _facts(dataset)
    findings = check_opened(dataset, near_radius_m=RADII.near_radius_m)
    if isinstance(source, RawSource):
        findings += _of_tracks(source.traversals, facts)
    if isinstance(source, PreparedSource):
        _count_dropped(source, facts)
    findings += check_splits(dataset)
    missing = _missing(dataset)
    facts["missing files"] = len(missing)
    findings += check_files(
        dataset,
        dataset.num_images,
        missing,
        full=full,
        absent="image files are missing; prepare or copy them again",
        unreadable="images cannot be decoded; download or prepare them again",
    )
    for name in REGIONS:
        findings += _split_findings(dataset, name)
    return Report(facts=facts, findings=tuple(findings))


def _facts(dataset: RobotCarDataset) -> Facts:
    source = dataset.source
    facts: Facts = {
        "layout": source.layout,
        "traversals": f"{len(source.dates)} (published: {NUM_TRAVERSALS})",
        "images with a pose": dataset.num_images,
        "conditions": ", ".join(
            f"{word} ({count})" for word, count in Counter(source.conditions).most_common()
        ),
    }
    for name, split in dataset.splits.items():
        facts[f"{name}: references"] = len(split.references)
        facts[f"{name}: queries"] = len(split.queries)
    tables = [t for s in dataset.splits.values() for t in (s.references, s.queries) if len(t)]
    if tables:
        width_m, height_m = np.ptp(np.concatenate([t.positions_m for t in tables]), axis=0)
        facts["extent"] = f"{width_m:.0f} x {height_m:.0f} m"
    return facts


def _of_tracks(traversals: Sequence[PosedFrames], facts: Facts) -> list[Finding]:
    """Report shares of good poses, positions in other places, and names out of time."""
    tracks = [(posed, posed.track) for posed in traversals if posed.track is not None]
    rows = sum(len(track) for _, track in tracks)
    good = sum(int(track.is_good.sum()) for _, track in tracks)
    facts["rows of positions"] = rows
    facts["share of good rows"] = f"{good / rows:.1%}" if rows else "none"
    images = sum(len(posed.frames) for posed in traversals)
    facts["images"] = images
    facts["share of images with a pose"] = f"{sum(map(len, traversals)) / max(images, 1):.1%}"
    findings = []
    poor = [posed.date for posed, track in tracks if track.is_good.mean() < _FEW_GOOD]
    if poor:
        message = f"traversals have fewer than {_FEW_GOOD:.0%} good rows of positions"
        findings.append(Finding("warning", message, len(poor), tuple(poor[:MAX_EXAMPLES])))
    tagged = [posed.date for posed in traversals if {"poor-gps", "no-gps"} & set(posed.tags)]
    if tagged:
        message = "traversals are tagged poor-gps or no-gps: look at their positions"
        findings.append(Finding("info", message, len(tagged), tuple(tagged[:MAX_EXAMPLES])))
    findings += _jumps(traversals)
    late = [posed.date for posed in traversals if _is_another_day(posed)]
    if late:
        message = "traversals have timestamps more than a day from their names: mixed up files"
        findings.append(Finding("warning", message, len(late), tuple(late[:MAX_EXAMPLES])))
    return findings


def _jumps(traversals: Sequence[PosedFrames]) -> list[Finding]:
    """Report impossible speeds everywhere; those within the regions are faults besides."""
    jumps = {}
    for posed in traversals:
        times_s = posed.frames.timestamps[posed.rows] / MICROSECONDS
        fast = too_fast(posed.positions_m, times_s, np.zeros(len(posed), np.int8))
        if fast.any():
            jumps[posed.date] = int(fast.sum())
    if not jumps:
        return []
    message = "traversals jump at an impossible speed, inside the regions or outside them"
    named = [f"{date}: {count} jumps" for date, count in jumps.items()]
    return [Finding("warning", message, len(jumps), tuple(named[:MAX_EXAMPLES]))]


def _is_another_day(posed: PosedFrames) -> bool:
    if not DATE.fullmatch(posed.date):
        return False
    try:
        named = dt.datetime.strptime(posed.date + "+0000", "%Y-%m-%d-%H-%M-%S%z")
    except ValueError:  # the 31st of June
        return True
    first_s = float(posed.frames.timestamps[0]) / MICROSECONDS
    return abs(first_s - named.timestamp()) > _DAY_S


def _count_dropped(source: PreparedSource, facts: Facts) -> None:
    dropped: Counter[str] = Counter()
    for number in range(len(source.dates)):
        words, codes = word_codes(read_rows(source.index(number), ("dropped",))["dropped"])
        counts = np.bincount(codes, minlength=len(words))
        dropped.update(dict(zip(words, counts.tolist(), strict=True)))
    for reason in ("exposure", "offset"):
        facts[f"left out: {reason}"] = dropped[reason]


def _missing(dataset: RobotCarDataset) -> NDArray[np.int64]:
    """Return the images without a file; those of a raw tree have just been listed."""
    if isinstance(dataset.source, RawSource):
        return np.empty(0, np.int64)
    root = Path(getattr(dataset.source, "root", "."))
    listed: dict[str, frozenset[str]] = {}
    missing = []
    for index in range(dataset.num_images):
        folder, _, name = dataset.image_name(index).rpartition("/")
        if folder not in listed:
            listed[folder] = file_names(root / folder)
        if name not in listed[folder]:
            missing.append(index)
    return np.array(missing, np.int64)


def _split_findings(dataset: RobotCarDataset, name: str) -> list[Finding]:
    split = dataset.splits[name]
    if not len(split.references):
        return [Finding("info", f"{name} has no references; see dataset.protocol and regions")]
    if not len(split.queries):
        return [Finding("info", f"{name} has no queries; see dataset.protocol")]
    return check_coverage(name, split.references.positions_m, split.queries.positions_m)
