"""Puts what the kernels read of the images, and of the formula, on the device."""

from __future__ import annotations

import math
from functools import partial

import numpy as np
import torch
from torch import Tensor

from mlcore.protocols import DeviceInfluenceFunction
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.fused.arguments import RuleArguments, SideArguments
from mlcore_soft_contrastive.fused.layout import CurveBlocks
from mlcore_soft_contrastive.geometry import Geometry, edge_m
from mlcore_soft_contrastive.tiled.state import Side

_LOG2_E = math.log2(math.e)
_LARGEST_TURN = 2**63 - 1
_ROUNDING = 1e-5
"""Relative margin of gaps between boxes: of float32 corners, and of the kernels' arithmetic."""


def side_arguments(
    side: Side, own: Tensor, blocks: CurveBlocks, unit: Tensor, geometry: Geometry
) -> SideArguments:
    """Return what kernels read of the rows, or the columns.

    Args:
        side: Its state; kernels read the tensors that later steps change.
        own: ``(B,)`` int64, the sorted column that each sorted row is itself.
        blocks: Of the side.
        unit: ``(N, D)``, factors of products.
        geometry: For the origin, and whether headings matter.
    """
    origin_m = geometry.columns.positions_m.mean(dim=0)
    exact = side.places.positions_m.T.contiguous()  # centring would round them
    centred = exact - origin_m[:, None]
    high = centred.float()
    low = (centred - high).float()
    # Corners rounded outwards: no gap comes out larger than it is.
    lower, upper = ((corner - origin_m).T for corner in (blocks.lower_m, blocks.upper_m))
    infinite = torch.tensor(torch.inf, device=lower.device)
    box = torch.cat(
        [torch.nextafter(lower.float(), -infinite), torch.nextafter(upper.float(), infinite)]
    )
    turn = torch.zeros(1, dtype=torch.int64, device=exact.device)
    if geometry.reads_headings and side.places.headings_rad is not None:
        turn = turns(side.places.headings_rad)
    return SideArguments(
        unit=unit,
        places=torch.cat([high, low]),
        exact=exact,
        turn=turn,
        own=own.int(),
        below=side.below,
        above=side.above,
        attraction=side.attraction,
        repulsion=side.repulsion,
        first=blocks.first,
        stop=blocks.stop,
        box=box,
        region=blocks.region,
        limit=box.new_zeros(len(blocks.first)),
        size=len(blocks.order),
        blocks=len(blocks.first),
    )


def turns(headings_rad: Tensor) -> Tensor:
    """Return headings in units of 2^-64 of a turn, int64, whose differences wrap.

    Off by some 1e-15 rad, as float64 differences of headings are.
    """
    part = headings_rad / (2 * math.pi)
    part = (part - part.round()) * 2.0**64
    # Half a turn, 2^63, is its own negative and the only one without a place.
    return torch.where(part >= 2.0**63, -(2.0**63), part).long()


def rule_arguments(
    geometry: Geometry, config: SoftContrastiveConfig, device: torch.device
) -> RuleArguments:
    """Return the formula's numbers."""
    influence = geometry.influence
    assert isinstance(influence, DeviceInfluenceFunction)
    support_m, start_m = influence.support_m, influence.repulsion_start_m
    if start_m >= support_m:  # beyond the support every pair repels as it is
        start_m = math.inf
    support = np.float32(support_m)
    start = np.float32(start_m)
    if start_m < support_m < math.inf:
        # A float32 lies between the edges for pairs between them.
        start = min(start, _before(_before(support)))
    numbers = partial(torch.tensor, dtype=torch.float64, device=device)
    units = [_as_turn(geometry.support_rad), _as_turn(geometry.heading_threshold_rad)]
    return RuleArguments(
        influence=numbers([*influence.device_code().parameters.values(), 0.0]).float(),
        edges=numbers([support_m, start_m]),
        turns=torch.tensor(units, dtype=torch.int64, device=device),
        near_squared=_float32(support_m * (1.0 + _ROUNDING)) ** 2,
        support=float(support),
        inside_support=float(_before(support)),
        start=float(start),
        # Triton flushes denormal numbers.
        beyond_start=max(float(np.nextafter(start, np.float32(np.inf))), 2.0**-126)
        if start_m >= 0.0
        else 0.0,
        edge=edge_m(influence),
        alpha=config.alpha * _LOG2_E,
        beta=config.beta * _LOG2_E,
        base=config.base,
        filter=config.gradient_filter,
    )


def _float32(value: float) -> float:
    return float(np.float32(value))


def _before(value: np.float32) -> np.float32:
    return np.float32(np.nextafter(value, np.float32(-np.inf)))


def _as_turn(angle_rad: float) -> int:
    """Return an angle in units of 2^-64 of a turn; half a turn for any that is larger."""
    if angle_rad >= math.pi:
        return _LARGEST_TURN
    return min(_LARGEST_TURN, int(angle_rad / (2 * math.pi) * 2.0**64))
