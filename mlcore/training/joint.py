"""The loss over the joint batch of several processes, and its exact gradient.

Every process has all ``B`` embeddings, and also the geometry, because a batch's plan is a
function of the step. A loss with ``forward_shared`` is computed by all together, one with
``forward_rows`` in shares, one per process; any other whole on every process, where only the
first one's gradient with respect to its own parameters counts. Gradients are *added up* over
processes: they are those of one process that has the whole batch.

Shapes: ``B`` images in the joint batch, ``D`` embedding dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mlcore.distributed import JointProcesses, deal, num_processes, rank, sum_over_processes
from mlcore.protocols import (
    Batch,
    Loss,
    LossOutput,
    Pairs,
    RowwiseLoss,
    SharedLoss,
    Triplets,
)

_BUCKET_NUMBERS = 2**24
"""Gradients added up in one message: 64 MB of float32."""


class JointLoss(NamedTuple):
    """This process's part of a loss, and the totals over all processes.

    Attributes:
        mine: Scalar whose gradient is this process's part of the whole gradient, or all of
            it.
        total: Scalar float64, detached: the loss of the joint batch.
        stats: The loss's own numbers, of the joint batch.
        in_shares: Whether the gradient of ``mine`` is a part.
    """

    mine: Tensor
    total: Tensor
    stats: Mapping[str, Tensor | float | str]
    in_shares: bool


def joint_loss(
    loss: Loss,
    embeddings: Tensor,
    batch: Batch,
    tuples: Pairs | Triplets | None,
    num_current: int | None = None,
) -> JointLoss:
    """Compute a loss over the joint batch, in shares if possible and worthwhile.

    Behind the rows of the joint batch there may be remembered ones
    (:mod:`mlcore.training.cross_batch`). A loss with ``forward_rows`` is then that of the
    current rows, which are compared with all: their share of the whole loss, times the number
    of all rows per current row. With mined tuples it is the loss of these; any other is that of
    all rows, with the remembered ones as constants.

    Args:
        loss: Any loss.
        embeddings: ``(B, D)``, the same in every process.
        batch: Of all rows, the same in every process.
        tuples: A miner's, of all rows; neither ``forward_shared`` nor ``forward_rows`` takes
            any, so that a loss with tuples is computed whole.
        num_current: How many of the rows are the joint batch's; None for all.
    """
    count = num_processes()
    current = len(batch) if num_current is None else num_current
    remembers = current < len(batch)
    may_share = 1 < count <= current and tuples is None
    if may_share and not remembers and isinstance(loss, SharedLoss):
        shared = loss.forward_shared(embeddings, batch, JointProcesses())
        if shared is not None:
            return JointLoss(shared.loss, shared.loss.detach().double(), shared.stats, True)
    if (may_share or (remembers and tuples is None)) and isinstance(loss, RowwiseLoss):
        rows = deal(current, count)[rank()] if may_share else slice(0, current)
        share = loss.forward_rows(embeddings, batch, rows)
        if remembers:
            share = _times(share, len(batch) / current)
        if may_share:
            total, stats = _added_up(share)
            return JointLoss(share.loss, total, stats, True)
        return JointLoss(share.loss, share.loss.detach().double(), share.stats, False)
    output = loss(embeddings, batch, tuples)
    return JointLoss(output.loss, output.loss.detach().double(), output.stats, False)


def _times(output: LossOutput, factor: float) -> LossOutput:
    """Return a share of a loss and of its numbers, each multiplied."""
    stats = {
        name: value if isinstance(value, str) else value * factor
        for name, value in output.stats.items()
    }
    return LossOutput(output.loss * factor, stats)


def _added_up(output: LossOutput) -> tuple[Tensor, dict[str, Tensor | float | str]]:
    """Return the sums over processes of the shares of the loss and of its numbers."""
    names = [name for name, value in output.stats.items() if not isinstance(value, str)]
    shares = [output.loss.detach(), *(output.stats[name] for name in names)]
    device = output.loss.device
    flat = torch.stack(
        [
            torch.as_tensor(share, dtype=torch.float64, device=device).reshape(())
            for share in shares
        ]
    )
    total, *values = sum_over_processes(flat).unbind()
    stats = dict(output.stats) | dict(zip(names, values, strict=True))
    return total, stats


def embedding_gradient(leaf: Tensor, in_shares: bool) -> Tensor:
    """Return the gradient ``(B, D)`` of the joint loss with respect to all embeddings.

    Args:
        leaf: The embeddings that this process's part was differentiated to.
        in_shares: Whether that was a share.
    """
    gradient = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
    return sum_over_processes(gradient) if in_shares else gradient


@contextmanager
def earlier_gradients_aside(model: nn.Module, loss: nn.Module) -> Iterator[None]:
    """Let the block compute the gradients of one batch, and add them to those before it.

    :func:`add_up_gradients` would otherwise add up gradients of earlier batches again.
    """
    if num_processes() == 1:
        yield
        return
    parameters = [p for module in (model, loss) for p in module.parameters()]
    earlier = [(p, p.grad) for p in parameters if p.grad is not None]
    for parameter, _ in earlier:
        parameter.grad = None
    yield
    for parameter, gradient in earlier:
        assert gradient is not None
        parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)


def add_up_gradients(model: nn.Module, loss: nn.Module, loss_in_shares: bool) -> None:
    """Make every parameter's gradient the sum over processes of its parts.

    A loss that every process computed whole has its gradient everywhere: the first
    process's counts, so that all have the same to the last bit.
    """
    if num_processes() == 1:
        return
    if not loss_in_shares and rank() != 0:
        for parameter in loss.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
    trained = [p for module in (model, loss) for p in module.parameters() if p.requires_grad]
    if not trained:
        return
    device = trained[0].device
    has = torch.tensor([p.grad is not None for p in trained], device=device).to(torch.int32)
    anywhere = sum_over_processes(has).tolist()
    used = [p for p, number in zip(trained, anywhere, strict=True) if number]
    for bucket in _buckets(used):
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in bucket]
        flat = sum_over_processes(torch.cat([gradient.reshape(-1) for gradient in gradients]))
        parts = torch.split(flat, [p.numel() for p in bucket])
        for parameter, part in zip(bucket, parts, strict=True):
            parameter.grad = torch.empty_like(parameter).copy_(part.view_as(parameter))


def _buckets(parameters: Iterable[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Return parameters in order, in groups of one dtype and bounded size."""
    buckets: list[list[nn.Parameter]] = []
    for parameter in parameters:
        last = buckets[-1] if buckets else []
        size = sum(p.numel() for p in last) + parameter.numel()
        if last and last[0].dtype == parameter.dtype and size <= _BUCKET_NUMBERS:
            last.append(parameter)
        else:
            buckets.append([parameter])
    return buckets
