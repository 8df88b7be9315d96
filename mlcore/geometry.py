"""Geometry of the images of a batch, as every loss and miner should compute it.

Distances come from differences of float64 coordinates, never from the Gram form
``|a|^2 + |b|^2 - 2 a.b`` that ``torch.cdist`` uses: on raw UTM coordinates in float32 that
form is wrong by kilometres.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor

from mlcore.errors import ConfigError
from mlcore.factories import BuildContext
from mlcore.protocols import Batch, HeadingInfluenceFunction, InfluenceFunction


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
    """Return all distances ``(N, M)`` in metres, float64; of one region, see :func:`between_m`.

    Args:
        positions_m: ``(N, 2)`` or ``(N, 3)``.
        others_m: ``(M, 2)`` or ``(M, 3)``; the positions themselves by default.
    """
    others_m = positions_m if others_m is None else others_m
    return distance_m(positions_m[:, None], others_m[None])


def between_m(
    batch: Batch, first: Tensor | None = None, second: Tensor | None = None
) -> Tensor:
    """Return distances of images of a batch, in metres, float64; infinite across regions.

    Args:
        batch: The images.
        first: int64 rows of the batch; by default ``(B, 1)``, all of them.
        second: Likewise ``(B,)``. Both are broadcast, by default to all pairs ``(B, B)``.
    """
    every = torch.arange(len(batch), device=batch.positions_m.device)
    first = every[:, None] if first is None else first
    second = every if second is None else second
    distance = distance_m(batch.positions_m[first], batch.positions_m[second])
    if batch.region is None:
        return distance
    return distance.masked_fill_(batch.region[first] != batch.region[second], torch.inf)


def heading_difference_rad(first_rad: Tensor, second_rad: Tensor) -> Tensor:
    """Return the angle between two headings, broadcast, in [0, pi]."""
    turn = torch.remainder(first_rad - second_rad, 2 * math.pi)
    return torch.minimum(turn, 2 * math.pi - turn)


def takes_headings(influence: InfluenceFunction) -> TypeGuard[HeadingInfluenceFunction]:
    """Return whether an influence function takes differences of headings."""
    return hasattr(influence, "support_rad")  # isinstance would look at every member


def require_headings(influence: InfluenceFunction | None, *, has_headings: bool) -> None:
    """Check that an influence function gets the headings it needs.

    Raises:
        ConfigError: It refuses images without headings, and there are none.
    """
    if influence is None or has_headings or not takes_headings(influence):
        return
    if influence.without_headings == "refuse":
        name = type(influence).__name__
        raise ConfigError(
            f"influence function {name} needs headings, and the images have none; choose one "
            "of distance alone, such as sigmoid, or set --influence.without_headings distance"
        )


def attraction(
    influence: InfluenceFunction,
    batch: Batch,
    distance_m: Tensor,
    first: Tensor,
    second: Tensor,
) -> Tensor:
    """Return attraction weights of pairs, 0 where they are outside the support.

    Args:
        influence: Of distance, or of distance and headings.
        batch: The images.
        distance_m: Distances of the pairs, as of :func:`between_m`.
        first: int64 rows of the batch, to be broadcast to the pairs.
        second: Likewise.

    Raises:
        ConfigError: See :func:`require_headings`.
    """
    inside = distance_m < influence.support_m
    if not takes_headings(influence) or batch.headings_rad is None:
        require_headings(influence, has_headings=batch.headings_rad is not None)
        return torch.where(inside, influence(distance_m), 0.0)
    headings = batch.headings_rad
    turn = heading_difference_rad(headings[first], headings[second]).expand_as(distance_m)
    inside &= turn < influence.support_rad
    return torch.where(inside, influence(distance_m, turn), 0.0)


@dataclass(frozen=True, kw_only=True)
class NearFar:
    """Classifies pairs as near, far or neither, as the sampler does.

    Attributes:
        near_radius_m: A pair is near within this distance, inclusive.
        far_radius_m: A pair is far beyond this distance, exclusive. What lies between the
            radii is neither.
        heading_limit_rad: Largest heading difference of a near pair, where the batch has
            headings; a pair within the near radius that looks elsewhere is neither. None
            sets no limit.

    Raises:
        ConfigError: The near radius is negative or beyond the far radius.
    """

    near_radius_m: float
    far_radius_m: float
    heading_limit_rad: float | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.near_radius_m <= self.far_radius_m:
            raise ConfigError(
                f"near_radius_m must be at least 0 and at most far_radius_m, got "
                f"{self.near_radius_m:g} and {self.far_radius_m:g}; otherwise a pair could be "
                "both near and far"
            )

    @classmethod
    def resolve(
        cls,
        context: BuildContext,
        *,
        near_radius_m: float | None = None,
        far_radius_m: float | None = None,
        heading_limit_deg: float | None = None,
    ) -> NearFar:
        """Return the sampler's relation, with some of its values replaced."""
        limit_rad = context.near_heading_limit_rad
        return cls(
            near_radius_m=context.near_radius_m if near_radius_m is None else near_radius_m,
            far_radius_m=context.far_radius_m if far_radius_m is None else far_radius_m,
            heading_limit_rad=(
                limit_rad if heading_limit_deg is None else math.radians(heading_limit_deg)
            ),
        )

    def __call__(self, batch: Batch) -> GeometricPairs:
        """Return the near and the far pairs of a batch.

        Memory: about 40 bytes for each of the ``B * B`` pairs.
        """
        distance = between_m(batch)
        near = distance <= self.near_radius_m
        near.fill_diagonal_(False)
        if self.heading_limit_rad is not None and batch.headings_rad is not None:
            headings = batch.headings_rad
            turn = heading_difference_rad(headings[:, None], headings[None])
            near &= turn <= self.heading_limit_rad
        return GeometricPairs(near, distance > self.far_radius_m)
