"""A small batch with embeddings, for losses of all its pairs."""

import torch

from mlcore.protocols import Batch


def scene():
    """Nine images on 40 m, with embeddings of 4 dimensions, some of them at an obtuse angle."""
    generator = torch.Generator().manual_seed(0)
    positions_m = 40 * torch.rand(9, 2, generator=generator, dtype=torch.float64)
    embeddings = torch.rand(9, 4, generator=generator, dtype=torch.float64) - 0.2
    zeros = torch.zeros(9, dtype=torch.int64)
    batch = Batch(
        positions_m=positions_m,
        headings_rad=None,
        tuple_id=zeros,
        role=zeros,
        place_id=zeros,
        index=torch.arange(9),
    )
    return embeddings, batch
