"""Matrix products of the tiles, at the configured precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from mlcore_soft_contrastive.config import TilePrecision


class Products:
    """Products of embeddings and tiles; sums and results are float32 (or float64) always.

    Args:
        precision: Of the factors: "float32" (whatever torch's own TF32 switches say, and
            float64 for float64 embeddings), "tf32" or "bfloat16".
    """

    def __init__(self, precision: TilePrecision = "float32") -> None:
        self._precision = precision

    @contextmanager
    def rounding(self) -> Iterator[None]:
        """Let a GPU use TF32 only if ``precision`` is "tf32".

        To be entered around all products of a walk, by one thread: torch has one switch for
        all threads.
        """
        settings = torch.backends.cuda.matmul
        before = settings.fp32_precision
        settings.fp32_precision = "tf32" if self._precision == "tf32" else "ieee"
        try:
            yield
        finally:
            settings.fp32_precision = before

    @property
    def halves(self) -> bool:
        """Whether factors are bfloat16."""
        return self._precision == "bfloat16"

    def factor(self, values: Tensor) -> Tensor:
        """Return ``values`` as the factor of many products."""
        return values.bfloat16() if self.halves else values

    def similarities(self, x: Tensor, y: Tensor, out: Tensor) -> Tensor:
        """Write ``x y^T`` of two factors into ``out``, and return it."""
        if not self.halves:
            return torch.mm(x, y.T, out=out)
        if x.is_cuda:
            return torch.mm(x, y.T, out_dtype=torch.float32, out=out)
        return out.copy_(_product_of_halves(x, y.T))

    def add(self, total: Tensor, tile: Tensor, factor: Tensor) -> None:
        """Add ``tile factor`` to ``total``.

        ``tile`` is float32 or float64; of bfloat16 factors, it may be bfloat16 already.
        """
        if not self.halves:
            total.addmm_(tile, factor)
        elif total.is_cuda:
            torch.addmm(total, tile.bfloat16(), factor, out_dtype=torch.float32, out=total)
        else:
            total += _product_of_halves(tile.bfloat16(), factor)


def _product_of_halves(a: Tensor, b: Tensor) -> Tensor:
    """Return on the CPU what a GPU computes of bfloat16 matrices, to float32 rounding."""
    return a.float() @ b.float()
