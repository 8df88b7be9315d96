"""Geometry of the images of a batch, as every loss and miner should compute it.

Distances come from differences of float64 coordinates, never from the Gram form
``|a|^2 + |b|^2 - 2 a.b`` that ``torch.cdist`` uses: on raw UTM coordinates in float32 that
form is wrong by kilometres.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from mlcore.protocols import Batch


class GeometricPairs(NamedTuple):
    """Which ordered pairs of a batch are near and which are far; the rest is neither.

    Attributes:
        near: ``(B, B)`` bool, symmetric, False on the diagonal.
        far: ``(B, B)`` bool, symmetric, False on the diagonal.
    """

    near: Tensor
    far: Tensor


def distance_m(first_m: Tensor, second_m: Tensor) -> Tensor:
    """Return Euclidean distances of positions ``(..., 2 or 3)``, broadcast, as float64."""
    difference = first_m.double() - second_m.double()
    distance: Tensor = torch.linalg.vector_norm(difference, dim=-1)
    return distance


def pairwise_distance_m(positions_m: Tensor, others_m: Tensor | None = None) -> Tensor:
    """Return all distances ``(N, M)`` in metres, float64.

    Args:
        positions_m: ``(N, 2)`` or ``(N, 3)``.
        others_m: ``(M, 2)`` or ``(M, 3)``; the positions themselves by default.
    """
    others_m = positions_m if others_m is None else others_m
    return distance_m(positions_m[:, None], others_m[None])


def heading_difference_rad(first_rad: Tensor, second_rad: Tensor) -> Tensor:
    """Return the angle between two headings, broadcast, in [0, pi]."""
    turn = torch.remainder(first_rad - second_rad, 2 * math.pi)
    return torch.minimum(turn, 2 * math.pi - turn)


def geometric_pairs(
    batch: Batch,
    *,
    near_radius_m: float,
    far_radius_m: float,
    heading_limit_rad: float | None = None,
) -> GeometricPairs:
    """Tell near from far as the sampler does.

    A pair is near within ``near_radius_m`` (inclusive) if its headings, where the batch has
    them, differ by at most ``heading_limit_rad``; it is far beyond ``far_radius_m``
    (exclusive). The band between the radii, and near pairs that look elsewhere, are neither.
    """
    distance = pairwise_distance_m(batch.positions_m)
    near = distance <= near_radius_m
    near.fill_diagonal_(False)
    if heading_limit_rad is not None and batch.headings_rad is not None:
        headings = batch.headings_rad
        turn = heading_difference_rad(headings[:, None], headings[None])
        near &= turn <= heading_limit_rad
    return GeometricPairs(near, distance > far_radius_m)
