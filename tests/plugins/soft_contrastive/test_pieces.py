"""Pieces of a tile that are near or far, against all distances."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlcore_soft_contrastive import Sigmoid
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.inputs import checked_geometry
from mlcore_soft_contrastive.tiled.layout import blocks
from mlcore_soft_contrastive.tiled.numba_backend import NumbaBackend
from mlcore_soft_contrastive.tiled.numba_kernels import CHUNK, cut
from mlcore_soft_contrastive.tiled.numba_pairs import Span
from mlcore_soft_contrastive.tiled.state import TileState


def runs_of(
    positions_m: Tensor, chunk: int, *, near: bool = True, tile: int = 32
) -> tuple[Tensor, Any]:
    """Return the positions as sorted for ``tile``, and the runs of all columns for a chunk."""
    geometry = checked_geometry(
        torch.zeros(len(positions_m), 2),
        positions_m,
        None,
        influence=Sigmoid(),
        heading_limit_rad=None,
    )
    order = blocks(geometry.rows, tile)
    state = TileState(
        geometry, SoftContrastiveConfig(), order, order, NumbaBackend, torch.float32
    )
    backend = state.backend
    assert isinstance(backend, NumbaBackend)
    span = Span(row=0, column=0, near=near, symmetric=True, mirrored=False)
    size = len(positions_m)
    sides, rule = (backend.rows, backend.columns), backend.rule
    everything = cut(span, size, size, *sides, rule).tolist()
    pieces = [piece for piece in everything if piece[0] == chunk]
    for _, first, last, *_ in pieces:
        assert (first, last) == (chunk * CHUNK, min(size, (chunk + 1) * CHUNK))
    assert sorted({piece[0] for piece in everything}) == list(range(-(-size // CHUNK)))
    return positions_m[order.order], [piece[3:] for piece in pieces]


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
    chunk = int(torch.randint(0, -(-size // CHUNK), (1,), generator=generator))
    positions, runs = runs_of(positions + 5e6, chunk, near=near)
    assert [left for left, _, _ in runs] == [0, *(right for _, right, _ in runs[:-1])]
    assert runs[-1][1] == size
    distances = torch.cdist(positions[chunk * CHUNK : (chunk + 1) * CHUNK], positions)
    for left, right, is_near in runs:
        assert left < right
        assert near or not is_near
        if near and not is_near:
            assert distances[:, left:right].min() >= Sigmoid().support_m - 1e-6


def test_runs_along_a_road() -> None:
    """An image every 10 m, so that 32 images are 320 m, and the support of 126 m 13 images."""
    road = torch.zeros(300, 2, dtype=torch.float64)
    road[:, 0] = 10.0 * torch.arange(300)
    assert runs_of(road, 0)[1] == [[0, 64, 1], [64, 300, 0]]
    assert runs_of(road, 5)[1] == [[0, 128, 0], [128, 224, 1], [224, 300, 0]]
    assert runs_of(road, 9)[1] == [[0, 256, 0], [256, 300, 1]]


def test_few_far_columns_between_near_ones_are_near() -> None:
    """A street, a detour far away, and the street again, in this order."""
    for detour, expected in ((32, [[0, 96, 1]]), (64, [[0, 32, 1], [32, 96, 0], [96, 128, 1]])):
        positions = torch.zeros(64 + detour, 2, dtype=torch.float64)
        positions[32 : 32 + detour, 1] = 1e4
        assert runs_of(positions, 0, tile=len(positions))[1] == expected
