"""The order in which a batch is walked."""

from __future__ import annotations

import torch

from mlcore_soft_contrastive.tiled.layout import _cells, _index_by_operations, hilbert_index

SIDE = 64


def test_hilbert_curve_visits_neighbours() -> None:
    grid = torch.cartesian_prod(*[torch.arange(SIDE, dtype=torch.float64)] * 2)
    path = grid[torch.argsort(hilbert_index(grid))]
    assert torch.equal(path.diff(dim=0).abs().sum(dim=1), torch.ones(SIDE * SIDE - 1).double())
    assert len(hilbert_index(torch.zeros(3, 2, dtype=torch.float64)).unique()) == 1


def test_the_curve_is_the_same_where_torch_computes_it() -> None:
    points = torch.rand(500, 2, generator=torch.Generator().manual_seed(0)).double() * 3e4
    assert torch.equal(hilbert_index(points), _index_by_operations(_cells(points)))
