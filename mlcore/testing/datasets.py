"""Checks of data sets: the columns, their units, and what the splits have in common."""

from __future__ import annotations

import math
import pickle
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mlcore.data.positions import apart_m
from mlcore.errors import MlcoreError
from mlcore.factories import BuildContext, DatasetFactory
from mlcore.protocols import PlaceDataset, PlaceTable, Split, SuppliesExtras
from mlcore.testing.check import CheckSkipped, Fault, expect
from mlcore.testing.factory import CHECKS as FACTORY_CHECKS
from mlcore.testing.subject import Subject
from mlcore.testing.traces import leaves_no_trace

_SPLITS = ("train", "validation", "test")
_LARGEST_EXTENT_M = 1_000_000.0
_LARGEST_STEP_M = 200.0
"""Median distance of successive images of a traversal: more is no drive or walk."""
_SHARE_NEAR_TRAINING = 0.05
"""Images of a cut at a district's border may lie near it; more is no cut."""
_IMAGES_TRIED = 3


def opens(subject: Subject) -> None:
    """The data set opens; without data, an error says what is missing."""
    dataset = _open(subject)
    expect(
        isinstance(dataset.fingerprint, str) and dataset.fingerprint,
        "a fingerprint that is a text",
        repr(dataset.fingerprint),
    )
    odd = [note for note in dataset.notes if not isinstance(note, str)]
    expect(not odd, "notes that are texts", odd)
    expect(len(dataset.train.references), "training references", "none")
    for name in _SPLITS:
        split = getattr(dataset, name)
        expect(isinstance(split, Split), f"a mlcore.Split as {name}", type(split).__name__)


def lengths(subject: Subject) -> None:
    """Columns agree in length, types and codes; an image is in a table once."""
    for name, table in _tables(_open(subject)):
        size = len(table)
        expect(table.index.dtype == np.int64, f"{name}.index as int64", table.index.dtype)
        expect(len(np.unique(table.index)) == size, f"{name}.index without repeats", "repeats")
        expect(
            table.positions_m.dtype == np.float64,
            f"{name}.positions_m as float64",
            table.positions_m.dtype,
        )
        for column in (
            *("positions_m", "headings_rad", "arc_length_m", "traversal", "condition"),
            "region",
        ):
            values = getattr(table, column)
            if values is not None:
                expect(len(values) == size, f"{size} rows of {name}.{column}", len(values))
        _expect_codes(f"{name}.traversal", table.traversal, len(table.traversals))
        _expect_codes(f"{name}.condition", table.condition, len(table.conditions))
        if table.region is not None:
            _expect_codes(f"{name}.region", table.region, len(table.regions))


def metres_plausible(subject: Subject) -> None:
    """Positions are metres, not degrees; headings are radians."""
    dataset = _open(subject)
    for name, table in _tables(dataset):
        expect(
            bool(np.isfinite(table.positions_m).all()),
            f"finite {name}.positions_m",
            "NaN or inf",
        )
        if table.headings_rad is not None:
            unknown = int(np.isnan(table.headings_rad).sum())
            expect(
                not unknown,
                f"{name}.headings_rad of every image, or headings_rad=None",
                f"NaN in {unknown} of {len(table)} rows",
            )
            low, high = float(table.headings_rad.min()), float(table.headings_rad.max())
            expect(
                -math.pi < low and high <= math.pi,
                f"{name}.headings_rad in (-pi, pi]",
                f"{low:.4g} to {high:.4g}",
            )
    table = dataset.train.references
    if table.region is None:
        _expect_metres(table)
        return
    for code in np.unique(table.region):
        _expect_metres(table.take(table.region == code))


def splits_disjoint(subject: Subject) -> None:
    """What is reported is not where was learned."""
    from scipy.spatial import cKDTree

    dataset = _open(subject)
    radius_m = subject.factory.radii.near_radius_m
    tables = [table for _, table in _tables(dataset, ("train",))]
    own = np.concatenate([table.index for table in tables])
    for name, table in _tables(dataset, ("validation", "test")):
        both = np.intersect1d(own, table.index)
        shown = [dataset.image_name(int(index)) for index in both[:3]]
        expect(
            not len(both), f"images of {name} that are not in train", f"{len(both)}: {shown}"
        )
    train = np.concatenate([apart_m(t.positions_m, t.region) for t in tables])
    tree = cKDTree(train)
    for name, table in _tables(dataset, ("validation", "test")):
        distance_m, _ = tree.query(apart_m(table.positions_m, table.region))
        share = float((distance_m <= radius_m).mean())
        expect(
            share <= _SHARE_NEAR_TRAINING,
            f"at most {_SHARE_NEAR_TRAINING:.0%} of {name} within {radius_m:g} m (its near "
            "radius) of a training image",
            f"{share:.1%}",
        )


def images(subject: Subject) -> None:
    """Images are uint8 RGB; names tell them apart."""
    dataset = _open(subject)
    for name, table in _tables(dataset):
        for index in _some(table):
            image: Any = dataset.load_image(index)
            is_image = isinstance(image, torch.Tensor) and image.dtype == torch.uint8
            expect(
                is_image and image.ndim == 3 and image.shape[0] == 3,
                f"load_image({index}) of {name} as uint8 (3, H, W)",
                f"{image.dtype} {tuple(image.shape)}"
                if isinstance(image, torch.Tensor)
                else type(image).__name__,
            )
        first = dataset.load_image(_some(table)[0])
        before = first.clone()
        dataset.load_image(_some(table)[-1])
        expect(
            torch.equal(first, before),
            "an image that stays what it is when the next is loaded",
            "another: load_image returns a tensor that it fills again",
        )
        names = [dataset.image_name(int(index)) for index in table.index[:1000]]
        expect(
            len(set(names)) == len(names) and all(isinstance(n, str) and n for n in names),
            f"image names of {name} that tell images apart",
            f"{len(set(names))} names for {len(names)} images",
        )
        if isinstance(dataset, SuppliesExtras):
            for extra, values in dataset.extras(table.index).items():
                expect(len(values) == len(table), f"{len(table)} rows of {extra}", len(values))


def deterministic(subject: Subject) -> None:
    """A run that is repeated sees the same data, from an empty cache too."""
    with tempfile.TemporaryDirectory() as folder:
        _expect_repeated(_open(subject), _open(replace(subject, cache_dir=Path(folder))))


def _expect_repeated(first: PlaceDataset, second: PlaceDataset) -> None:
    expect(
        first.fingerprint == second.fingerprint,
        f"the same fingerprint again, {first.fingerprint!r}",
        repr(second.fingerprint),
    )
    _expect_same(first, second)


def picklable(subject: Subject) -> None:
    """A data-loading process gets the same images."""
    dataset = _open(subject)
    try:
        copy = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own bytes
    except Exception as error:
        raise Fault(
            "a data set that can be pickled", f"{type(error).__name__}: {error}"
        ) from error
    _expect_same(dataset, copy)


def _open(subject: Subject) -> PlaceDataset:
    factory: DatasetFactory = subject.factory
    config = subject.config or factory.config()
    context = BuildContext(seed=7, cache_dir=subject.cache_dir)
    if subject.config is not None:
        return factory.build(config, context)
    try:
        return factory.build(config, context)
    except MlcoreError as error:
        raise CheckSkipped(
            f"no data with the default options ({error}); give "
            f"configs={{{factory.name!r}: ...}}"
        ) from error


def _tables(
    dataset: PlaceDataset, splits: tuple[str, ...] = _SPLITS
) -> Iterator[tuple[str, PlaceTable]]:
    """Yield every table that has rows, by name."""
    for split in splits:
        for part in ("references", "queries"):
            table = getattr(getattr(dataset, split), part)
            if len(table):
                yield f"{split}.{part}", table


def _some(table: PlaceTable) -> list[int]:
    rows = np.linspace(0, len(table) - 1, min(_IMAGES_TRIED, len(table))).astype(int)
    return [int(index) for index in table.index[rows]]


def _expect_codes(name: str, codes: NDArray[np.integer], count: int) -> None:
    expect(np.issubdtype(codes.dtype, np.integer), f"{name} as integers", codes.dtype)
    expect(
        int(codes.min()) >= 0 and int(codes.max()) < count,
        f"{name} in [0, {count}), the number of its names",
        f"{int(codes.min())} to {int(codes.max())}",
    )


def _expect_metres(table: PlaceTable) -> None:
    positions = table.positions_m
    extent_m = float(np.ptp(positions[:, :2], axis=0).max())
    in_degrees = bool((np.abs(positions[:, :2]) <= (180.0, 180.0)).all()) and extent_m < 0.1
    expect(
        not in_degrees,
        "positions in metres",
        f"an extent of {extent_m:.4g}; degrees are to go through mlcore.geometry or pyproj",
    )
    expect(
        extent_m <= _LARGEST_EXTENT_M,
        f"an extent of at most {_LARGEST_EXTENT_M / 1000:g} km",
        f"{extent_m / 1000:.6g} km",
    )
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    steps = steps[np.diff(table.traversal) == 0]
    if len(steps):
        median_m = float(np.median(steps))
        expect(
            median_m <= _LARGEST_STEP_M,
            "rows of a traversal in the order they were taken, successive ones at most "
            f"{_LARGEST_STEP_M:g} m apart in the median",
            f"{median_m:.4g} m",
        )


def _expect_same(first: PlaceDataset, second: PlaceDataset) -> None:
    pairs = zip(_tables(first), _tables(second), strict=True)
    for (name, table), (_, other) in pairs:
        for column in (
            *("index", "positions_m", "headings_rad", "traversal", "condition"),
            "region",
        ):
            one, two = getattr(table, column), getattr(other, column)
            same = one is two or np.array_equal(one, two, equal_nan=column != "index")
            expect(same, f"the same {name}.{column}", "another")
        for index in _some(table):
            expect(
                torch.equal(first.load_image(index), second.load_image(index)),
                f"the same image {index}",
                "another",
            )


def _use(subject: Subject) -> tuple[object, Callable[[], object]]:
    dataset = _open(subject)
    return dataset, lambda: dataset.load_image(_some(dataset.train.references)[0])


CHECKS: dict[str, Callable[[Subject], None]] = {
    **FACTORY_CHECKS,
    "opens": opens,
    "lengths": lengths,
    "metres-plausible": metres_plausible,
    "splits-disjoint": splits_disjoint,
    "images": images,
    "deterministic": deterministic,
    "picklable": picklable,
    "leaves-no-trace": partial(leaves_no_trace, use=_use),
}
