"""Runs of near and far columns within a tile, against all distances."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlcore_soft_contrastive import Sigmoid
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.inputs import checked_geometry
from mlcore_soft_contrastive.layout import blocks
from mlcore_soft_contrastive.numba_ops import NumbaTileOps
from mlcore_soft_contrastive.numba_runs import column_boxes, find_runs
from mlcore_soft_contrastive.numba_weights import Span


def runs_of(
    positions_m: Tensor, first: int, last: int, *, near: bool = True, tile: int = 32
) -> Any:
    """Return the positions as sorted for ``tile``, and the runs of all columns for these rows."""
    geometry = checked_geometry(
        torch.zeros(len(positions_m), 2),
        positions_m,
        None,
        influence=Sigmoid(),
        heading_limit_rad=None,
    )
    order = blocks(positions_m, tile)
    ops = NumbaTileOps(geometry, SoftContrastiveConfig(), order, order)
    span = Span(row=0, column=0, near=near, symmetric=True, mirrored=False)
    size = len(positions_m)
    boxes = column_boxes(span, size, ops._columns)
    found = np.full((boxes.shape[1], 3), -1)
    count = find_runs(span, first, last, size, ops._rows, boxes, ops._rule, found)
    return positions_m[order.order], found[:count].tolist()


@given(
    size=st.integers(1, 300),
    length_m=st.sampled_from([0.0, 50.0, 2000.0, 1e6]),
    dim=st.sampled_from([2, 3]),
    seed=st.integers(0, 1000),
    near=st.booleans(),
)
@settings(deadline=None)
def test_runs_cover_the_columns_and_leave_no_near_pair_out(
    size: int, length_m: float, dim: int, seed: int, near: bool
) -> None:
    generator = torch.Generator().manual_seed(seed)
    positions = torch.rand(size, dim, generator=generator, dtype=torch.float64) * length_m
    first = int(torch.randint(0, size, (1,), generator=generator))
    last = min(size, first + 32)
    positions, runs = runs_of(positions + 5e6, first, last, near=near)
    assert [left for left, _, _ in runs] == [0, *(right for _, right, _ in runs[:-1])]
    assert runs[-1][1] == size
    distances = torch.cdist(positions[first:last], positions)
    for left, right, is_near in runs:
        assert left < right
        assert near or not is_near
        if near and not is_near:
            assert distances[:, left:right].min() >= Sigmoid().support_m - 1e-6


def test_runs_along_a_road() -> None:
    """An image every 10 m, so that 32 images are 320 m, and the support of 126 m 13 images."""
    road = torch.zeros(300, 2, dtype=torch.float64)
    road[:, 0] = 10.0 * torch.arange(300)
    assert runs_of(road, 0, 32)[1] == [[0, 64, 1], [64, 300, 0]]
    assert runs_of(road, 160, 192)[1] == [[0, 128, 0], [128, 224, 1], [224, 300, 0]]
    assert runs_of(road, 8, 12)[1] == [[0, 32, 1], [32, 300, 0]]


def test_few_far_columns_between_near_ones_are_near() -> None:
    """A street, a detour far away, and the street again, in this order."""
    for detour, expected in ((32, [[0, 96, 1]]), (64, [[0, 32, 1], [32, 96, 0], [96, 128, 1]])):
        positions = torch.zeros(64 + detour, 2, dtype=torch.float64)
        positions[32 : 32 + detour, 1] = 1e4
        assert runs_of(positions, 0, 32, tile=len(positions))[1] == expected
