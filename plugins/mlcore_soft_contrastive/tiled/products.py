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

    def factor(self, values: Tensor) -> Tensor:
        """Return ``values`` as the factor of many products."""
        return values.bfloat16() if self._precision == "bfloat16" else values

    def similarities(self, x: Tensor, y: Tensor, out: Tensor) -> Tensor:
        """Write ``x y^T`` of two factors into ``out``, and return it."""
        if self._precision == "bfloat16":
            return out.copy_(_product_of_halves(x, y.T))
        return torch.mm(x, y.T, out=out)

    def add(self, total: Tensor, tile: Tensor, factor: Tensor) -> None:
        """Add ``tile factor`` to ``total``; ``tile`` is float32 (or float64)."""
        if self._precision == "bfloat16":
            total += _product_of_halves(tile.bfloat16(), factor)
            return
        total.addmm_(tile, factor)


def _product_of_halves(a: Tensor, b: Tensor) -> Tensor:
    """Return the float32 product of bfloat16 matrices, accumulated in float32."""
    if a.device.type == "cuda":
        return torch.mm(a, b, out_dtype=torch.float32)
    return a.float() @ b.float()  # the CPU has no such product; the same to float32 rounding
