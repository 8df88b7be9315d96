"""The order in which a batch is walked."""

from __future__ import annotations

import torch

from mlcore_soft_contrastive.tiled.layout import hilbert_index


def test_hilbert_curve_visits_neighbours() -> None:
    grid = torch.cartesian_prod(*[torch.arange(16.0, dtype=torch.float64)] * 2)
    path = grid[torch.argsort(hilbert_index(grid))]
    assert torch.equal(path.diff(dim=0).abs().sum(dim=1), torch.ones(255).double())
    assert len(hilbert_index(torch.zeros(3, 2, dtype=torch.float64)).unique()) == 1
