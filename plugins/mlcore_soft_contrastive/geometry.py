"""Positions and headings of a batch, and the weight of each pair that follows.

Everything here is float64 and none of it is differentiated: whether a pair attracts must
not depend on the dtype of the embeddings or on the device.

Shapes: ``B`` rows (images whose loss is computed), ``R`` columns (references).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor

from mlcore.geometry import takes_headings
from mlcore.protocols import DeviceInfluenceFunction, InfluenceFunction


@dataclass(frozen=True)
class Places:
    """Positions, headings and regions of some images.

    Attributes:
        positions_m: ``(N, 2)`` or ``(N, 3)`` float64, metres.
        headings_rad: ``(N,)`` float64, or None.
        region: ``(N,)`` int64, or None for one region.
    """

    positions_m: Tensor
    headings_rad: Tensor | None
    region: Tensor | None = None

    def __len__(self) -> int:
        return self.positions_m.shape[0]

    def take(self, rows: slice | Tensor) -> Places:
        """Return the places of ``rows``."""
        headings = None if self.headings_rad is None else self.headings_rad[rows]
        region = None if self.region is None else self.region[rows]
        return Places(self.positions_m[rows], headings, region)


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """Everything but the embeddings that determines the weight of each pair.

    Attributes:
        rows: The ``B`` images whose loss is computed.
        columns: The ``R`` images they are compared with.
        self_index: ``(B,)`` int64, the column that is the row itself, -1 for none.
        influence: Attraction by distance.
        heading_limit_rad: Pairs inside the support whose headings differ by more neither
            attract nor repel; None for no limit.
    """

    rows: Places
    columns: Places
    self_index: Tensor
    influence: InfluenceFunction
    heading_limit_rad: float | None

    def tensors(self) -> list[Tensor | None]:
        """Return every tensor, in an order that :meth:`with_tensors` reads back."""
        sides = (self.rows,) if self.columns is self.rows else (self.rows, self.columns)
        columns = [getattr(side, field.name) for side in sides for field in fields(side)]
        return [self.self_index, *columns]

    def with_tensors(self, tensors: Sequence[Tensor | None]) -> Geometry:
        """Return the same with other tensors, such as those that autograd hands a function."""
        self_index, *columns = tensors
        assert self_index is not None, "every image has an entry"
        size = len(fields(Places))
        rows, *others = (Places(*columns[k : k + size]) for k in range(0, len(columns), size))  # type: ignore[arg-type]
        return replace(
            self, rows=rows, columns=others[0] if others else rows, self_index=self_index
        )

    @property
    def heading_threshold_rad(self) -> float:
        """The limit, and a nanoradian; infinite without a limit.

        Headings in whole degrees, turned into radians, differ by exactly the limit or by a
        rounding more: both count as not more.
        """
        limit = self.heading_limit_rad
        return math.inf if limit is None else limit + 1e-9

    @cached_property
    def influence_turns(self) -> bool:
        """Whether influence depends on differences of headings."""
        if not takes_headings(self.influence):
            return False
        return all(side.headings_rad is not None for side in (self.rows, self.columns))

    @cached_property
    def reads_headings(self) -> bool:
        """Whether influence or a limit depends on headings."""
        return self.heading_limit_rad is not None or self.influence_turns

    @property
    def support_rad(self) -> float:
        """Difference of headings from which on no pair attracts; infinite if none matters.

        That of the influence function less a nanoradian: headings in whole degrees that differ
        by exactly its support, or by a rounding less, count as not less.
        """
        if not self.influence_turns:
            return math.inf
        assert takes_headings(self.influence)
        return self.influence.support_rad - 1e-9

    @cached_property
    def num_regions(self) -> int:
        """Number of regions of rows and columns together."""
        codes = [side.region for side in (self.rows, self.columns) if side.region is not None]
        return len(torch.unique(torch.cat(codes))) if codes else 1


def has_device_code(influence: InfluenceFunction) -> TypeGuard[DeviceInfluenceFunction]:
    """Return whether kernels can compute an influence function."""
    return hasattr(influence, "device_code")  # isinstance would look at every member


class PairWeights(NamedTuple):
    """Weights and membership of each pair; all ``(B, R)``.

    Attributes:
        attraction: w+, float64; 0 from the support on. For a pair that is one image
            twice, w+(0) - 1 (such a pair counts in the row extrema of mining only).
        repulsion: w-, float64.
        attracts: Whether the pair is in the sum over attracting pairs, bool.
        repels: Whether the pair is in the sum over repelling pairs, bool.
        same: Whether the pair is one image twice, bool.
    """

    attraction: Tensor
    repulsion: Tensor
    attracts: Tensor
    repels: Tensor
    same: Tensor


def distances_m(rows: Places, columns: Places) -> Tensor:
    """Return the Euclidean distances ``(B, R)`` in float64.

    From differences, never from the Gram form ``|x|^2 + |y|^2 - 2xy``, whose cancellation
    costs kilometres on raw UTM coordinates in float32 and centimetres in float64.
    """
    difference = rows.positions_m[:, None, 0] - columns.positions_m[None, :, 0]
    squared = difference.square_()
    for axis in range(1, rows.positions_m.shape[1]):
        difference = rows.positions_m[:, None, axis] - columns.positions_m[None, :, axis]
        squared += difference.square_()
    return squared.sqrt_()


def heading_differs(rows: Places, columns: Places, limit_rad: float) -> Tensor:
    """Return whether headings differ by more than the limit, ``(B, R)`` bool."""
    return turns_rad(rows, columns) > limit_rad


def heading_differences(geometry: Geometry) -> Tensor | None:
    """Return the heading differences that influence depends on, ``(B, R)`` in [0, pi].

    None for an influence function of distance alone, or if one of headings takes the images
    by distance, because not all have headings.
    """
    return turns_rad(geometry.rows, geometry.columns) if geometry.influence_turns else None


def turns_rad(rows: Places, columns: Places) -> Tensor:
    """Return the differences of headings, ``(B, R)`` float64 in [0, pi]."""
    assert rows.headings_rad is not None
    assert columns.headings_rad is not None
    turn = (wrapped(rows.headings_rad)[:, None] - wrapped(columns.headings_rad)).abs_()
    return torch.minimum(turn, 2 * math.pi - turn)


def wrapped(headings_rad: Tensor) -> Tensor:
    """Return headings in [0, 2 pi]."""
    return torch.remainder(headings_rad, 2 * math.pi)


def edge_m(influence: InfluenceFunction) -> float:
    """Return within how many metres of an edge a float32 distance cannot be trusted.

    A distance from float32 differences, three squares and a root errs by at most four units
    of 2^-24 relative to itself. This is four times that at the support, and never less than
    a millimetre.
    """
    largest = max(influence.support_m, influence.repulsion_start_m)
    return max(1e-3, 2**-20 * largest) if math.isfinite(largest) else 1e-3


def pair_weights(geometry: Geometry) -> PairWeights:
    """Return the weights of all pairs."""
    rows, columns, influence = geometry.rows, geometry.columns, geometry.influence
    distance = distances_m(rows, columns)
    near = distance < influence.support_m
    if rows.region is not None and columns.region is not None:
        near &= rows.region[:, None] == columns.region  # infinitely far from each other
    turn = heading_differences(geometry)
    if turn is not None:
        assert takes_headings(influence)
        near &= turn < geometry.support_rad
        attraction = influence(distance, turn).mul_(near)
    else:
        attraction = influence(distance).mul_(near)
    repulsion = 1.0 - attraction
    repels = (distance > influence.repulsion_start_m) | ~near
    if geometry.heading_limit_rad is not None:
        excluded = near & heading_differs(rows, columns, geometry.heading_threshold_rad)
        attraction.masked_fill_(excluded, 0.0)
        repulsion.masked_fill_(excluded, 0.0)
        near &= ~excluded
        repels &= ~excluded
    numbers = torch.arange(len(columns), device=distance.device)
    same = geometry.self_index[:, None] == numbers
    return PairWeights(attraction - same.double(), repulsion, near & ~same, repels, same)
