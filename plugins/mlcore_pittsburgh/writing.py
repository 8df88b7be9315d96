"""``mlcore data write pittsburgh``: any data set in the form that NetVLAD introduced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.io import savemat

from mlcore.errors import DataError
from mlcore.factories import Finding, Report
from mlcore.files import atomic_write
from mlcore.protocols import PlaceDataset, PlaceTable, Progress, Split
from mlcore_pittsburgh.specs import FIELDS
from mlcore_pittsburgh.splits import PARTS
from mlcore_pittsburgh.writing_config import PittsburghWriteConfig

_DESCRIPTION = "writing images"
_QUERIES = "queries_real"
_IMAGES_IN_FOLDER = 1000
_VIEW_RAD = math.pi / 6
"""Between two of a panorama's twelve views."""
_POSITIVE_M = 25.0
_NON_TRIVIAL_SQUARE_M = 100.0
_MAT_TEXT = b"MATLAB 5.0 MAT-file, written by mlcore".ljust(116)
"""The text that a .mat file begins with: 116 bytes, of which readers want the first words."""


def write_pittsburgh(
    options: PittsburghWriteConfig, dataset: PlaceDataset, out: Path, progress: Progress
) -> Report:
    """Write a data set as folders of images and the specs ``pitts30k_{train,val,test}.mat``.

    Each image is a panorama of its own; its yaw is the heading to the nearest 30 degrees, 1
    where headings are unknown. Specs go last: a folder without them is not whole.

    Args:
        options: How images are encoded.
        dataset: What is written.
        out: An empty folder.
        progress: Told how many images are written.

    Raises:
        DataError: There is no reference, or an image cannot be read.
    """
    parts = (dataset.train, dataset.validation, dataset.test)
    splits = {
        name: split for name, split in zip(PARTS, parts, strict=True) if len(split.references)
    }
    if not splits:
        raise DataError("the data set has no reference images, so there is nothing to write")
    tables = {
        (name, role): table
        for name, split in splits.items()
        for role, table in (("", split.references), (_QUERIES, split.queries))
    }
    _require_finite(dataset, tables)
    total, done = sum(map(len, tables.values())), 0
    progress(_DESCRIPTION, 0, total)
    names: dict[tuple[str, str], list[str]] = {}
    counts = {"": 0, _QUERIES: 0}
    for (part, role), table in tables.items():
        names[part, role] = _names(table, counts[role], options)
        counts[role] += len(table)
        for index, name in zip(table.index.tolist(), names[part, role], strict=True):
            _write_image(options, dataset, index, out / role / name)
            done += 1
            progress(_DESCRIPTION, done, total)
    for name, split in splits.items():
        _write_spec(out, name, split, names[name, ""], names[name, _QUERIES])
    facts = {
        name: f"{len(split.references)} references, {len(split.queries)} queries"
        for name, split in splits.items()
    }
    root = quote(str(out))
    opened = f"--dataset pittsburgh --dataset.root {root}"
    return Report(
        facts={"images": total, **facts},
        findings=_findings(dict(zip(PARTS, parts, strict=True))),
        commands=(
            f"mlcore data check pittsburgh --root {root}",
            f"mlcore train --loss proposed {opened}",
            f"mlcore evaluate RUN {opened}",
        ),
    )


def _require_finite(dataset: PlaceDataset, tables: dict[tuple[str, str], PlaceTable]) -> None:
    for (split, role), table in tables.items():
        bad = np.flatnonzero(~np.isfinite(table.positions_m).all(axis=1))
        if len(bad):
            first = dataset.image_name(int(table.index[bad[0]]))
            raise DataError(
                f"{len(bad)} of the {'queries' if role else 'references'} of {split} have no "
                f"finite position: {first} is the first; see 'mlcore data check'"
            )


def _names(table: PlaceTable, first: int, options: PittsburghWriteConfig) -> list[str]:
    """Return the paths of images, numbered from ``first``."""
    suffix = {"jpeg": "jpg", "png": "png"}[options.image_format]
    views = np.ones(len(table), np.int64)
    if table.headings_rad is not None:
        views = np.round(table.headings_rad / _VIEW_RAD).astype(np.int64) % 12 + 1
    return [
        f"{number // _IMAGES_IN_FOLDER:03d}/{number:06d}_pitch1_yaw{view}.{suffix}"
        for number, view in enumerate(views.tolist(), start=first)
    ]


def _write_image(
    options: PittsburghWriteConfig, dataset: PlaceDataset, index: int, path: Path
) -> None:
    image = Image.fromarray(dataset.load_image(index).permute(1, 2, 0).numpy())
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path, flush=False) as file:
        if options.image_format == "png":
            image.save(file, "png")
        else:
            image.save(file, "jpeg", quality=options.jpeg_quality, subsampling=0)


def _write_spec(
    out: Path, name: str, split: Split, references: Sequence[str], queries: Sequence[str]
) -> None:
    part = PARTS[name]
    values: dict[str, Any] = {
        "whichSet": part,
        "dbImageFns": _cells(references),
        "utmDb": split.references.positions_m[:, :2].T,
        "qImageFns": _cells(queries),
        "utmQ": split.queries.positions_m[:, :2].T,
        "numImages": float(len(references)),
        "numQueries": float(len(queries)),
        "posDistThr": _POSITIVE_M,
        "posDistSqThr": _POSITIVE_M**2,
        "nonTrivPosDistSqThr": _NON_TRIVIAL_SQUARE_M,
    }
    assert tuple(values) == FIELDS, "readers that go by the order of fields exist"
    with atomic_write(out / f"pitts30k_{part}.mat") as file:
        target: Any = file  # SciPy writes into any file; its types tell of paths alone
        savemat(target, {"dbStruct": values}, do_compression=True, oned_as="row")
        file.seek(0)  # SciPy's text has the time, and the same data should give the same file
        file.write(_MAT_TEXT)


def _cells(names: Sequence[str]) -> NDArray[np.object_]:
    """Return a MATLAB cellstr, n x 1."""
    column = np.empty((len(names), 1), dtype=object)
    column[:, 0] = names
    return column


def _findings(splits: dict[str, Split]) -> tuple[Finding, ...]:
    findings = [
        Finding(
            "info",
            "each image is a panorama of its own; its yaw is its heading, rounded to 30 "
            "degrees (1 without a heading); conditions and traversals are lost",
        )
    ]
    without = [name for name, split in splits.items() if not len(split.references)]
    if without:
        message = "splits have no references, and so no spec"
        findings.append(Finding("warning", message, len(without), tuple(without)))
    return tuple(findings)
