"""Embeddings divided by their norms, and the way back for their gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mlcore_soft_contrastive.tiled import numba_rows
from mlcore_soft_contrastive.tiled.layout import Ordered
from mlcore_soft_contrastive.tiled.threads import share

_SAFE_NORMS = (1e-15, 1e15)
"""Between these, a float32 norm's squares neither overflow nor lose precision."""
_NUMBERS_PER_THREAD = 2**18
"""Fewer take less time than it takes to wake a thread."""


@dataclass(frozen=True)
class UnitRows:
    """Embeddings divided by their norms, along the curve; zero rows stay zero.

    Attributes:
        values: ``(N, D)``, float32 or float64.
        largest: ``(N, 1)``, the largest magnitude in the row (1 for a zero row).
        norm: ``(N, 1)``, norm of the row divided by ``largest`` (1 for a zero row).
        order: ``(N,)`` int64, the batch row of each.
        dtype: Of the embeddings.
        threads: How many threads share the rows on the CPU.
    """

    values: Tensor
    largest: Tensor
    norm: Tensor
    order: Tensor
    dtype: torch.dtype
    threads: int

    @classmethod
    def of(cls, embeddings: Tensor, order: Ordered, threads: int = 1) -> UnitRows:
        """Sort and normalise ``embeddings`` ``(N, D)``."""
        rows, embeddings = order.order, embeddings.detach()
        threads = min(threads, embeddings.numel() // _NUMBERS_PER_THREAD)
        if _compiled(embeddings) and embeddings.dtype in (torch.float32, torch.float64):
            values, norm = (
                torch.empty_like(embeddings),
                embeddings.new_empty(len(embeddings), 1),
            )
            arrays: list[Any] = [tensor.numpy() for tensor in (embeddings, rows, values, norm)]
            share(lambda *part: numba_rows.normalise(*arrays, *part), len(values), threads)
            if _is_safe(norm):
                return cls(values, torch.ones_like(norm), norm, rows, embeddings.dtype, threads)
        values = embeddings[rows]
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.float()
        norm = torch.linalg.vector_norm(values, dim=1, keepdim=True)
        largest = torch.ones_like(norm)
        if not _is_safe(norm):
            # Divided by its largest entry first, no row over- or underflows when squared.
            largest = torch.linalg.vector_norm(values, ord=torch.inf, dim=1, keepdim=True)
            largest.masked_fill_(largest == 0, 1.0)
            norm = torch.linalg.vector_norm(values.div_(largest), dim=1, keepdim=True)
            norm.masked_fill_(norm == 0, 1.0)
        return cls(values.div_(norm), largest, norm, rows, embeddings.dtype, threads)

    def chain(self, by_unit: Tensor) -> Tensor:
        """Return the gradient by the embeddings, in the batch's order and dtype.

        Args:
            by_unit: ``(N, D)``, along the curve; may be overwritten.
        """
        gradient = torch.empty_like(by_unit)
        if _compiled(by_unit):
            scale = torch.stack([self.norm[:, 0], self.largest[:, 0]])
            tensors = by_unit, self.values, scale, self.order, gradient
            arrays: list[Any] = [tensor.numpy() for tensor in tensors]
            share(lambda *part: numba_rows.chain(*arrays, *part), len(gradient), self.threads)
            return gradient.to(self.dtype)
        along = torch.bmm(by_unit[:, None, :], self.values[:, :, None])[:, 0]
        by_unit.addcmul_(along, self.values, value=-1.0).div_(self.norm).div_(self.largest)
        return gradient.index_copy_(0, self.order, by_unit).to(self.dtype)

    def lengths_across(self, by_unit: Tensor) -> Tensor:
        """Return ``(N,)``, the length of each row of ``by_unit`` across the unit row."""
        lengths = by_unit.new_empty(len(by_unit))
        if _compiled(by_unit):
            arrays: list[Any] = [tensor.numpy() for tensor in (by_unit, self.values, lengths)]
            share(
                lambda *part: numba_rows.lengths_across(*arrays, *part),
                len(lengths),
                self.threads,
            )
            return lengths
        step = max(1, _NUMBERS_PER_THREAD // by_unit.shape[1])
        for first in range(0, len(lengths), step):  # no temporary of the embeddings' size
            rows, units = by_unit[first : first + step], self.values[first : first + step]
            along = (rows * units).sum(dim=1, keepdim=True)
            lengths[first : first + step] = torch.linalg.vector_norm(
                rows - along * units, dim=1
            )
        return lengths


def _is_safe(norm: Tensor) -> bool:
    return bool(((norm > _SAFE_NORMS[0]) & (norm < _SAFE_NORMS[1])).all())


def _compiled(values: Tensor) -> bool:
    """Return whether numba's functions take these values."""
    return values.device.type == "cpu" and values.is_contiguous()
