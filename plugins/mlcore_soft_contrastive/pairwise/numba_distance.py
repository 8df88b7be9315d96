"""Pairwise distances by differences, compiled for the CPU by numba; float32 or float64."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlcore_soft_contrastive.tiled.numba_pairs import compiled

FEW_DIMENSIONS = 8
_BLOCK_NUMBERS = 8192  # of the second set, which then stay in the first-level cache


@compiled("contract")
def low_dimensional(x: Any, y: Any, squared: bool, out: Any, start: int, stop: int) -> None:
    """Fill rows ``start:stop`` of ``out``; ``x`` is ``(D, N)``, ``y`` ``(D, M)``."""
    for i in range(start, stop):
        row = out[i]
        for j in range(len(row)):
            difference = x[0, i] - y[0, j]
            row[j] = difference * difference
        for k in range(1, len(x)):
            for j in range(len(row)):
                difference = x[k, i] - y[k, j]
                row[j] += difference * difference
        if not squared:
            for j in range(len(row)):
                row[j] = np.sqrt(row[j])


@compiled("contract", "reassoc")
def _squared_distance(a: Any, b: Any) -> Any:
    total = a[0] * a.dtype.type(0)
    for k in range(len(a)):
        difference = a[k] - b[k]
        total += difference * difference
    return total


@compiled("contract")
def high_dimensional(x: Any, y: Any, squared: bool, out: Any, start: int, stop: int) -> None:
    """Fill rows ``start:stop`` of ``out``; ``x`` is ``(N, D)``, ``y`` ``(M, D)``."""
    block = max(1, _BLOCK_NUMBERS // x.shape[1])
    for first in range(0, len(y), block):
        for i in range(start, stop):
            for j in range(first, min(len(y), first + block)):
                distance = _squared_distance(x[i], y[j])
                out[i, j] = distance if squared else np.sqrt(distance)


@compiled("contract")
def weighted_differences(x: Any, y: Any, weight: Any, out: Any, start: int, stop: int) -> None:
    """Fill rows ``start:stop`` of ``out`` ``(N, D)`` with ``sum_j w_ij (x_i - y_j)``."""
    for i in range(start, stop):
        row = out[i]
        row[:] = 0
        for j in range(len(y)):
            w = weight[i, j]
            for k in range(len(row)):
                row[k] += w * (x[i, k] - y[j, k])
