"""Pieces of a tile that are near or far, against all distances."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mlcore_soft_contrastive import Sigmoid
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.inputs import checked_geometry
from mlcore_soft_contrastive.tiled import numba_kernels, numba_pairs, numba_pieces
from mlcore_soft_contrastive.tiled.layout import blocks
from mlcore_soft_contrastive.tiled.numba_backend import NumbaBackend
from mlcore_soft_contrastive.tiled.numba_pairs import Span
from mlcore_soft_contrastive.tiled.numba_pieces import CHUNK, FAR, NEAR, UNDER, cut
from mlcore_soft_contrastive.tiled.state import TileState


def runs_of(
    positions_m: Tensor,
    chunk: int,
    *,
    near: bool = True,
    tile: int = 32,
    bars: tuple[Tensor, Tensor] | None = None,
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
    row_bars, column_bars = bars or (torch.empty(0), torch.empty(0))
    everything = cut(
        span, size, size, *sides, rule, row_bars.numpy(), column_bars.numpy()
    ).tolist()
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
    for left, right, kind in runs:
        assert left < right
        assert kind == FAR or (near and kind == NEAR)
        if near and kind == FAR:
            assert distances[:, left:right].min() >= Sigmoid().support_m - 1e-6


@given(
    size=st.integers(1, 300),
    length_m=st.sampled_from([0.0, 50.0, 500.0]),
    highest=st.sampled_from([1e-6, 0.1, 1.0, float("inf")]),
    seed=st.integers(0, 1000),
)
@settings(deadline=None)
def test_under_the_bars_no_weight_exceeds_one(
    size: int, length_m: float, highest: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    positions = torch.rand(size, 2, generator=generator, dtype=torch.float64) * length_m
    bars = torch.rand(2, size, generator=generator) * highest
    bars[torch.rand(2, size, generator=generator) < 0.1] = torch.inf
    chunk = int(torch.randint(0, -(-size // CHUNK), (1,), generator=generator))
    positions, runs = runs_of(positions + 5e6, chunk, bars=(bars[0], bars[1]))
    rows = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
    weights = Sigmoid()(torch.cdist(positions[rows], positions))
    weights.diagonal(chunk * CHUNK).fill_(torch.inf)  # an image and itself always matter
    for left, right, kind in runs:
        if kind == UNDER:
            columns = slice(left, right)
            assert (weights[:, columns] <= bars[0][rows, None]).all()
            assert (weights[:, columns] <= bars[1][columns]).all()


def test_runs_along_a_road() -> None:
    """An image every 10 m, so that 32 images are 320 m, and the support of 126 m 13 images."""
    road = torch.zeros(300, 2, dtype=torch.float64)
    road[:, 0] = 10.0 * torch.arange(300)
    assert runs_of(road, 0)[1] == [[0, 64, NEAR], [64, 300, FAR]]
    assert runs_of(road, 5)[1] == [[0, 128, FAR], [128, 224, NEAR], [224, 300, FAR]]
    assert runs_of(road, 9)[1] == [[0, 256, FAR], [256, 300, NEAR]]


def test_few_far_columns_between_near_ones_are_near() -> None:
    """A street, a detour far away, and the street again, in this order."""
    apart = [[0, 32, NEAR], [32, 96, FAR], [96, 128, NEAR]]
    for detour, expected in ((32, [[0, 96, NEAR]]), (64, apart)):
        positions = torch.zeros(64 + detour, 2, dtype=torch.float64)
        positions[32 : 32 + detour, 1] = 1e4
        assert runs_of(positions, 0, tile=len(positions))[1] == expected


def test_compiled_code_on_disk_goes_when_the_code_it_calls_changes() -> None:
    """numba keeps it until the caller's own file changes."""
    sources = [Path(str(one.__file__)).read_bytes() for one in (numba_pairs, numba_pieces)]
    digests = [hashlib.sha256(source).hexdigest()[:16] for source in sources]
    assert digests[0] == numba_pieces.CALLED, "put it there"
    assert " ".join(digests) == numba_kernels.CALLED, "put it there"
