"""Measures how the memory of a loss grows with the batch."""

from __future__ import annotations

import math
import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mlcore.factories import LossFactory
from mlcore.testing.cases import loss_case_of, standard
from mlcore.testing.check import Fault
from mlcore.testing.losses.calls import differentiate
from mlcore.testing.subject import Subject

_POWER = {"linear": 1, "quadratic": 2, "cubic": 3}
_TUPLES = {
    "linear": ((24, 48), (96, 192)),
    "quadratic": ((8, 16), (64, 128)),
    "cubic": ((3, 6), (8, 16)),
}
"""Tuples of seven or eight images. The larger numbers decide where the small ones do not
show the declared power: what is linear in the end may be quadratic while a batch fits one
tile of it, and what is quadratic in the end linear while that part is small."""


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors alive that were made while it is on.

    Attributes:
        peak: Largest number of bytes alive at once.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[int, int] = {}
        self._total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._see(leaf.untyped_storage())
        return result

    def _see(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata  # noqa: SLF001 - the storage's identity, whatever views it has
        if key in self._alive:
            return
        self._alive[key] = storage.nbytes()
        self._total += storage.nbytes()
        self.peak = max(self.peak, self._total)
        weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self._total -= self._alive.pop(key)


def memory(subject: Subject) -> None:
    """Twice the tuples take the declared power of two as much memory."""
    factory: LossFactory = subject.factory
    declared, power = factory.memory, _POWER[factory.memory]
    for sizes in _TUPLES[declared]:
        small, large = (peak_bytes(factory, number) for number in sizes)
        measured = math.log2(large / max(small, 1))
        # Less than linear cannot be declared.
        if power - 0.5 <= measured <= power + 0.3 or measured < power == 1:
            return
    raise Fault(
        f"memory {declared} in the number of images, as declared",
        f"{large / 1e6:.2f} MB for twice the tuples of {small / 1e6:.2f} MB: power "
        f"{measured:.1f}",
    )


def peak_bytes(factory: LossFactory, num_tuples: int) -> int:
    """Return the most memory that one step of a loss takes beside its inputs."""
    case = loss_case_of(factory, standard(num_tuples=num_tuples))
    with PeakMemory() as counted:
        differentiate(case)
    peak: int = counted.peak
    return peak
