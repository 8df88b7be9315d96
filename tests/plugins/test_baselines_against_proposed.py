"""Two losses that are the same by construction come out the same.

With the step influence, the soft contrastive loss calls pairs same or different by distance
alone; so does the paper's multi-similarity where a tuple's near images lie within the cutoff
of each other, and its far images apart from everything in their tuple.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mlcore import Batch, BuildContext, Role
from mlcore_baselines.plugin import mlcore_losses
from mlcore_soft_contrastive import Step, soft_contrastive_loss

CUTOFF_M = 15.0
CONTEXT = BuildContext(near_radius_m=CUTOFF_M, far_radius_m=CUTOFF_M)
MULTI_SIMILARITY = next(f for f in mlcore_losses() if f.name == "multi-similarity-paper")


def make_batch(num_tuples: int) -> Batch:
    """Return tuples along streets that cross, so that images of different tuples meet."""
    generator = torch.Generator().manual_seed(0)
    near_m = 10 * torch.rand(num_tuples, 5, 2, generator=generator, dtype=torch.float64)
    far_m = torch.tensor([[60.0 * k, 0.0] for k in range(1, 5)], dtype=torch.float64)
    positions = torch.cat([near_m, far_m.expand(num_tuples, 4, 2)], dim=1)
    positions += torch.tensor([[[55.0 * t, 8.0 * t]] for t in range(num_tuples)])
    role = [Role.ANCHOR, *[Role.NEAR] * 4, *[Role.FAR] * 3, Role.OTHER_FAR] * num_tuples
    size = len(role)
    return Batch(
        positions_m=positions.flatten(end_dim=1),
        headings_rad=None,
        tuple_id=torch.arange(num_tuples).repeat_interleave(size // num_tuples),
        role=torch.tensor(role, dtype=torch.int64),
        place_id=torch.zeros(size, dtype=torch.int64),
        index=torch.arange(size),
    )


def with_gradient(value: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    return value.detach(), torch.autograd.grad(value, x)[0]


@pytest.mark.parametrize("mining", [True, False], ids=["mining", "all"])
@pytest.mark.parametrize("num_tuples", [1, 3])
def test_step_influence_is_the_papers_multi_similarity(num_tuples: int, mining: bool) -> None:
    batch = make_batch(num_tuples)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(len(batch), 6, generator=generator, dtype=torch.float64).requires_grad_()
    proposed = with_gradient(
        soft_contrastive_loss(
            x, batch.positions_m, influence=Step(cutoff_m=CUTOFF_M), mining=mining
        ),
        x,
    )
    loss = MULTI_SIMILARITY.build(MULTI_SIMILARITY.config(mining=mining), CONTEXT)
    baseline = with_gradient(loss(x, batch).loss, x)
    torch.testing.assert_close(baseline, proposed, rtol=1e-6, atol=1e-9)
