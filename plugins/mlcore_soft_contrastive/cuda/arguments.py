"""What the kernels read, as C structures: ``kernels/rows.cu`` has the same, field by field.

Structures are passed by value and hold addresses, so that a launch copies nothing to the GPU.
"""

from __future__ import annotations

import ctypes
import functools
import math
from typing import Any

import numpy as np
from torch import Tensor

from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.geometry import Geometry, edge_m, has_device_code

LOG2_E = math.log2(math.e)
FAR_MARGIN = 1e-5
"""Of the square of the support: some 80 units of float32, to which gaps are rounded."""


class Structure(ctypes.Structure):
    """A C structure that a launcher passes by value."""

    @functools.cached_property
    def scalar(self) -> np.ndarray[Any, Any]:
        """The bytes as an array of one element: what CuPy takes by value. Fill in first."""
        return np.frombuffer(bytes(self), dtype=np.dtype((np.void, ctypes.sizeof(self))))


def _pointers(*names: str) -> list[tuple[str, Any]]:
    return [(name, ctypes.c_void_p) for name in names]


class _Edge(ctypes.Structure):
    _fields_ = [("at", ctypes.c_float), ("below", ctypes.c_float)]


class SideWords(ctypes.Structure):
    """``struct Side``."""

    _fields_ = [
        *_pointers("place", "height", "exact", "heading", "exact_heading", "region", "own"),
        *_pointers("box", "keep", "most_attracting", "factor", "sums"),
        ("size", ctypes.c_int),
        ("padded", ctypes.c_int),
    ]


class PlacesWords(Structure):
    """``struct Places``."""

    _fields_ = [
        *_pointers("position_m", "heading_rad", "region", "order", "lower_m", "upper_m"),
        *_pointers("place", "height", "exact", "heading", "exact_heading", "region_of_row"),
        *_pointers("box", "keep", "most_attracting", "sums", "factor"),
        ("size", ctypes.c_int),
        ("below", ctypes.c_float),
        ("above", ctypes.c_float),
    ]


@functools.cache
def _rule_type(parameters: int) -> type[ctypes.Structure]:
    double = ("support_m", "start_m", "support_rad", "limit_rad", "epsilon")
    single = ("edge_m", "far_squared", "alpha", "beta", "base")
    edges = ("support", "start", "turn_support", "turn_limit")

    class Rule(ctypes.Structure):
        _fields_ = [
            *((name, ctypes.c_double) for name in double),
            *((name, ctypes.c_float) for name in single),
            *((name, _Edge) for name in edges),
            ("influence", ctypes.c_float * max(1, parameters)),
        ]

    return Rule


@functools.cache
def _work_type(parameters: int) -> type[Structure]:
    class Work(Structure):
        _fields_ = [
            ("rule", _rule_type(parameters)),
            ("rows", SideWords),
            ("columns", SideWords),
            *_pointers("row_partial", "column_partial"),
        ]

    return Work


def work(
    geometry: Geometry,
    config: SoftContrastiveConfig,
    rows: SideWords,
    columns: SideWords,
    row_partial: Tensor,
    column_partial: Tensor,
) -> Structure:
    """Return ``struct Work``."""
    influence = geometry.influence
    assert has_device_code(influence)
    parameters = list(influence.device_code().parameters.values())
    support_m, start_m = influence.support_m, influence.repulsion_start_m
    support_rad, limit_rad = geometry.support_rad, geometry.heading_threshold_rad
    # A distance of exactly 0 lies below an edge at 0.
    start_below = _before(start_m) if start_m > 0.0 else -1e-30
    turn_limit = np.float32(limit_rad)
    rule = _rule_type(len(parameters))(
        support_m,
        start_m,
        support_rad,
        limit_rad,
        config.epsilon,
        edge_m(influence),
        support_m**2 * (1.0 + FAR_MARGIN),
        config.alpha * LOG2_E,
        config.beta * LOG2_E,
        config.base,
        _Edge(support_m, _before(support_m)),
        _Edge(start_m, start_below),
        _Edge(support_rad, _before(support_rad)),
        _Edge(np.nextafter(turn_limit, np.float32(np.inf)), turn_limit),
        (ctypes.c_float * max(1, len(parameters)))(*parameters),
    )
    filled = _work_type(len(parameters))()
    filled.rule, filled.rows, filled.columns = rule, rows, columns
    filled.row_partial, filled.column_partial = address(row_partial), address(column_partial)
    return filled


def address(tensor: Tensor | None) -> int | None:
    """Return where a tensor's numbers are; None without any."""
    return None if tensor is None else tensor.data_ptr() or None


def _before(value: float) -> float:
    return float(np.nextafter(np.float32(value), np.float32(0.0)))
