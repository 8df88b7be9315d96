"""Embeddings divided by their norms, and the way back for their gradient."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlcore_soft_contrastive.tiled.layout import Ordered

_SAFE_NORMS = (1e-15, 1e15)
"""Between these, a float32 norm's squares neither overflow nor lose precision."""


@dataclass(frozen=True)
class UnitRows:
    """Embeddings divided by their norms, along the curve; zero rows stay zero.

    Attributes:
        values: ``(N, D)``, float32 or float64.
        largest: ``(N, 1)``, the largest magnitude in the row (1 for a zero row).
        norm: ``(N, 1)``, norm of the row divided by ``largest`` (1 for a zero row).
        dtype: Of the embeddings.
    """

    values: Tensor
    largest: Tensor
    norm: Tensor
    dtype: torch.dtype

    @classmethod
    def of(cls, embeddings: Tensor, order: Ordered) -> UnitRows:
        """Sort and normalise ``embeddings`` ``(N, D)``."""
        values = embeddings.detach()[order.order]
        if values.dtype in (torch.float16, torch.bfloat16):
            values = values.float()
        largest = values.new_ones(len(values), 1)
        norm = torch.linalg.vector_norm(values, dim=1, keepdim=True)
        if not ((norm > _SAFE_NORMS[0]) & (norm < _SAFE_NORMS[1])).all():
            # Divided by its largest entry first, no row over- or underflows when squared.
            largest = torch.linalg.vector_norm(values, ord=torch.inf, dim=1, keepdim=True)
            largest.masked_fill_(largest == 0, 1.0)
            norm = torch.linalg.vector_norm(values.div_(largest), dim=1, keepdim=True)
            norm.masked_fill_(norm == 0, 1.0)
        return cls(values.div_(norm), largest, norm, embeddings.dtype)

    def chain(self, by_unit: Tensor) -> Tensor:
        """Turn the gradient by the unit rows, in place, into that by the embeddings."""
        along = torch.bmm(by_unit[:, None, :], self.values[:, :, None])[:, 0]
        return (
            by_unit.addcmul_(along, self.values, value=-1.0).div_(self.norm).div_(self.largest)
        )
