"""Checks of losses: what they return, whatever the batch is like."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mlcore.factories import LossFactory
from mlcore.testing.cases import CONDITIONS, loss_case_of, rows_of
from mlcore.testing.check import Fault, expect
from mlcore.testing.factory import CHECKS as FACTORY_CHECKS
from mlcore.testing.losses import invariances, learning, memory, needs, repeats, together
from mlcore.testing.losses.calls import backward, differentiate, output_of
from mlcore.testing.subject import Subject
from mlcore.testing.traces import leaves_no_trace, registered


def scalar(subject: Subject) -> None:
    """The value is a finite scalar; the stats can be logged."""
    case = loss_case_of(subject.factory, rows_of("standard"))
    output = output_of(case)
    expect(bool(torch.isfinite(output.loss)), "a finite loss", float(output.loss.detach()))
    for name, value in output.stats.items():
        if isinstance(value, Tensor):
            expect(
                value.numel() == 1 and not value.requires_grad,
                f"stats[{name!r}] of one element and detached (call .detach())",
                f"shape {tuple(value.shape)}, requires_grad={value.requires_grad}",
            )
        else:
            expect(
                isinstance(value, float | int | str),
                f"stats[{name!r}] to be a number, a one-element tensor or a string",
                type(value).__name__,
            )


def gradient(subject: Subject) -> None:
    """The loss can be learned from, and computed without a graph, as validation does."""
    case = loss_case_of(subject.factory, rows_of("standard"))
    value = differentiate(case)
    assert case.embeddings.grad is not None
    expect(
        bool((case.embeddings.grad != 0).any()),
        "a gradient at the embeddings for a batch of random embeddings",
        f"zeros everywhere, at a loss of {float(value):.6g}",
    )
    with torch.no_grad():
        output_of(case)
    named: Any = getattr(case.loss, "named_parameters", tuple)
    idle = [n for n, p in named() if p.requires_grad and p.grad is None]
    expect(not idle, "a gradient at every parameter of the loss", f"none at {', '.join(idle)}")


def gradcheck(subject: Subject) -> None:
    """The gradient is the derivative of the value."""
    case = loss_case_of(subject.factory, rows_of("standard"), dtype=torch.float64)

    def value(embeddings: Tensor) -> Tensor:
        return output_of(case._replace(embeddings=embeddings)).loss.double()

    try:
        torch.autograd.gradcheck(
            value, [case.embeddings], fast_mode=True, check_undefined_grad=False
        )
    except RuntimeError as error:
        raise Fault(
            "the float64 gradient of finite differences",
            " ".join(str(error).split())[:300],
        ) from error


def autocast(subject: Subject) -> None:
    """A training loop in mixed precision gets a finite float loss and gradient."""
    case = loss_case_of(subject.factory, rows_of("standard"))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = output_of(case)
    backward(output, case)


def condition(subject: Subject, name: str) -> None:
    """Value and gradient are finite for every variant of a condition."""
    for variant, rows in CONDITIONS[name]().items():
        case = loss_case_of(subject.factory, rows)
        try:
            differentiate(case)
        except Exception as error:
            expected, came = _told(error)
            where = f" ({variant})" if variant else ""
            raise Fault(
                f"{expected}{where}", came, reproduce=_reproduce(subject, name, variant)
            ) from error


def _use(subject: Subject) -> tuple[object, Callable[[], object]]:
    case = loss_case_of(subject.factory, rows_of("standard"))

    def step() -> None:
        leaf = case.embeddings.detach().clone().requires_grad_()
        case.loss(leaf, case.batch, case.tuples).loss.backward()  # type: ignore[no-untyped-call]

    return case.loss, step


def _told(error: Exception) -> tuple[str, str]:
    if isinstance(error, Fault):
        return error.expected, error.came
    text = str(error).strip().partition("\n")[0]
    return "no exception", f"{type(error).__name__}: {text}"


def _reproduce(subject: Subject, name: str, variant: str) -> str:
    factory: LossFactory = subject.factory
    which = f", {variant!r}" if variant else ""
    called = f"loss_case({subject.source.expression}, {factory.name!r}, {name!r}{which})"
    return (
        "from mlcore.testing import loss_case\n"
        f"loss, embeddings, batch, tuples = {called}\n"
        "loss(embeddings, batch, tuples).loss.backward(); print(embeddings.grad)"
    )


CHECKS: dict[str, Callable[[Subject], None]] = {
    **FACTORY_CHECKS,
    "scalar": scalar,
    "gradient": gradient,
    "repeatable": repeats.repeatable,
    "learns": learning.learns,
    "gradcheck": gradcheck,
    "permutation": invariances.permutation,
    "translation": invariances.translation,
    "near-thresholds": invariances.near_thresholds,
    "regions": invariances.regions,
    "declares-needs": needs.declares_needs,
    "needs-used": needs.needs_used,
    "autocast": autocast,
    "inputs-unmodified": invariances.inputs_unmodified,
    "reproducible": repeats.reproducible,
    "rows-add-up": invariances.rows_add_up,
    "shared-adds-up": together.adds_up,
    "memory": memory.memory,
    "registered": partial(registered, use=_use),
    "leaves-no-trace": partial(leaves_no_trace, use=_use),
    **{name: partial(condition, name=name) for name in CONDITIONS},
}
