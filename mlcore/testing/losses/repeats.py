"""Checks that a loss is a function: the same value for the same input at every call."""

from __future__ import annotations

from typing import Any

import torch

from mlcore.testing.cases import LossCase, loss_case_of, rows_of, standard
from mlcore.testing.check import Fault, expect
from mlcore.testing.losses.calls import differentiate, output_of
from mlcore.testing.subject import Subject

_CALLS = 3
"""A loss that draws one of a few tuples may give the same value twice."""

_ROUNDINGS_OF_WEIGHTS = 32
"""Units of rounding, relative to the loss, that a second call of one with weights may differ.

A loss whose weights are directions may normalise them at every call (PML's P2SGrad). Doing so
twice moves them by a rounding, and few come to rest: the length, its reciprocal and the product
are rounded, and ``torch.renorm`` adds 1e-7, about one unit of float32, to the length. A cosine
then moves by ``d <= 3`` units and the mean L of squared errors by at most ``2 sqrt(L) d``: 14
units relative to L = 0.19 of the standard batch. Its sum of 16 x 32 terms, taken in pairs, adds
half a unit for each of 9 levels, in both calls.
"""


def repeatable(subject: Subject) -> None:
    """Calls of one loss with one input agree to the bit.

    Later calls of a loss with weights may differ from the first by a few units of rounding.
    """
    first, *others = _values(subject, seeded=False)
    worst = max(others, key=lambda value: abs(value - first))
    if _agree(subject, first, worst):
        _expect_no_memory(subject)
        return
    seeded, *again = _values(subject, seeded=True)
    if all(_agree(subject, seeded, value) for value in again):
        raise Fault(
            f"the same loss for the same input at every call, {first:.9g}",
            f"{worst:.9g}: it draws random numbers when it is called. Draw them in build, from "
            "torch.Generator().manual_seed(context.seed)",
        )
    raise Fault(
        f"the same loss for the same input at every call, {first:.9g}",
        f"{worst:.9g}: a call left something behind, such as a running mean, or draws random "
        "numbers of its own",
    )


def _expect_no_memory(subject: Subject) -> None:
    """A batch gives what it gives to a new loss, whatever batch came before."""
    values = []
    for earlier in (None, standard()):
        torch.manual_seed(3)
        case = loss_case_of(subject.factory, standard(seed=1))
        if earlier is not None:
            output_of(loss_case_of(subject.factory, earlier)._replace(loss=case.loss))
        values.append(float(output_of(case).loss.detach()))
    fresh, again = values
    if not _agree(subject, fresh, again):
        raise Fault(
            f"the loss of a batch whatever batch came before, {fresh:.9g}",
            f"{again:.9g}: it keeps something of the first batch, such as a mask",
        )


def reproducible(subject: Subject) -> None:
    """Two losses of one context agree to the bit."""
    values = []
    for seed in (1, 2):
        torch.manual_seed(seed)  # what came before the loss was built must not matter
        values.append(float(differentiate(_case(subject))))
    first, other = values
    expect(
        first == other,
        f"the same loss of another one built with the same context, {first:.9g}",
        f"{other:.9g}; draw from torch.Generator().manual_seed(context.seed)",
    )


def _values(subject: Subject, *, seeded: bool) -> list[float]:
    """Return the values of successive calls; ``seeded``: each after the same global seed."""
    case = _case(subject)
    values = []
    for _ in range(_CALLS):
        if seeded:
            torch.manual_seed(3)
        output: Any = case.loss(case.embeddings, case.batch, case.tuples)
        values.append(float(output.loss.detach()))
    return values


def _agree(subject: Subject, first: float, second: float) -> bool:
    loss = _case(subject).loss
    has_weights = isinstance(loss, torch.nn.Module) and any(True for _ in loss.parameters())
    units = _ROUNDINGS_OF_WEIGHTS if has_weights else 0
    return abs(first - second) <= units * torch.finfo(torch.float32).eps * abs(first)


def _case(subject: Subject) -> LossCase:
    return loss_case_of(subject.factory, rows_of("standard"))
