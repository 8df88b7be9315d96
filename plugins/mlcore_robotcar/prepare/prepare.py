"""``mlcore data prepare robotcar``: from the download to small images and an index."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from mlcore.errors import ConfigError, DataError
from mlcore.factories import Finding, Report
from mlcore.files import atomic_write
from mlcore.protocols import Progress
from mlcore_robotcar.config import RobotCarConfig, expect_sensible
from mlcore_robotcar.download.tree import find_traversals
from mlcore_robotcar.prepare.clean import clean
from mlcore_robotcar.prepare.decode import TABLES
from mlcore_robotcar.prepare.develop import PARTS, Job, Survey, develop_part, finish, survey
from mlcore_robotcar.prepare.index import FOLDER, SETTINGS, SUMMARY, indexed_dates
from mlcore_robotcar.prepare.workers import workers
from mlcore_robotcar.protocol import resolve
from mlcore_robotcar.regions import REGIONS, find_regions

PART_IMAGES = 64
"""Images that a process develops between two notes of what is done."""
_AHEAD = 4
"""Parts a process that wait for it: more would only take memory."""
_MAX_EXAMPLES = 5
_DEVELOPING = "developing images"
_SURVEYING = "reading tables"


@dataclass
class _Tally:
    """What a call has found and done."""

    surveys: dict[str, Survey] = field(default_factory=dict)
    developed: int = 0
    indexed: int = 0
    unreadable: list[str] = field(default_factory=list)


def prepare_robotcar(config: RobotCarConfig, out: Path, progress: Progress) -> Report:
    """Develop the images of a raw tree into ``out`` and write their index.

    A second call does what is missing: new traversals, new chunks, what a kill left undone.

    Raises:
        ConfigError: No root is given, or ``out`` was prepared with other options.
        DataError: There is nothing to prepare, or it cannot be written.
    """
    root, processes = _checked(config)
    cut, regions_note = find_regions(config.regions, root)
    found = find_traversals(root, config.camera, config.rtk_root)
    left_out = [date for date in found if date in config.leave_out]
    kept = [traversal for date, traversal in found.items() if date not in config.leave_out]
    if not kept:
        raise DataError(
            f"no traversal to prepare in {root}: expected folders named like "
            f"2014-12-02-15-30-08 or tars such as 2014-12-02-15-30-08_stereo_centre_01.tar"
            + (f"; left out: {', '.join(left_out)}" if left_out else "")
        )
    resolve(config, sorted({*indexed_dates(out), *(one.date for one in kept)}))
    _claim(config, out)
    tally = _Tally()
    call = uuid.uuid4().hex
    jobs = [Job(call=call, config=config, traversal=one, out=out) for one in kept]
    try:
        with workers(processes) as pool:
            _survey_all(pool, jobs, tally, progress)
            _develop_all(pool, jobs, processes, tally, progress)
    except BrokenProcessPool as error:
        raise DataError(
            "a worker process was killed, perhaps because memory ran out; run the command "
            "again with fewer processes (--dataset.num_processes) to continue"
        ) from error
    shutil.rmtree(out / PARTS, ignore_errors=True)  # of a kill between an index and its notes
    counts = clean(config, out, cut, progress)
    report = _report(tally, counts, left_out, regions_note)
    summary = {"regions": regions_note, "facts": dict(report.facts)}
    with atomic_write(out / SUMMARY) as file:
        file.write(json.dumps(summary, indent=2).encode())
    return report


def _checked(config: RobotCarConfig) -> tuple[Path, int]:
    if config.root is None:
        raise ConfigError("dataset.root is not set; give the folder of the download")
    if not config.root.is_dir():
        raise DataError(f"dataset.root {config.root} is not a folder")
    expect_sensible(config)
    return config.root, config.num_processes or os.cpu_count() or 1


def _claim(config: RobotCarConfig, out: Path) -> None:
    """Make ``out`` this preparation's folder; refuse it if it is another's."""
    settings = {
        "camera": config.camera,
        "poses": config.poses,
        "max_gap_s": config.max_gap_s,
        "distortion_table": _table_digest(config),
        "longest_side_px": config.longest_side_px,
        "image_format": config.image_format,
        "jpeg_quality": config.jpeg_quality,
    }
    path = out / SETTINGS
    try:
        if path.is_file():
            _expect_same(path, settings)
        elif out.is_dir() and any(out.iterdir()):
            raise ConfigError(
                f"{out} is not empty and was not prepared by mlcore; give a new folder as --out"
            )
        else:
            (out / FOLDER).mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(json.dumps(settings, indent=2).encode())
        (out / SUMMARY).unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"cannot write to {out}: {error.strerror or error}") from error


def _expect_same(path: Path, settings: dict[str, Any]) -> None:
    try:
        before = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path} is damaged ({error}); prepare into a new folder") from error
    for name, value in settings.items():
        if before.get(name) != value:
            raise ConfigError(
                f"{path.parent} was prepared with {name} {before.get(name)}, now it is "
                f"{value}; give the same options or another folder as --out"
            )


def _table_digest(config: RobotCarConfig) -> str:
    path = config.distortion_table
    if path is None:
        return "none: images are distorted"
    file = path / TABLES[config.camera] if path.is_dir() else path
    try:
        return hashlib.blake2b(file.read_bytes(), digest_size=16).hexdigest()
    except OSError as error:
        raise DataError(
            f"distortion table {file} cannot be read: {error.strerror or error}; it is "
            f"{TABLES[config.camera]} in the folder models of the data set's SDK"
        ) from error


def _survey_all(pool: Executor, jobs: list[Job], tally: _Tally, progress: Progress) -> None:
    progress(_SURVEYING, 0, len(jobs))
    for job, result in zip(jobs, pool.map(survey, jobs), strict=True):
        tally.surveys[job.traversal.date] = result
        progress(_SURVEYING, len(tally.surveys), len(jobs))


def _develop_all(
    pool: Executor, jobs: list[Job], processes: int, tally: _Tally, progress: Progress
) -> None:
    """Develop part after part, and finish each traversal when its last part is done."""
    total = sum(len(one.missing) for one in tally.surveys.values())
    left = Counter({date: _num_parts(one) for date, one in tally.surveys.items()})
    parts = _parts(jobs, tally)
    running: dict[Future[Any], Job] = {}
    done = 0
    progress(_DEVELOPING, 0, total)
    finishing = [
        pool.submit(finish, job)
        for job in jobs
        if not left[job.traversal.date] and _is_unfinished(tally.surveys[job.traversal.date])
    ]
    while True:
        for job, stamps in islice(parts, processes * _AHEAD - len(running)):
            running[pool.submit(develop_part, job, stamps)] = job
        if not running:
            break
        ready, _ = wait(running, return_when=FIRST_COMPLETED)
        for future in ready:
            job = running.pop(future)
            readable, unreadable = future.result()
            tally.developed += readable
            tally.unreadable += unreadable
            done += readable + len(unreadable)
            progress(_DEVELOPING, done, total)
            left[job.traversal.date] -= 1
            if not left[job.traversal.date]:
                finishing.append(pool.submit(finish, job))
    tally.indexed = sum(future.result() for future in finishing)


def _num_parts(one: Survey) -> int:
    return -(-len(one.missing) // PART_IMAGES)


def _is_unfinished(one: Survey) -> bool:
    """Return whether all images are done and the index alone is missing."""
    return bool(one.num_posed) and not one.is_indexed


def _parts(jobs: list[Job], tally: _Tally) -> Iterator[tuple[Job, Any]]:
    for job in jobs:
        missing = tally.surveys[job.traversal.date].missing
        for start in range(0, len(missing), PART_IMAGES):
            yield job, missing[start : start + PART_IMAGES]


def _report(
    tally: _Tally, counts: Counter[str], left_out: list[str], regions_note: str
) -> Report:
    surveys = tally.surveys.values()
    with_images = [one for one in surveys if one.num_frames]
    facts: dict[str, str | int | float] = {
        "traversals": len(surveys),
        "traversals with images": len(with_images),
        "images": sum(one.num_frames for one in surveys),
        "images with a pose": sum(one.num_posed for one in surveys),
        "developed in this call": tally.developed,
        "unreadable": len(tally.unreadable),
    }
    without: Counter[str] = Counter()
    for one in surveys:
        without.update(one.without_pose)
    facts.update({f"no pose: {reason}": count for reason, count in without.items()})
    facts["left out: bad traversals"] = len(left_out)
    facts["left out: exposure"] = counts["exposure"]
    facts["left out: far from the reference path"] = counts["offset"]
    facts.update({f"images of {region}": counts[region] for region in REGIONS})
    findings = [Finding("fault", fault) for one in surveys for fault in one.faults]
    if tally.unreadable:
        examples = tuple(tally.unreadable[:_MAX_EXAMPLES])
        message = "images cannot be decoded and are left out"
        findings.append(Finding("warning", message, len(tally.unreadable), examples))
    if counts["no reference"]:
        message = "the reference traversal is missing, so no image is left out for its offset"
        findings.append(Finding("warning", message))
    if left_out:
        message = "traversals are left out (dataset.leave_out)"
        findings.append(Finding("info", message, len(left_out), tuple(left_out)))
    empty = [one.date for one in surveys if not one.num_frames]
    if empty:
        message = "traversals have no image of the camera"
        findings.append(Finding("warning", message, len(empty), tuple(empty[:_MAX_EXAMPLES])))
    findings += [Finding("info", note) for one in surveys for note in one.notes]
    findings.append(Finding("info", regions_note))
    return Report(facts=facts, findings=tuple(findings))
