"""A street of images and what tests ask of tuples drawn from it."""

from __future__ import annotations

import math

import numpy as np

from mlcore.options.engine import SamplingOptions
from mlcore.protocols import PlaceTable, Role, Split
from mlcore.sampling.planner import BatchPlan, TuplePlanner

UTM = np.array([620_000.0, 5_735_000.0])

OPTIONS = SamplingOptions(
    tuples_per_batch=3,
    near_per_tuple=4,
    far_per_tuple=3,
    near_radius_m=6.0,
    far_radius_m=20.0,
    location_spacing_m=2.0,
)


def make_table(
    positions_m: np.ndarray, headings_rad: np.ndarray | None = None, first_index: int = 0
) -> PlaceTable:
    num = len(positions_m)
    return PlaceTable(
        index=np.arange(first_index, first_index + num),
        positions_m=np.asarray(positions_m, float).reshape(num, 2) + UTM,
        headings_rad=headings_rad,
        traversal=np.zeros(num, int),
        traversals=("drive",),
        condition=np.zeros(num, int),
        conditions=("overcast",),
    )


NOTHING = make_table(np.empty((0, 2)))


def street(num: int = 100, spacing_m: float = 2.0, aside_m: float = 0.0) -> np.ndarray:
    return np.stack([np.arange(num) * spacing_m, np.full(num, aside_m)], axis=1)


def street_planner(
    options: SamplingOptions = OPTIONS, seed: int = 0, **more: bool
) -> TuplePlanner:
    """200 m of street, driven three times in lanes 3 m apart, once the other way."""
    east, west = np.full(100, math.pi / 2), np.full(100, -math.pi / 2)
    queries = np.concatenate([street(aside_m=-3), street(aside_m=3)])
    split = Split(
        references=make_table(street(), east),
        queries=make_table(queries, np.concatenate([east, west]), first_index=100),
    )
    return TuplePlanner(split, options, seed, **more)


def rows_of(plan: BatchPlan, role: Role, tuple_id: int) -> np.ndarray:
    return plan.rows[(plan.role == role) & (plan.tuple_id == tuple_id)]


def same(first: BatchPlan, second: BatchPlan) -> bool:
    return all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("rows", "tuple_id", "role", "epoch")
    )


def distances(planner: TuplePlanner, rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    positions = planner.images.positions_m
    return np.linalg.norm(positions[rows][:, None] - positions[others], axis=2)
