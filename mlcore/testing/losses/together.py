"""Threads in the place of processes that compute a loss together."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from mlcore.factories import LossFactory
from mlcore.protocols import ProcessGroup, SharedLoss
from mlcore.testing.cases import build, loss_case_of, rows_of
from mlcore.testing.check import CheckSkipped, expect
from mlcore.testing.losses.calls import differentiate, is_close
from mlcore.testing.subject import Subject

T = TypeVar("T")

PATIENCE_S = 60.0
"""A thread that waits this long for the others waits in vain."""


def in_group(count: int, work: Callable[[ProcessGroup], T]) -> list[T]:
    """Call ``work`` in ``count`` threads that form a group; return what each returns.

    Raises:
        Exception: What the first thread that failed raised.
        RuntimeError: The threads called different methods of the group, or not equally often.
    """
    meeting = _Meeting(threading.Barrier(count), [""] * count, [torch.empty(0)] * count)

    def call(rank: int) -> T:
        member = _Thread(rank, count, meeting)
        try:
            result = work(member)
            member.returns()
        except BaseException:
            meeting.barrier.abort()
            raise
        return result

    with ThreadPoolExecutor(count) as pool:
        futures = [pool.submit(call, rank) for rank in range(count)]
    errors = [error for future in futures if (error := future.exception()) is not None]
    errors.sort(key=lambda error: isinstance(error, threading.BrokenBarrierError))
    if errors:
        raise errors[0]
    return [future.result() for future in futures]


@dataclass(frozen=True)
class _Meeting:
    barrier: threading.Barrier
    calls: list[str]
    values: list[Tensor]


@dataclass(frozen=True)
class _Thread:
    """See :class:`mlcore.protocols.ProcessGroup`."""

    rank: int
    count: int
    meeting: _Meeting

    def add_up(self, values: Tensor) -> Tensor:
        return torch.stack(self._meet("calls add_up", values)).sum(dim=0)

    def largest(self, values: Tensor) -> Tensor:
        return torch.stack(self._meet("calls largest", values)).amax(dim=0)

    def returns(self) -> None:
        """Meet the others at the end, so that none waits for a thread that has returned."""
        self._meet("returns", torch.empty(0))

    def _meet(self, call: str, values: Tensor) -> list[Tensor]:
        """Return the values of all threads; an error if they did not make the same call."""
        meeting = self.meeting
        meeting.calls[self.rank] = call
        meeting.values[self.rank] = values.detach().clone()
        meeting.barrier.wait(PATIENCE_S)
        calls, together = list(meeting.calls), list(meeting.values)
        if len(set(calls)) > 1:
            what = ", ".join(f"process {rank} {call}" for rank, call in enumerate(calls))
            raise RuntimeError(f"processes wait for each other forever: {what}")
        meeting.barrier.wait(PATIENCE_S)  # before anyone brings the next values
        return together


def adds_up(subject: Subject) -> None:
    """Processes that compute it together get the whole loss, and parts of its gradient."""
    if not isinstance(build(subject.factory), SharedLoss):
        raise CheckSkipped("it has no forward_shared")
    case = loss_case_of(subject.factory, rows_of("standard"), dtype=torch.float64)
    whole = differentiate(case)
    assert case.embeddings.grad is not None
    for count in (2, 3):
        parts = in_group(count, partial(_part, subject.factory))
        if None in parts:
            expect(parts == [None] * count, "None from all processes or from none", "a mixture")
            raise CheckSkipped("it shares no batch as small as this")
        losses, gradients = zip(*(part for part in parts if part is not None), strict=True)
        for loss in losses:
            expect(
                is_close(whole, loss),
                f"in each of {count} processes the whole loss, {float(whole):.9g}",
                f"{float(loss):.9g}",
            )
        expect(
            is_close(case.embeddings.grad, torch.stack(gradients).sum(dim=0)),
            f"gradients of {count} processes that add up to the gradient of the whole",
            "another sum",
        )


def _part(factory: LossFactory, group: ProcessGroup) -> tuple[Tensor, Tensor] | None:
    """Return a process's loss and its part of the gradient by the embeddings."""
    case = loss_case_of(factory, rows_of("standard"), dtype=torch.float64)
    assert isinstance(case.loss, SharedLoss)
    output = case.loss.forward_shared(case.embeddings, case.batch, group)
    if output is None:
        return None
    (gradient,) = torch.autograd.grad(output.loss, case.embeddings)
    return output.loss.detach(), gradient
