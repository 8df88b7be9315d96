"""Tiles in plain torch: any device, dtype, influence function and exponent.

Decides each pair in float64 through the same function as the dense implementation, and
keeps a running largest exponent for each row, so that nothing overflows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.geometry import Geometry, PairWeights, pair_weights
from mlcore_soft_contrastive.tiled.layout import TilePair
from mlcore_soft_contrastive.tiled.state import Side, Step, sides_of


class _Pairs(NamedTuple):
    """The pairs of a tile, seen from its rows or (transposed) from its columns."""

    side: Side
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


class TorchBackend:
    """See :class:`mlcore_soft_contrastive.tiled.state.Backend`."""

    def __init__(
        self, geometry: Geometry, config: SoftContrastiveConfig, rows: Side, columns: Side
    ) -> None:
        self._geometry, self._config = geometry, config
        self._rows, self._columns = rows, columns

    def __call__(self, step: Step, tile: Tensor, pair: TilePair) -> Tensor | None:
        # The gradient by a similarity is a sum over the losses of both its images, also in a
        # tile that stands for itself alone.
        if step == "gradient":
            total = torch.zeros_like(tile)
            for k, view in enumerate(self._views(tile, pair, both=pair.symmetric)):
                by_similarity = self._row_gradient(view)
                total += by_similarity if k == 0 else by_similarity.T
            torch.mul(total, tile > 0, out=tile)
            return None
        if step == "most_repelling":
            return self._most_repelling(tile, pair)
        take = {
            "most_attracting": _most_attracting,
            "mining_extrema": _mining_extrema,
            "sums": self._sums,
        }[step]
        for view in self._views(tile, pair, both=pair.mirrored):
            take(view)
        return None

    def _most_repelling(self, tile: Tensor, pair: TilePair) -> Tensor:
        if pair.gap_m >= self._geometry.influence.support_m:
            largest = [tile.amax(dim=1).relu(), tile.amax(dim=0).relu()]
        else:
            views = self._views(tile, pair, both=pair.mirrored)
            largest = [view.n.amax(dim=1).relu() for view in views]
        kept = []
        sides = sides_of(pair, self._rows, self._columns)
        for (side, span), found in zip(sides, largest, strict=False):
            _raise(side.below[span], found.double() + self._config.epsilon)
            kept.append((found > side.above[span]).any())
        return torch.stack(kept).any()

    def _sums(self, view: _Pairs) -> None:
        """Sum relative to the largest exponents so far; raise the rows' shifts to them."""
        config = self._config
        attracting, repelling = view.kept_attracting(), view.kept_repelling()
        for k, (plain, exponents, kept) in enumerate(
            (
                (view.p, config.alpha * (config.base - view.p), attracting),
                (view.n, config.beta * (view.n - config.base), repelling),
            )
        ):
            sums, before = view.side.sums[k, view.span], view.side.shifts[k, view.span]
            if config.aggregation == "plain":
                sums += (plain * kept).sum(dim=1)
                continue
            exponents.masked_fill_(~kept, -torch.inf)
            shift = torch.maximum(before, exponents.amax(dim=1).double())
            sums *= torch.exp(before - shift)
            before.copy_(shift)
            sums += torch.exp(exponents - shift[:, None].to(exponents.dtype)).sum(dim=1)

    def _row_gradient(self, view: _Pairs) -> Tensor:
        """Return the derivative of the rows' own terms by each similarity."""
        config, side = self._config, view.side
        attracts = view.kept_attracting()
        repels = view.kept_repelling() & ~view.weights.same
        attraction = view.weights.attraction.mul(attracts).to(view.s.dtype)
        repulsion = view.weights.repulsion.mul(repels).to(view.s.dtype)
        if config.aggregation != "plain":
            # A pair in a row's sum has an exponent of at most 0 here, as the term is at
            # least the pair's own part. That of any other pair may overflow.
            exponents = config.alpha * (view.column(config.base - side.terms[0]) - view.p)
            attraction *= torch.exp(exponents.masked_fill_(~attracts, -torch.inf))
            exponents = config.beta * (view.n - view.column(config.base + side.terms[1]))
            repulsion *= torch.exp(exponents.masked_fill_(~repels, -torch.inf))
        repulsion *= view.column(side.by_terms[1])
        return repulsion - attraction * view.column(side.by_terms[0])

    def _views(self, tile: Tensor, pair: TilePair, *, both: bool) -> list[_Pairs]:
        """Return the tile's pairs, seen from its rows and, if asked for, its columns."""
        weights = pair_weights(
            Geometry(
                rows=self._rows.places.take(pair.rows),
                columns=self._columns.places.take(pair.columns),
                self_index=self._rows.own[pair.rows] - pair.columns.start,
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


def _most_attracting(view: _Pairs) -> None:
    _raise(view.side.attraction[view.span], view.p.amax(dim=1))


def _mining_extrema(view: _Pairs) -> None:
    lacking = (view.column(view.side.attraction) - view.s) * view.weights.attraction
    _raise(view.side.below[view.span], view.n.amax(dim=1))
    _raise(view.side.above[view.span], lacking.amax(dim=1))


def _raise(values: Tensor, found: Tensor) -> None:
    torch.maximum(values, found.to(values.dtype), out=values)
