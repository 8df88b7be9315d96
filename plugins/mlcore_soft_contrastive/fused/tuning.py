"""Tile sizes and warps of each launch, chosen ahead of time: at most 255 registers, no spill.

Not by speed: no GPU has run these kernels yet. ``python -m benchmarks.fused_code`` shows
registers, spills and shared memory of every choice.
"""

from __future__ import annotations

from typing import Any

from mlcore_soft_contrastive.config import TilePrecision

INPUT_PRECISION = {"float32": "tf32x3", "tf32": "tf32", "bfloat16": "ieee"}
"""Triton's ``input_precision``; it has no effect on bfloat16 factors."""


def reduce_options(step: str) -> dict[str, Any]:
    """Return options of a launch of ``kernels.reduce_strip``."""
    return {"BN": 64 if step == "most_attracting" else 32, "BK": 32, **_launch(8, 3)}


def gradient_options(precision: TilePrecision, dim: int, *, far: bool) -> dict[str, Any]:
    """Return options of a launch of ``kernels.gradient_strip``."""
    return {"BM": 32, "BN": 32, "WIDTH": max(16, 1 << (dim - 1).bit_length()), **_launch(8, 1)}


def _launch(warps: int, stages: int) -> dict[str, Any]:
    return {"num_warps": warps, "num_stages": stages, "enable_fp_fusion": False}
