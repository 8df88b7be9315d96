"""Checks of what may change about a call without changing the loss, and of its inputs."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mlcore.factories import LossFactory
from mlcore.protocols import Pairs, Role, RowwiseLoss, Triplets
from mlcore.testing.cases import (
    LossCase,
    at_thresholds,
    build,
    columns_of,
    expect_unmodified,
    loss_case_of,
    rows_of,
    thresholds_m,
)
from mlcore.testing.check import CheckSkipped, expect
from mlcore.testing.losses.calls import differentiate, is_close
from mlcore.testing.subject import Subject

_SHIFTS_M = range(0, 48, 4)
"""Some of these make positions minus their mean round so that a threshold is missed."""


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
        is_close(before, after),
        f"the loss of the same images in another order, {float(before):.9g}",
        f"{float(after):.9g}",
    )
    assert case.embeddings.grad is not None
    assert moved.embeddings.grad is not None
    expect(
        is_close(case.embeddings.grad[order], moved.embeddings.grad),
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
        is_close(near_origin, far_away),
        f"at raw UTM positions the loss at centred ones, {float(near_origin):.9g}",
        f"{float(far_away):.9g}; take differences in float64 before any cast",
    )


def near_thresholds(subject: Subject) -> None:
    """Pairs at a threshold, and 1 mm from it, are decided alike wherever they lie.

    Thresholds are the radii of the context, the support of its influence function and the
    options in metres. Positions are moved by whole metres, which changes no distance.
    """
    factory: LossFactory = subject.factory
    rows = at_thresholds(thresholds_m(factory.config()))
    utm = loss_case_of(factory, rows, dtype=torch.float64)
    there = differentiate(utm)
    for shift_m in _SHIFTS_M:
        origin_m = utm.batch.positions_m[0] + torch.tensor([shift_m, 0])
        moved = utm._replace(
            embeddings=utm.embeddings.detach().clone().requires_grad_(),
            batch=replace(utm.batch, positions_m=utm.batch.positions_m - origin_m),
        )
        here = differentiate(moved)
        assert utm.embeddings.grad is not None
        assert moved.embeddings.grad is not None
        expect(
            is_close(here, there) and is_close(moved.embeddings.grad, utm.embeddings.grad),
            "at raw UTM positions the loss and gradient of the same pairs near 0, "
            f"{float(here):.9g}",
            f"{float(there):.9g}: a pair at a threshold, or 1 mm from it, is decided "
            "otherwise; take differences in float64, and compare them in float64",
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
        bool(torch.isfinite(before)) and is_close(before, after),
        f"the loss of two regions wherever they lie, {float(before):.9g}",
        f"{float(after):.9g} where their positions coincide; mlcore.geometry.between_m gives "
        "distances that are infinite across regions (batch.region)",
    )


def inputs_unmodified(subject: Subject) -> None:
    """Forward and backward leave their inputs alone."""
    case = loss_case_of(subject.factory, rows_of("standard"))
    inputs = {"embeddings": case.embeddings, **columns_of(case.batch)}
    if case.tuples is not None:
        inputs |= {f"tuples.{name}": column for name, column in case.tuples._asdict().items()}
    before = {name: tensor.detach().clone() for name, tensor in inputs.items()}
    differentiate(case)
    expect_unmodified(inputs, before)


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
        is_close(whole, total),
        f"shares that add up to the whole, {float(whole):.9g}",
        f"{float(total):.9g}",
    )
    assert case.embeddings.grad is not None
    assert shared.embeddings.grad is not None
    expect(
        is_close(case.embeddings.grad, shared.embeddings.grad),
        "gradients of the shares that add up to the gradient of the whole",
        "another sum",
    )


def _renamed(tuples: Pairs | Triplets | None, new_row: Tensor) -> Pairs | Triplets | None:
    if tuples is None:
        return None
    return type(tuples)(*(new_row[column] for column in tuples))
