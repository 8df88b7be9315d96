"""Tiles on the CPU in float32: prepares what :mod:`numba_tiles` works on."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from mlcore_soft_contrastive.config import LARGEST_EXPONENT, SoftContrastiveConfig
from mlcore_soft_contrastive.dense import RowTerms
from mlcore_soft_contrastive.geometry import Geometry, Places
from mlcore_soft_contrastive.influence import Linear, Sigmoid, Step, Tanh
from mlcore_soft_contrastive.tiled import numba_kernels, numba_pairs
from mlcore_soft_contrastive.tiled.layout import (
    Blocks,
    TilePair,
    raise_largest,
    self_columns,
    settled_weights,
    sides,
)
from mlcore_soft_contrastive.tiled.numba_kernels import CHUNK
from mlcore_soft_contrastive.tiled.numba_pairs import Floats, Rule, Side, Span
from mlcore_soft_contrastive.tiled.threads import share

_LOG2_E = 1.4426950408889634

_KINDS = {
    Sigmoid: numba_pairs.SIGMOID,
    Linear: numba_pairs.LINEAR,
    Tanh: numba_pairs.TANH,
    Step: numba_pairs.STEP,
}


def covers(geometry: Geometry, config: SoftContrastiveConfig, x: Tensor) -> bool:
    """Return whether the compiled tiles can compute this."""
    return (
        x.device.type == "cpu"
        and x.dtype != torch.float64
        and type(geometry.influence) in _KINDS
        and config.largest_exponent <= LARGEST_EXPONENT
    )


class NumbaTileOps:
    """See :class:`mlcore_soft_contrastive.tiled.walk.TileOps`."""

    def __init__(
        self, geometry: Geometry, config: SoftContrastiveConfig, rows: Blocks, columns: Blocks
    ) -> None:
        self._config = config
        self._support_m = geometry.influence.support_m
        self._rule = _rule(geometry, config)
        limited = geometry.heading_limit_rad is not None
        origin = geometry.columns.positions_m.mean(dim=0)
        self._rows = _side(geometry.rows, rows, origin, with_headings=limited)
        self._columns = (
            self._rows
            if columns is rows
            else _side(geometry.columns, columns, origin, with_headings=limited)
        )
        self._self_column = self_columns(geometry, rows, columns).numpy()
        self._terms = (self._rows.attraction, self._rows.repulsion)

    def most_attracting(self, tile: Tensor, pair: TilePair) -> None:
        largest, _ = self._run(numba_kernels.most_attracting, tile, pair)
        if pair.mirrored:
            t = self._columns.attraction[pair.columns]
            np.maximum(t, largest.max(axis=0), out=t)

    def least_most_attracting(self, pair: TilePair) -> float:
        return min(float(side.attraction[span].min()) for side, span, _ in self._sides(pair))

    def mining_extrema(self, tile: Tensor, pair: TilePair) -> None:
        largest, lacking = self._run(numba_kernels.mining_extrema, tile, pair)
        if pair.mirrored:
            below, above = self._columns.below[pair.columns], self._columns.above[pair.columns]
            np.maximum(below, largest.max(axis=0), out=below)
            np.minimum(above, -lacking.max(axis=0), out=above)

    def settled_weights(self) -> Tensor:
        return settled_weights(
            torch.from_numpy(self._rows.attraction), torch.from_numpy(self._rows.above)
        )

    def start_sums(self) -> None:
        for side in (
            (self._rows,) if self._columns is self._rows else (self._rows, self._columns)
        ):
            if self._config.mining:
                side.below[:] += self._config.epsilon
                side.above[:] += side.attraction - self._config.epsilon
            else:
                side.below[:], side.above[:] = np.inf, -np.inf
            side.attraction[:] = side.repulsion[:] = 0.0

    def most_repelling(self, tile: Tensor, pair: TilePair) -> Tensor:
        if pair.gap_m < self._support_m:
            largest, _ = self._run(numba_kernels.most_repelling, tile, pair)
            if pair.mirrored:
                below = self._columns.below[pair.columns]
                np.maximum(below, largest.max(axis=0) + self._rule.epsilon, out=below)
            return torch.tensor(True)
        thresholds = [
            (torch.from_numpy(side.below[span]), torch.from_numpy(side.above[span]), dim)
            for side, span, dim in self._sides(pair)
        ]
        return raise_largest(tile, thresholds, self._config.epsilon)

    def sums(self, tile: Tensor, pair: TilePair) -> None:
        attraction, repulsion = self._run(numba_kernels.sums, tile, pair)
        if pair.mirrored:
            self._columns.attraction[pair.columns] += attraction.sum(axis=0)
            self._columns.repulsion[pair.columns] += repulsion.sum(axis=0)

    def terms(self) -> RowTerms:
        attraction, repulsion = self._rows.attraction, self._rows.repulsion
        if self._rule.plain:
            self._terms = (-attraction, repulsion.copy())
        else:
            self._terms = (
                np.log1p(attraction) / self._config.alpha,
                np.log1p(repulsion) / self._config.beta,
            )
        return RowTerms(*(torch.from_numpy(term) for term in self._terms))

    def start_gradient(self, attraction: Tensor, repulsion: Tensor) -> None:
        self._rows.attraction[:] = attraction.numpy()
        self._rows.repulsion[:] = repulsion.numpy()
        if not self._rule.plain:
            self._rows.attraction[:] *= np.exp(-self._config.alpha * self._terms[0])
            self._rows.repulsion[:] *= np.exp(-self._config.beta * self._terms[1])

    def gradient(self, tile: Tensor, pair: TilePair) -> None:
        self._run(numba_kernels.gradient, tile, pair)

    def _sides(self, pair: TilePair) -> list[tuple[Side, slice, int]]:
        return sides(pair, self._rows, self._columns)

    def _run(self, step: Callable[..., None], tile: Tensor, pair: TilePair) -> Floats:
        """Run one step on all rows of the tile; return what it leaves for the columns."""
        span = Span(
            row=pair.rows.start,
            column=pair.columns.start,
            near=pair.gap_m < self._support_m,
            symmetric=pair.symmetric,
            mirrored=pair.mirrored,
        )
        chunks = -(-tile.shape[0] // CHUNK)
        by_column = np.zeros((2, chunks, tile.shape[1]), np.float32)
        values, self_column = tile.numpy(), self._self_column

        def run(start: int, stop: int) -> None:
            step(
                values,
                span,
                self._rows,
                self._columns,
                self_column,
                self._rule,
                (start, stop),
                by_column,
            )

        share(run, chunks)
        return by_column


def _side(places: Places, order: Blocks, origin_m: Tensor, *, with_headings: bool) -> Side:
    size = len(places)
    exact = np.zeros((3, size))
    exact[: len(origin_m)] = (places.positions_m[order.order] - origin_m).T.numpy()
    high = exact.astype(np.float32)
    headings = np.zeros(0)
    if with_headings and places.headings_rad is not None:
        headings = np.mod(places.headings_rad[order.order].numpy(), 2 * math.pi)
    return Side(
        high=high,
        low=(exact - high).astype(np.float32),
        exact=exact,
        headings=headings,
        below=np.zeros(size, np.float32),
        above=np.zeros(size, np.float32),
        attraction=np.zeros(size),
        repulsion=np.zeros(size),
    )


def _rule(geometry: Geometry, config: SoftContrastiveConfig) -> Rule:
    influence, limit = geometry.influence, geometry.heading_limit_rad
    assert isinstance(influence, Sigmoid | Linear | Tanh | Step)
    steepness = influence.steepness_per_m if isinstance(influence, Sigmoid) else 0.0
    return Rule(
        kind=_KINDS[type(influence)],
        steepness=np.float32(steepness * _LOG2_E),
        cutoff_m=influence.cutoff_m,
        support_m=influence.support_m,
        repulsion_start_m=influence.repulsion_start_m,
        heading_limit_rad=math.inf if limit is None else limit,
        alpha=np.float32(config.alpha * _LOG2_E),
        beta=np.float32(config.beta * _LOG2_E),
        base=np.float32(config.base),
        epsilon=np.float32(config.epsilon),
        plain=config.aggregation == "plain",
    )
