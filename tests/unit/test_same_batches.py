"""Batches as they were drawn before the search was made faster: seeds keep their meaning.

The digests are those of commit 8dfb925, whose search was a list of numpy passes.
"""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from mlcore.options.engine import SamplingOptions
from mlcore.protocols import PlaceTable, Split
from mlcore.sampling.places import PlacePlanner
from mlcore.sampling.planner import TuplePlanner

SIZE = 24_000
COLUMNS = {
    "plane": {},
    "headings": {"headings": True},
    "height": {"headings": True, "height": True},
    "regions": {"headings": True, "regions": True},
}


def crossing(size: int, *, headings=False, height=False, regions=False) -> Split:
    """Return drives along two streets that cross, 20 images per metre; no sine is needed."""
    generator = np.random.default_rng(0)
    along_m = np.sort(generator.uniform(0, 600, (20, size // 20)), axis=1)
    aside_m = generator.normal(0, 2, along_m.shape)
    north = np.arange(20)[:, None] % 2 == 1
    east_m = np.where(north, 300 + aside_m, along_m) + 620_000
    north_m = np.where(north, along_m - 300, aside_m) + 5_735_000
    columns = [east_m, north_m] + height * [110 + aside_m]
    turned = generator.normal(0, 0.4, along_m.shape) + np.where(north, 3.0, -1.5)
    table = PlaceTable(
        index=np.arange(size),
        positions_m=np.stack([column.ravel() for column in columns], axis=1),
        headings_rad=(np.pi - np.mod(np.pi - turned, 2 * np.pi)).ravel() if headings else None,
        traversal=np.repeat(np.arange(20), size // 20),
        traversals=tuple(f"drive {number}" for number in range(20)),
        condition=np.zeros(size, np.int64),
        conditions=("all",),
        region=np.repeat(np.arange(20) % 3 // 2, size // 20) if regions else None,
        regions=("a", "b") if regions else (),
    )
    return Split(
        references=table.take(slice(size // 10)), queries=table.take(slice(size // 10, None))
    )


def digest(planner: TuplePlanner | PlacePlanner, steps: int) -> str:
    plans = [planner.plan(step, attempt) for step in range(steps) for attempt in (0, 1)]
    rows = np.concatenate([plan.rows for plan in plans])
    sizes = np.concatenate([plan.tuple_id for plan in plans])
    return hashlib.sha256(rows.tobytes() + sizes.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("columns", "size", "expected"),
    [
        ("plane", SIZE, "1e5a053e987e0a7c"),
        ("headings", SIZE, "23d009c4ba33f0cf"),
        ("height", SIZE, "ed484255e8f3877c"),
        ("regions", SIZE, "1fe1669967b375b7"),
        ("headings", SIZE // 20, "ab81bcf75c54987b"),
    ],
)
def test_tuples_are_those_of_old(columns, size, expected):
    options = SamplingOptions(near_radius_m=15.0, far_radius_m=25.0, tuples_per_batch=4)
    planner = TuplePlanner(crossing(size, **COLUMNS[columns]), options, 3, other_far=True)
    assert digest(planner, 12) == expected


@pytest.mark.parametrize(
    ("columns", "size", "expected"),
    [
        ("plane", SIZE, "b22d76e780b64394"),
        ("headings", SIZE, "b208d7559a6bf0ae"),
        ("height", SIZE, "61c15e5d1df0ad9e"),
        ("regions", SIZE, "2f24da1aeb39a414"),
        ("headings", SIZE // 20, "fa35177a2f9513cc"),
    ],
)
def test_places_are_those_of_old(columns, size, expected):
    options = SamplingOptions(
        scheme="places",
        places_per_batch=12,
        images_per_place=4,
        near_radius_m=6.0,
        far_radius_m=25.0,
        place_cell_m=10.0,
        near_heading_limit_deg=20.0,
    )
    planner = PlacePlanner(crossing(size, **COLUMNS[columns]), options, 3)
    assert digest(planner, 12) == expected
