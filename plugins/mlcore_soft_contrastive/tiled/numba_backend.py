"""Tiles on the CPU in float32: prepares what :mod:`numba_kernels` works on."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from mlcore_soft_contrastive.config import LARGEST_EXPONENT, SoftContrastiveConfig
from mlcore_soft_contrastive.geometry import Geometry, edge_m, wrapped
from mlcore_soft_contrastive.influence import FieldOfView, Linear, Sigmoid, Step, Tanh
from mlcore_soft_contrastive.tiled import numba_kernels, numba_pairs, state
from mlcore_soft_contrastive.tiled.layout import TilePair
from mlcore_soft_contrastive.tiled.numba_pairs import Rule, Side, Span

_LOG2_E = 1.4426950408889634

_KINDS = {
    Sigmoid: numba_pairs.SIGMOID,
    Linear: numba_pairs.LINEAR,
    Tanh: numba_pairs.TANH,
    Step: numba_pairs.STEP,
    FieldOfView: numba_pairs.SIGMOID,  # of the distance; see Rule.view_rad
}


def covers(geometry: Geometry, config: SoftContrastiveConfig, x: Tensor) -> bool:
    """Return whether the compiled tiles can compute this."""
    return (
        x.device.type == "cpu"
        and x.dtype != torch.float64
        and type(geometry.influence) in _KINDS
        and config.largest_exponent <= LARGEST_EXPONENT
    )


class NumbaBackend:
    """See :class:`mlcore_soft_contrastive.tiled.state.Backend`."""

    def __init__(
        self,
        geometry: Geometry,
        config: SoftContrastiveConfig,
        rows: state.Side,
        columns: state.Side,
    ) -> None:
        self.rule = _rule(geometry, config)
        self.rows = _side(rows, geometry)
        self.columns = self.rows if columns is rows else _side(columns, geometry)
        self._own = rows.own.numpy()

    def __call__(self, step: state.Step, tile: Tensor, pair: TilePair) -> Tensor | None:
        near = pair.gap_m < self.rule.support_m
        span = Span(pair.rows.start, pair.columns.start, near, pair.symmetric, pair.mirrored)
        sides = self.rows, self.columns, self._own, self.rule
        kept = getattr(numba_kernels, step)(tile.numpy(), span, *sides)
        return None if kept is None else torch.tensor(kept)


def _side(side: state.Side, geometry: Geometry) -> Side:
    """Return the numbers of ``side`` as the kernels read them; its state is not copied."""
    origin_m = geometry.columns.positions_m.mean(dim=0)
    exact = np.zeros((3, len(side.places)))
    exact[: len(origin_m)] = side.places.positions_m.T.numpy()
    centred = np.zeros_like(exact)
    centred[: len(origin_m)] = (side.places.positions_m - origin_m).T.numpy()
    high = centred.astype(np.float32)
    headings = np.zeros(0)
    if geometry.reads_headings and side.places.headings_rad is not None:
        headings = wrapped(side.places.headings_rad).numpy()
    return Side(
        high=high,
        low=(centred - high).astype(np.float32),
        exact=exact,
        headings=headings,
        below=side.below.numpy(),
        above=side.above.numpy(),
        attraction=side.attraction.numpy(),
        repulsion=side.repulsion.numpy(),
        sums=side.sums.numpy(),
    )


def _rule(geometry: Geometry, config: SoftContrastiveConfig) -> Rule:
    influence = geometry.influence
    assert isinstance(influence, Sigmoid | Linear | Tanh | Step | FieldOfView)
    steepness, view_rad = 0.0, 0.0
    if isinstance(influence, Sigmoid | FieldOfView):
        steepness = influence.steepness_per_m
    if isinstance(influence, FieldOfView) and geometry.influence_turns:
        view_rad = influence.support_rad
    return Rule(
        kind=_KINDS[type(influence)],
        steepness=np.float32(steepness * _LOG2_E),
        cutoff_m=influence.cutoff_m,
        support_m=influence.support_m,
        repulsion_start_m=influence.repulsion_start_m,
        heading_limit_rad=geometry.heading_threshold_rad,
        view_rad=view_rad,
        support_rad=geometry.support_rad,
        edge_m=edge_m(influence),
        alpha=np.float32(config.alpha * _LOG2_E),
        beta=np.float32(config.beta * _LOG2_E),
        base=np.float32(config.base),
        epsilon=config.epsilon,
        plain=config.aggregation == "plain",
    )
