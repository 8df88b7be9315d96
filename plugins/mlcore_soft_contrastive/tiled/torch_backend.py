"""Tiles in plain torch: any device, dtype, influence function and exponent.

Decides each pair in float64 through the same function as the dense implementation, and
keeps a running largest exponent for each row, so that nothing overflows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.dense import RowTerms
from mlcore_soft_contrastive.geometry import Geometry, PairWeights, Places, pair_weights
from mlcore_soft_contrastive.tiled.layout import (
    Blocks,
    TilePair,
    raise_largest,
    self_columns,
    settled_weights,
    sides,
)


class _LogSum:
    """Running ``log(1 + sum exp(z))`` of ``N`` rows, float64."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._shift = torch.zeros(size, dtype=torch.float64, device=device)
        self._total = torch.ones_like(self._shift)

    def add(self, rows: slice, exponents: Tensor) -> None:
        """Take in ``exponents`` ``(rows, anything)``; -inf adds nothing."""
        before = self._shift[rows]
        shift = torch.maximum(before, exponents.amax(dim=1).double())
        added = torch.exp(exponents - shift[:, None].to(exponents.dtype)).sum(dim=1)
        self._total[rows] = self._total[rows] * torch.exp(before - shift) + added
        self._shift[rows] = shift

    def value(self) -> Tensor:
        """Return the logarithms, ``(N,)``."""
        return self._shift + torch.log(self._total)


class _PlainSum:
    """Running sum of ``N`` rows, float64."""

    def __init__(self, size: int, device: torch.device) -> None:
        self._total = torch.zeros(size, dtype=torch.float64, device=device)

    def add(self, rows: slice, values: Tensor) -> None:
        self._total[rows] += values.sum(dim=1)

    def value(self) -> Tensor:
        return self._total


class _Side:
    """State of the rows, or of the columns: extrema, thresholds, terms, gradients."""

    def __init__(self, places: Places, order: Blocks) -> None:
        headings = places.headings_rad
        self.places = Places(
            places.positions_m[order.order],
            None if headings is None else headings[order.order],
        )
        zeros = torch.zeros_like(self.places.positions_m[:, 0])
        self.t, self.most_repelling, self.shortfall = zeros, zeros.clone(), zeros.clone()
        self.below, self.above = zeros + torch.inf, zeros - torch.inf
        self.terms = RowTerms(zeros, zeros)
        self.by_terms = RowTerms(zeros, zeros)


class _Pairs(NamedTuple):
    """The pairs of a tile, seen from its rows or (transposed) from its columns."""

    side: _Side
    span: slice
    weights: PairWeights
    s: Tensor
    p: Tensor
    n: Tensor

    def column(self, values: Tensor) -> Tensor:
        """Return the rows' ``values``, as a column of the similarities' dtype."""
        return values[self.span, None].to(self.s.dtype)

    def kept_attracting(self) -> Tensor:
        return self.weights.attracts & (self.p < self.column(self.side.below))

    def kept_repelling(self) -> Tensor:
        return self.weights.repels & (self.n > self.column(self.side.above))


class TorchTileOps:
    """See :class:`mlcore_soft_contrastive.tiled.walk.TileOps`."""

    def __init__(
        self, geometry: Geometry, config: SoftContrastiveConfig, rows: Blocks, columns: Blocks
    ) -> None:
        self._geometry, self._config = geometry, config
        self._rows = _Side(geometry.rows, rows)
        self._columns = self._rows if columns is rows else _Side(geometry.columns, columns)
        self._self_column = self_columns(geometry, rows, columns)
        plain = config.aggregation == "plain"
        accumulator = _PlainSum if plain else _LogSum
        device = geometry.self_index.device
        self._attraction = accumulator(len(self._rows.t), device)
        self._repulsion = accumulator(len(self._rows.t), device)

    def most_attracting(self, tile: Tensor, pair: TilePair) -> None:
        for view in self._views(tile, pair, both=pair.mirrored):
            t = view.side.t[view.span]
            torch.maximum(t, view.p.amax(dim=1).double(), out=t)

    def least_most_attracting(self, pair: TilePair) -> float:
        least = [side.t[span].min() for side, span, _ in self._sides(pair)]
        return float(torch.stack(least).min())

    def mining_extrema(self, tile: Tensor, pair: TilePair) -> None:
        for view in self._views(tile, pair, both=pair.mirrored):
            n, shortfall = view.side.most_repelling[view.span], view.side.shortfall[view.span]
            torch.maximum(n, view.n.amax(dim=1).double(), out=n)
            excess = (view.s - view.column(view.side.t)) * view.weights.attraction
            torch.minimum(shortfall, excess.amin(dim=1).double(), out=shortfall)

    def settled_weights(self) -> Tensor:
        return settled_weights(self._rows.t, self._rows.shortfall)

    def start_sums(self) -> None:
        if not self._config.mining:
            return
        for side in {id(side): side for side in (self._rows, self._columns)}.values():
            side.below = side.most_repelling + self._config.epsilon
            side.above = side.t + side.shortfall - self._config.epsilon

    def most_repelling(self, tile: Tensor, pair: TilePair) -> Tensor:
        n = tile
        if pair.gap_m < self._geometry.influence.support_m:
            n = self._views(tile, pair, both=False)[0].n
        thresholds = [
            (side.below[span], side.above[span], dim) for side, span, dim in self._sides(pair)
        ]
        return raise_largest(n, thresholds, self._config.epsilon)

    def sums(self, tile: Tensor, pair: TilePair) -> None:
        config = self._config
        for view in self._views(tile, pair, both=pair.mirrored):
            attracting, repelling = view.kept_attracting(), view.kept_repelling()
            if config.aggregation == "plain":
                self._attraction.add(view.span, -view.p * attracting)
                self._repulsion.add(view.span, view.n * repelling)
            else:
                exponents = config.alpha * (config.base - view.p)
                self._attraction.add(view.span, exponents.masked_fill_(~attracting, -torch.inf))
                exponents = config.beta * (view.n - config.base)
                self._repulsion.add(view.span, exponents.masked_fill_(~repelling, -torch.inf))

    def terms(self) -> RowTerms:
        attraction, repulsion = self._attraction.value(), self._repulsion.value()
        if self._config.aggregation != "plain":
            attraction = attraction / self._config.alpha
            repulsion = repulsion / self._config.beta
        self._rows.terms = RowTerms(attraction, repulsion)
        return self._rows.terms

    def start_gradient(self, attraction: Tensor, repulsion: Tensor) -> None:
        self._rows.by_terms = RowTerms(attraction, repulsion)

    def gradient(self, tile: Tensor, pair: TilePair) -> None:
        total = torch.zeros_like(tile)
        for k, view in enumerate(self._views(tile, pair, both=pair.symmetric)):
            by_similarity = self._row_gradient(view)
            total += by_similarity if k == 0 else by_similarity.T
        torch.mul(total, tile > 0, out=tile)

    def _sides(self, pair: TilePair) -> list[tuple[_Side, slice, int]]:
        return sides(pair, self._rows, self._columns)

    def _row_gradient(self, view: _Pairs) -> Tensor:
        """Return the derivative of the rows' own terms by each similarity."""
        config, side = self._config, view.side
        attraction = view.weights.attraction.mul(view.kept_attracting()).to(view.s.dtype)
        repels = view.kept_repelling() & ~view.weights.same
        repulsion = view.weights.repulsion.mul(repels).to(view.s.dtype)
        if config.aggregation != "plain":
            shift = view.column(config.base - side.terms.attraction)
            attraction *= torch.exp(config.alpha * (shift - view.p))
            shift = view.column(config.base + side.terms.repulsion)
            repulsion *= torch.exp(config.beta * (view.n - shift))
        repulsion *= view.column(side.by_terms.repulsion)
        return repulsion - attraction * view.column(side.by_terms.attraction)

    def _views(self, tile: Tensor, pair: TilePair, *, both: bool) -> list[_Pairs]:
        """Return the tile's pairs, seen from its rows and, if asked for, its columns."""
        weights = pair_weights(
            Geometry(
                rows=self._rows.places.take(pair.rows),
                columns=self._columns.places.take(pair.columns),
                self_index=self._self_column[pair.rows] - pair.columns.start,
                influence=self._geometry.influence,
                heading_limit_rad=self._geometry.heading_limit_rad,
            )
        )
        s = torch.relu(tile)
        p, n = weights.attraction.to(s.dtype) * s, weights.repulsion.to(s.dtype) * s
        views = [_Pairs(self._rows, pair.rows, weights, s, p, n)]
        if both:
            transposed = PairWeights(*(w.T for w in weights))
            views.append(_Pairs(self._columns, pair.columns, transposed, s.T, p.T, n.T))
        return views
