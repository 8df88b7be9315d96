"""The joint gradient of the soft contrastive loss under DistributedDataParallel.

    python examples/ddp.py

Two processes on the CPU hold half of a batch each. A loss on local batches leaves out every
pair across processes: its gradient is another one. With the embeddings of all processes
gathered as references, the gradient is that of the whole batch. Each process must have the
same number of images.
"""

from __future__ import annotations

import tempfile
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from mlcore_soft_contrastive import SoftContrastiveLoss

PROCESSES, IMAGES = 2, 32


class Gather(torch.autograd.Function):
    """Tensors of all processes, one below the other; gradients go back to where they belong."""

    @staticmethod
    def forward(ctx: Any, mine: Tensor) -> Tensor:
        """Collect ``(B, D)`` from each process: ``(processes B, D)``."""
        parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, mine.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        """Add up what all processes have for each row, and keep this process's rows."""
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.chunk(dist.get_world_size())[dist.get_rank()]


def joint_loss(loss: nn.Module, embeddings: Tensor, positions_m: Tensor) -> Tensor:
    """Return this process's share of the joint loss; DDP takes the mean over processes."""
    size = len(embeddings)
    return loss(
        embeddings,
        positions_m,
        references=Gather.apply(embeddings),
        reference_positions_m=Gather.apply(positions_m),
        self_index=torch.arange(size) + dist.get_rank() * size,
    )


def local_loss(loss: nn.Module, embeddings: Tensor, positions_m: Tensor) -> Tensor:
    """Return the loss of this process's images alone, for comparison."""
    return loss(embeddings, positions_m)


def make_model() -> nn.Module:
    """Return a network, the same in each process."""
    torch.manual_seed(1)
    return nn.Linear(24, 16)


def make_batch() -> tuple[Tensor, Tensor]:
    """Return images of a route, as features, and where they were taken."""
    generator = torch.Generator().manual_seed(0)
    positions_m = 60 * torch.rand(IMAGES, 2, generator=generator, dtype=torch.float64)
    return torch.randn(IMAGES, 24, generator=generator), positions_m


def work(rank: int, file: str) -> None:
    """Compare both losses with that of the whole batch, in one of the processes."""
    dist.init_process_group(
        "gloo", init_method=f"file://{file}", rank=rank, world_size=PROCESSES
    )
    images, positions_m = make_batch()
    loss, whole = SoftContrastiveLoss(), make_model()
    loss(whole(images), positions_m).backward()
    share = slice(rank * IMAGES // PROCESSES, (rank + 1) * IMAGES // PROCESSES)
    for of_share in (joint_loss, local_loss):
        model = DistributedDataParallel(make_model())
        of_share(loss, model(images[share]), positions_m[share]).backward()
        found, expected = model.module.weight.grad, whole.weight.grad
        if rank == 0:
            error = float((found - expected).norm() / expected.norm())
            print(f"{of_share.__name__}: gradient off by {error:.1e}", flush=True)
    dist.destroy_process_group()


def main() -> None:
    """Start the processes."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.spawn(work, args=(f"{folder}/meet",), nprocs=PROCESSES)


if __name__ == "__main__":
    main()
