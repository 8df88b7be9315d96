"""``mlcore data write robotcar``: any data set as the raw tree of a download."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from shlex import quote

import numpy as np

from mlcore.factories import Finding, Report
from mlcore.files import atomic_write, write_lines
from mlcore.protocols import PlaceDataset, Progress, Split
from mlcore_robotcar.download.conditions import UNKNOWN, condition_of
from mlcore_robotcar.download.poses import MICROSECONDS
from mlcore_robotcar.write.bayer import raw_png
from mlcore_robotcar.write.config import RobotCarWriteConfig
from mlcore_robotcar.write.drives import Drive, plan_drives, splits_of
from mlcore_robotcar.write.ins_rows import HEADER, ins_rows
from mlcore_robotcar.write.region_files import write_regions

_DESCRIPTION = "writing images"
_CAMERA = "stereo/centre"


def write_robotcar(
    options: RobotCarWriteConfig, dataset: PlaceDataset, out: Path, progress: Progress
) -> Report:
    """Write a data set as raw frames, timestamps, positions, tags and regions.

    Traversals are named by made-up days of 2020, the references' first. Regions go last: a
    tree without them is not whole.

    Args:
        options: Where frames go, and how large they are.
        dataset: What is written.
        out: An empty folder.
        progress: Told how many images are written.

    Raises:
        DataError: Headings are missing, or an image cannot be read.
    """
    splits = splits_of(dataset)
    drives = plan_drives(splits)
    total, done, longest_px = sum(map(len, drives)), 0, 0
    progress(_DESCRIPTION, 0, total)
    for drive in drives:
        for chunk, stamps, indices in _chunks(drive, options.chunk_frames):
            with _putting(options, out, drive.date, chunk) as put:
                for stamp, index in zip(stamps, indices, strict=True):
                    image = dataset.load_image(index).permute(1, 2, 0).numpy()
                    put(stamp, raw_png(image, options.enlarge, dataset.image_name(index)))
                    longest_px, done = max(longest_px, *image.shape[:2]), done + 1
                    progress(_DESCRIPTION, done, total)
        _write_tables(out / drive.date, drive, options.chunk_frames)
    regions = write_regions(out, splits, drives)
    return Report(
        facts={
            "traversals": len(drives),
            "images": total,
            **{name: _counts(split) for name, split in splits.items()},
            "regions": str(regions),
        },
        findings=_findings(drives),
        commands=_commands(out, regions, longest_px),
    )


def _counts(split: Split) -> str:
    return f"{len(split.references)} references, {len(split.queries)} queries"


def _chunks(drive: Drive, size: int) -> Iterator[tuple[int, list[int], list[int]]]:
    """Yield number, timestamps and image indices of each chunk of a traversal."""
    stamps = drive.timestamps
    indices = np.concatenate([stretch.table.index for stretch in drive.stretches])
    for number, start in enumerate(range(0, len(stamps), size), start=1):
        part = slice(start, start + size)
        yield number, stamps[part].tolist(), indices[part].tolist()


@contextmanager
def _putting(
    options: RobotCarWriteConfig, out: Path, date: str, chunk: int
) -> Iterator[Callable[[int, bytes], None]]:
    """Give a function that writes the frame of a timestamp."""
    if options.images == "tars":
        path = out / f"{date}_{_CAMERA.replace('/', '_')}_{chunk:02d}.tar"
        with atomic_write(path) as tar_file, tarfile.open(fileobj=tar_file, mode="w") as tar:
            yield partial(_put_in_tar, tar, date)
    else:
        folder = out / date / _CAMERA
        folder.mkdir(parents=True, exist_ok=True)
        yield partial(_put_in_folder, folder)


def _put_in_folder(folder: Path, stamp: int, data: bytes) -> None:
    with atomic_write(folder / f"{stamp}.png", flush=False) as file:
        file.write(data)


def _put_in_tar(tar: tarfile.TarFile, date: str, stamp: int, data: bytes) -> None:
    member = tarfile.TarInfo(f"{date}/{_CAMERA}/{stamp}.png")
    member.size, member.mtime = len(data), stamp // MICROSECONDS
    tar.addfile(member, io.BytesIO(data))


def _write_tables(folder: Path, drive: Drive, chunk_frames: int) -> None:
    (folder / "gps").mkdir(parents=True, exist_ok=True)
    frames = (
        f"{stamp} {chunk}"
        for chunk, stamps, _ in _chunks(drive, chunk_frames)
        for stamp in stamps
    )
    rows = chain.from_iterable(map(ins_rows, drive.stretches))
    tags = [tag_of(condition) for condition in drive.conditions][:1]
    write_lines(folder / "gps/ins.csv", chain([HEADER], rows))
    write_lines(folder / "tags.csv", tags)
    write_lines(folder / "stereo.timestamps", frames)


def tag_of(condition: str) -> str:
    """Return a condition as a word that tags.csv can have."""
    word = re.sub(r"[^a-z0-9_-]+", "-", condition.lower()).strip("-")
    return word if word[:1].isalpha() else f"condition-{word}".rstrip("-")


def _findings(drives: Sequence[Drive]) -> tuple[Finding, ...]:
    findings = [
        Finding(
            "info",
            "dates and timestamps are invented: one traversal per day from 2020-01-01, "
            "images in order at 16 Hz, a minute between two stretches",
        ),
        Finding("info", "latitude, longitude, roll, pitch (nan) and UTM zone are not known"),
    ]
    joined = [drive for drive in drives if drive.is_reference and len(drive.stretches) > 1]
    if joined:
        message = f"stretches of references are one traversal, {joined[0].date}"
        findings.append(Finding("info", message, len(joined[0].stretches)))
    mixed = [drive for drive in drives if len(drive.conditions) > 1]
    if mixed:
        message = "traversals have several conditions, of which tags.csv has the commonest"
        examples = tuple(f"{one.date}: {', '.join(one.conditions)}" for one in mixed[:5])
        findings.append(Finding("warning", message, len(mixed), examples))
    words = {word for drive in drives for word in drive.conditions}
    foreign = sorted(word for word in words if condition_of("", (tag_of(word),)) == UNKNOWN)
    if foreign:
        message = f"conditions are not RobotCar tags and will be read back as {UNKNOWN!r}"
        findings.append(Finding("warning", message, len(foreign), tuple(foreign[:5])))
    return tuple(findings)


def _commands(out: Path, regions: Path, longest_px: int) -> tuple[str, ...]:
    """Return the command lines from the raw tree to an evaluated model.

    Under the protocol ``all`` the first traversal, which has the references, is searched, and
    every other is looked for in the one region it lies in: the roles that were written.
    """
    raw, lists = quote(str(out)), quote(str(regions))
    prepared = quote(str(out.with_name(f"{out.name}-prepared")))
    opened = f"--dataset robotcar --dataset.root {prepared} --dataset.protocol all"
    preparing = (
        f"mlcore data prepare robotcar --root {raw} --out {prepared} --regions {lists} "
        f"--protocol all --longest_side_px {max(16, longest_px)} --image_format png "
        "--exposure_percentiles 0,100 --max_offset_m none"
    )
    return (
        preparing,
        f"mlcore data check robotcar --root {prepared} --protocol all",
        f"mlcore train --loss proposed {opened}",
        f"mlcore evaluate RUN {opened}",
    )
