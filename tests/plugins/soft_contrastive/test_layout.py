"""The order in which a batch is walked."""

from __future__ import annotations

import torch

from mlcore_soft_contrastive.tiled.layout import hilbert_index

SIDE = 64


def test_hilbert_curve_visits_neighbours() -> None:
    grid = torch.cartesian_prod(*[torch.arange(SIDE, dtype=torch.float64)] * 2)
    path = grid[torch.argsort(hilbert_index(grid))]
    assert torch.equal(path.diff(dim=0).abs().sum(dim=1), torch.ones(SIDE * SIDE - 1).double())
    assert len(hilbert_index(torch.zeros(3, 2, dtype=torch.float64)).unique()) == 1
