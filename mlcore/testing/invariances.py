"""Checks that a loss depends on what it should, and on nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mlcore.factories import LossFactory
from mlcore.protocols import Batch, Pairs, Role, RowwiseLoss, Triplets
from mlcore.testing.calls import differentiate, output_of
from mlcore.testing.cases import LossCase, build, loss_case_of, rows_of
from mlcore.testing.check import CheckSkipped, expect
from mlcore.testing.subject import Subject

_RELATIVE = 1e-5
"""Agreement asked for where sums are made in another order, in float32 or better."""

_ROUNDINGS_OF_WEIGHTS = 32
"""Units of rounding, relative to the loss, that a second call of one with weights may differ.

A loss whose weights are directions may normalise them at every call (PML's P2SGrad). Doing so
twice moves them by a rounding, and few come to rest: the length, its reciprocal and the product
are rounded, and ``torch.renorm`` adds 1e-7, about one unit of float32, to the length. A cosine
then moves by ``d <= 3`` units and the mean L of squared errors by at most ``2 sqrt(L) d``: 14
units relative to L = 0.19 of the standard batch. Its sum of 16 x 32 terms, taken in pairs, adds
half a unit for each of 9 levels, in both calls.
"""


def permutation(subject: Subject) -> None:
    """Images in another order: the same value, the gradient in that order."""
    case = loss_case_of(subject.factory, rows_of("standard"), dtype=torch.float64)
    order = torch.randperm(len(case.batch), generator=torch.Generator().manual_seed(1))
    moved = LossCase(
        case.loss,
        case.embeddings.detach()[order].requires_grad_(),
        case.batch.take(order),
        _renamed(case.tuples, torch.argsort(order)),
    )
    before, after = differentiate(case), differentiate(moved)
    expect(
        _close(before, after),
        f"the loss of the same images in another order, {float(before):.9g}",
        f"{float(after):.9g}",
    )
    assert case.embeddings.grad is not None
    assert moved.embeddings.grad is not None
    expect(
        _close(case.embeddings.grad[order], moved.embeddings.grad),
        "the gradient in the new order of the images",
        "another one",
    )


def translation(subject: Subject) -> None:
    """Positions in raw UTM give what positions around the origin give."""
    utm = loss_case_of(subject.factory, rows_of("standard"), dtype=torch.float64)
    centred_m = utm.batch.positions_m - utm.batch.positions_m.mean(dim=0)
    centred = utm._replace(batch=replace(utm.batch, positions_m=centred_m))
    near_origin, far_away = differentiate(centred), differentiate(utm)
    expect(
        _close(near_origin, far_away),
        f"at raw UTM positions the loss at centred ones, {float(near_origin):.9g}",
        f"{float(far_away):.9g}; take differences in float64 before any cast",
    )


def regions(subject: Subject) -> None:
    """Where one region lies changes nothing: images of another are infinitely far away."""
    rows = rows_of("standard")
    apart = replace(rows.batch, region=rows.batch.tuple_id)
    anchors = apart.positions_m[apart.role == int(Role.ANCHOR)]
    onto_the_first_m = (anchors[1] - anchors[0]) * apart.tuple_id[:, None]
    together = replace(apart, positions_m=apart.positions_m - onto_the_first_m)
    rows = rows._replace(batch=apart)
    case = loss_case_of(subject.factory, rows, dtype=torch.float64)
    kept = torch.isin(apart.index, case.batch.index)
    before = differentiate(case)
    after = differentiate(case._replace(batch=together.take(kept)))
    expect(
        bool(torch.isfinite(before)) and _close(before, after),
        f"the loss of two regions wherever they lie, {float(before):.9g}",
        f"{float(after):.9g} where their positions coincide; mlcore.geometry.between_m gives "
        "distances that are infinite across regions (batch.region)",
    )


def declares_needs(subject: Subject) -> None:
    """A column of the batch that ``needs`` leaves out may hold anything."""
    factory: LossFactory = subject.factory
    case = loss_case_of(factory, rows_of("standard"))
    undeclared = {
        need: columns
        for need, columns in _COLUMNS.items()
        if need not in factory.needs and not (need == "positions" and factory.uses_influence)
    }
    before = output_of(case).loss.detach()
    for need, columns in undeclared.items():
        # Reversed, every column is a valid one still.
        changed: dict[str, Any] = {
            column: getattr(case.batch, column).flip(0) for column in columns
        }
        moved = case._replace(batch=replace(case.batch, **changed))
        after = output_of(moved).loss.detach()
        expect(
            _close(before, after),
            f"a loss that does not read {' and '.join(columns)}, or needs={{{need!r}, ...}}",
            f"{float(after):.6g} instead of {float(before):.6g} after changing them",
        )


_COLUMNS = {
    "tuples": ("role", "tuple_id"),
    "labels": ("place_id",),
    "positions": ("positions_m", "headings_rad"),
}


def inputs_unmodified(subject: Subject) -> None:
    """Forward and backward leave their inputs alone."""
    case = loss_case_of(subject.factory, rows_of("standard"))
    inputs = {"embeddings": case.embeddings, **columns_of(case.batch)}
    if case.tuples is not None:
        inputs |= {f"tuples.{name}": column for name, column in case.tuples._asdict().items()}
    before = {name: tensor.detach().clone() for name, tensor in inputs.items()}
    differentiate(case)
    expect_unmodified(inputs, before)


def reproducible(subject: Subject) -> None:
    """Two losses of one context agree to the bit, and so do two calls of one.

    A second call of a loss with weights may differ by a few units of rounding.
    """
    rows = rows_of("standard")
    values = []
    for seed in (1, 2):
        torch.manual_seed(seed)  # what came before the loss was built must not matter
        case = loss_case_of(subject.factory, rows)
        torch.manual_seed(3)
        values.append(differentiate(case))
        torch.manual_seed(3)
        values.append(output_of(case).loss.detach())
    first, again, other, _ = (float(value) for value in values)
    parameters = case.loss.parameters() if isinstance(case.loss, torch.nn.Module) else ()
    units = _ROUNDINGS_OF_WEIGHTS if list(parameters) else 0
    expect(
        abs(first - again) <= units * torch.finfo(values[0].dtype).eps * abs(first),
        f"the same loss at a second call, {first:.9g}",
        f"{again:.9g}; the first call left something behind",
    )
    expect(
        first == other,
        f"the same loss of another one built with the same context, {first:.9g}",
        f"{other:.9g}; draw from torch.Generator().manual_seed(context.seed)",
    )


def rows_add_up(subject: Subject) -> None:
    """The shares of several processes add up to the loss of the joint batch."""
    if not isinstance(build(subject.factory), RowwiseLoss):
        raise CheckSkipped("it has no forward_rows")
    case = loss_case_of(subject.factory, rows_of("standard"), dtype=torch.float64)
    shared = loss_case_of(subject.factory, rows_of("standard"), dtype=torch.float64)
    whole = differentiate(case)
    assert isinstance(shared.loss, RowwiseLoss)
    size = len(case.batch)
    total = torch.zeros(())
    for part in (slice(0, 3), slice(3, size - 4), slice(size - 4, size)):
        share = shared.loss.forward_rows(shared.embeddings, shared.batch, part).loss
        share.backward()  # type: ignore[no-untyped-call]
        total = total + share.detach()
    expect(
        _close(whole, total),
        f"shares that add up to the whole, {float(whole):.9g}",
        f"{float(total):.9g}",
    )
    assert case.embeddings.grad is not None
    assert shared.embeddings.grad is not None
    expect(
        _close(case.embeddings.grad, shared.embeddings.grad),
        "gradients of the shares that add up to the gradient of the whole",
        "another sum",
    )


_BATCH_COLUMNS = (
    "positions_m",
    "headings_rad",
    "tuple_id",
    "role",
    "place_id",
    "index",
    "region",
)


def columns_of(batch: Batch) -> dict[str, Tensor]:
    """Return every tensor of a batch by name."""
    columns = {f"batch.{name}": getattr(batch, name) for name in _BATCH_COLUMNS}
    return {name: column for name, column in columns.items() if column is not None}


def expect_unmodified(now: dict[str, Tensor], before: dict[str, Tensor]) -> None:
    """Raise Fault if a tensor is not what it was."""
    changed = [name for name, tensor in now.items() if not torch.equal(tensor, before[name])]
    expect(not changed, "inputs as they were before the call", f"{', '.join(changed)} changed")


def _renamed(tuples: Pairs | Triplets | None, new_row: Tensor) -> Pairs | Triplets | None:
    if tuples is None:
        return None
    return type(tuples)(*(new_row[column] for column in tuples))


def _close(first: Tensor, second: Tensor) -> bool:
    scale = float(first.detach().abs().max()) if first.numel() else 0.0
    difference = (first.detach() - second.detach()).abs()
    return bool((difference <= _RELATIVE * scale + 1e-12).all())
