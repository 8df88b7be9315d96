"""Calls a loss as a training step does, and checks the form of what comes back.

Every call starts from one seed of torch's global generator, so that a loss which declares that
it is not repeatable can be checked in all other respects.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from mlcore.protocols import LossOutput
from mlcore.testing.cases import LossCase
from mlcore.testing.check import expect

_SEED = 3
_FLOATS = (torch.float32, torch.float64)
"""Half precision overflows in the sums of a loss."""

_RELATIVE = 1e-5
"""Agreement asked for where sums are made in another order, in float32 or better."""


def differentiate(case: LossCase) -> Tensor:
    """Call a loss, go backward, and return the value.

    Raises:
        Fault: Value or gradient is not finite, or there is no gradient.
    """
    return backward(output_of(case), case)


def output_of(case: LossCase) -> LossOutput:
    """Call a loss and check the form of what it returns."""
    torch.manual_seed(_SEED)
    output: Any = case.loss(case.embeddings, case.batch, case.tuples)
    expect(
        isinstance(output, LossOutput),
        "a mlcore.LossOutput(loss, stats)",
        f"{type(output).__name__}",
    )
    loss: Any = output.loss
    expect(isinstance(loss, Tensor), "a tensor as the loss", type(loss).__name__)
    expect(loss.shape == (), "a scalar loss, shape ()", f"shape {tuple(loss.shape)}")
    exact = loss.dtype in _FLOATS or torch.is_autocast_enabled("cpu")
    expect(exact and loss.is_floating_point(), "a loss in float32 or float64", loss.dtype)
    expect(isinstance(output.stats, dict), "a dict as stats", type(output.stats).__name__)
    odd = [name for name in output.stats if not isinstance(name, str)]
    expect(not odd, "names of stats that are strings", odd)
    return output  # type: ignore[no-any-return]


def backward(output: LossOutput, case: LossCase) -> Tensor:
    """Go backward through a loss; value and gradients must be finite."""
    value = output.loss.detach()
    expect(bool(torch.isfinite(value)), "a finite loss", float(value))
    expect(
        output.loss.requires_grad,
        "a loss that depends on the embeddings, so that backward() works; where nothing is to "
        "be learned, embeddings.sum() * 0",
        "a constant",
    )
    output.loss.backward()  # type: ignore[no-untyped-call]
    expect(case.embeddings.grad is not None, "a gradient at the embeddings", "none")
    named: Any = getattr(case.loss, "named_parameters", tuple)
    for name, tensor in [("the embeddings", case.embeddings), *named()]:
        if tensor.grad is not None:
            bad = int((~torch.isfinite(tensor.grad)).sum())
            expect(not bad, "a finite gradient", f"{bad} values not finite at {name}")
    return value


def is_close(first: Tensor, second: Tensor) -> bool:
    """Return whether two values or gradients agree but for the order of their sums."""
    scale = float(first.detach().abs().max()) if first.numel() else 0.0
    difference = (first.detach() - second.detach()).abs()
    return bool((difference <= _RELATIVE * scale + 1e-12).all())
