"""Checks that a loss reads what it declares, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from mlcore.factories import LossFactory
from mlcore.option_types import options_of
from mlcore.protocols import Batch, Role
from mlcore.testing.cases import CONTEXT, LossCase, Ramp, build, loss_case_of, rows_of
from mlcore.testing.check import Fault, expect, one_line
from mlcore.testing.losses.calls import is_close, output_of
from mlcore.testing.subject import Subject

_COLUMNS = {
    "tuples": ("role", "tuple_id"),
    "labels": ("place_id",),
    "positions": ("positions_m", "headings_rad"),
}


class SteepRamp(Ramp):
    """Another influence function than the one that the checks' context has."""

    def __call__(self, distance_m: Tensor) -> Tensor:
        """Return the attraction weight of distances of any shape."""
        return super().__call__(distance_m).square()


def declares_needs(subject: Subject) -> None:
    """What ``needs`` and ``uses_influence`` leave out may be anything."""
    factory: LossFactory = subject.factory
    case = loss_case_of(factory, rows_of("standard"))
    before = output_of(case).loss.detach()
    for need, columns in _COLUMNS.items():
        if need in factory.needs or (need == "positions" and factory.uses_influence):
            continue
        after = output_of(_without(case, need)).loss.detach()
        expect(
            is_close(before, after),
            f"a loss that does not read {' and '.join(columns)}, or needs={{{need!r}, ...}}",
            f"{float(after):.6g} instead of {float(before):.6g} after changing them",
        )
    if not factory.uses_influence:
        try:
            build(factory, replace(CONTEXT, influence=None))
        except Exception as error:
            raise Fault(
                "a loss that is built without context.influence, or uses_influence=True",
                one_line(error),
            ) from error


def needs_used(subject: Subject) -> None:
    """What ``needs`` and ``uses_influence`` name changes the loss, with some choice of options.

    Only choices are tried (``bool`` and ``Literal`` options), one at a time.
    """
    factory: LossFactory = subject.factory
    unread: set[str] = set(factory.needs)
    if factory.uses_influence:
        unread.add("influence")
    for config in _configs(factory):
        case = loss_case_of(factory, rows_of("standard"), config=config)
        unread = {need for need in unread if not _reads(factory, case, need, config)}
        if not unread:
            return
    if "influence" in unread:
        raise Fault(
            "a loss that changes with context.influence, or uses_influence=False",
            "the same loss with two influence functions",
        )
    need = min(unread)
    raise Fault(
        f"a loss that reads what needs names, or needs without {need!r}",
        f"the same loss after changing {' and '.join(_COLUMNS.get(need, ('role',)))}",
    )


def _configs(factory: LossFactory) -> Iterator[Any]:
    """Yield the default options, and those with one other choice."""
    default = factory.config()
    yield default
    for option in options_of(factory.config):
        for word in option.choices:
            value = option.from_text(word)
            if value != option.default:
                yield replace(default, **{option.name: value})


def _reads(factory: LossFactory, case: LossCase, need: str, config: Any) -> bool:
    """Return whether a loss changes, or fails, when what it needs is changed."""
    try:
        before = output_of(case).loss.detach()
        if need == "influence":
            context = replace(CONTEXT, influence=SteepRamp())
            changed = case._replace(loss=factory.build(config, context))
        else:
            changed = _without(case, need)
        return not torch.equal(before, output_of(changed).loss.detach())
    except Exception:  # noqa: BLE001 - what it does not read cannot make it fail
        return True


def _without(case: LossCase, need: str) -> LossCase:
    """Return the case with other values in the columns of a need, all of them valid."""
    batch: Batch = case.batch
    if need == "other-far":
        role = batch.role.clone()
        role[role == Role.OTHER_FAR] = Role.FAR
        return case._replace(batch=replace(batch, role=role))
    # In another order, every column is a valid one still; reversed, all tuples would keep
    # their images.
    order = torch.randperm(len(batch), generator=torch.Generator().manual_seed(2))
    changed: dict[str, Any] = {name: getattr(batch, name)[order] for name in _COLUMNS[need]}
    return case._replace(batch=replace(batch, **changed))
