"""Tile sizes and warps of each launch, chosen ahead of time: at most 255 registers, no spill.

Not by speed: no GPU has run these kernels yet. ``python -m benchmarks.fused_code`` shows
registers, spills and shared memory of every choice. Shared memory stays within the 99 KiB that
every architecture from sm_80 on has.
"""

from __future__ import annotations

from typing import Any

from mlcore_soft_contrastive.config import TilePrecision

INPUT_PRECISION = {"float32": "tf32x3", "tf32": "tf32", "bfloat16": "ieee"}
"""Triton's ``input_precision``; it has no effect on bfloat16 factors."""


def reduce_options(turns: str, precision: TilePrecision) -> dict[str, Any]:
    """Return options of a launch of ``kernels.reduce_strip``; ``turns`` is its TURNS."""
    deep = 64 if precision == "tf32" else 32
    return {"BN": _columns(turns), "BK": deep, **_launch(stages=2)}


def gradient_options(dim: int, turns: str) -> dict[str, Any]:
    """Return options of a launch of ``kernels.gradient_strip``."""
    return {"BM": 32, "BN": _columns(turns), "WIDTH": width(dim), **_launch(stages=2)}


def _columns(turns: str) -> int:
    """Return the columns of a tile; int64 differences of headings take registers too."""
    return 16 if turns == "both" else 32


def width(dim: int) -> int:
    """Return the width of a tensor that holds embeddings: a power of two."""
    return max(16, 1 << (dim - 1).bit_length())


def _launch(*, stages: int) -> dict[str, Any]:
    return {"num_warps": 8, "num_stages": stages, "enable_fp_fusion": False}
