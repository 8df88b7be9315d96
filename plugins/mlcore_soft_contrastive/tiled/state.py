"""What one evaluation knows of each image: extrema and thresholds of mining, sums, terms.

A *back end* computes on one tile; this module takes what it found into the state. With
``p = w+ s`` and ``n = w- s`` of a pair, multi-similarity mining keeps of row i::

    attracting pairs with  p < below_i = max n + epsilon
    repelling pairs with   n > above_i = t + least - epsilon,
                           t = max p,  least = min (s - t) w+

over all pairs of the row; all three extrema include 0, so that ``least <= 0 <= t``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

import torch
from torch import Tensor

from mlcore.protocols import ProcessGroup
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.dense import RowTerms
from mlcore_soft_contrastive.geometry import Geometry, Places
from mlcore_soft_contrastive.tiled.layout import Ordered, TilePair

Step = Literal["most_attracting", "mining_extrema", "most_repelling", "sums", "gradient"]

_NOWHERE = -(2**31)


class Backend(Protocol):
    """Computes on one tile; numba, torch and the CUDA kernels do alike."""

    def __call__(self, step: Step, tile: Tensor, pair: TilePair) -> tuple[Tensor, Tensor]:
        """Run ``step`` on the raw products ``x_I x_J^T`` of unit embeddings, contiguous.

        Returns:
            Two numbers per row and two per column, ``(2, rows)`` and ``(2, columns)``, over
            the pairs of the tile alone:

            - most_attracting: max p; unused
            - mining_extrema: max n; max (t - s) w+, t being the row's or column's own
            - most_repelling: max n; unused
            - sums: sum over kept attracting pairs; over kept repelling pairs
            - gradient: unused; the derivative by each similarity is written over the tile

            All maxima include 0. The columns' numbers are read for mirrored tiles only.
        """


class MakeBackend(Protocol):
    """Makes the back end of one evaluation; it reads, and never writes, the two sides."""

    def __call__(
        self, geometry: Geometry, config: SoftContrastiveConfig, rows: Side, columns: Side
    ) -> Backend: ...


class Side:
    """The rows, or the columns, of the matrix, in blocks along the curve.

    Attributes:
        places: Where they are, float64, as given.
        own: Of the rows, ``(N,)`` int64, the sorted column that is the row itself, or far
            below 0.
        below: ``(N,)``, while mining max n, then the threshold of attracting pairs.
        above: ``(N,)``, while mining ``least``, then the threshold of repelling pairs.
        attraction: ``(N,)``, while mining t; in backward what pairs are multiplied by.
        repulsion: ``(N,)``, in backward what pairs are multiplied by.
        sums: ``(2, N)`` float64, attraction and repulsion, of ``exp(exponent - shift)``.
        shifts: ``(2, N)`` float64, at least 0; a back end may raise them.
        terms: ``(2, N)`` float64, the two terms of the loss.
        by_terms: ``(2, N)`` float64, the gradient by the terms.
    """

    def __init__(self, places: Places, order: Ordered, own: Tensor, dtype: torch.dtype) -> None:
        self.places = places.take(order.order)
        self.own = own
        size, device = len(places), own.device
        self.below, self.above, self.attraction, self.repulsion = torch.zeros(
            4, size, dtype=dtype, device=device
        )
        self.sums, self.shifts, self.terms, self.by_terms = torch.zeros(
            4, 2, size, dtype=torch.float64, device=device
        )


class TileState:
    """The state of one evaluation.

    Args:
        geometry: Where the images are.
        config: The formula's options.
        rows: Ordered of the rows.
        columns: Ordered of the columns; the same object in the square form.
        make: Makes the back end.
        dtype: Of the similarities.
        group: Processes that each take a share of the tiles of a square matrix.
    """

    def __init__(
        self,
        geometry: Geometry,
        config: SoftContrastiveConfig,
        rows: Ordered,
        columns: Ordered,
        make: MakeBackend,
        dtype: torch.dtype,
        group: ProcessGroup | None = None,
    ) -> None:
        self._config, self._group = config, group
        own = self_columns(geometry, rows, columns)
        self._rows = Side(geometry.rows, rows, own, dtype)
        self._columns = self._rows
        if columns is not rows:
            self._columns = Side(geometry.columns, columns, own, dtype)
        self.backend = make(geometry, config, self._rows, self._columns)

    def most_attracting(self, tile: Tensor, pair: TilePair) -> None:
        """Mining, first step: take the tile into each row's t."""
        for side, span, (largest, _) in self._found("most_attracting", tile, pair):
            _raise(side.attraction[span], largest)

    def least_most_attracting(self, pair: TilePair) -> float:
        """Return the least t so far among the rows (and columns) of a tile.

        A tile whose p are all at most this can raise no t. Since w+ never rises with
        distance and s <= 1, no p exceeds w+ at the gap of the tile's two boxes.
        """
        least = [side.attraction[span].min() for side, span in self._sides(pair)]
        return float(torch.stack(least).min())

    def mining_extrema(self, tile: Tensor, pair: TilePair) -> None:
        """Mining, second step, when every t is known: max n and ``least``."""
        for side, span, (largest, lacking) in self._found("mining_extrema", tile, pair):
            _raise(side.below[span], largest)
            above = side.above[span]
            torch.minimum(above, -lacking.to(above.dtype), out=above)

    def join_most_attracting(self) -> None:
        """Take other processes' tiles into t."""
        if self._group is not None:
            self._rows.attraction.copy_(self._group.largest(self._rows.attraction))

    def join_extrema(self) -> None:
        """Take other processes' tiles into max n and ``least``, or both thresholds."""
        if self._group is not None:
            both = torch.stack([self._rows.below, -self._rows.above])
            below, above = self._group.largest(both)
            self._rows.below.copy_(below)
            self._rows.above.copy_(-above)

    def join_sums(self) -> None:
        """Add the sums of other processes' tiles, at the largest of their shifts."""
        if self._group is not None:
            rows = self._rows
            shifts = self._group.largest(rows.shifts)
            rows.sums *= torch.exp(rows.shifts - shifts)
            rows.shifts.copy_(shifts)
            rows.sums.copy_(self._group.add_up(rows.sums))

    def settled_weights(self) -> Tensor:
        """Return, by sorted row, the largest w+ whose pairs cannot lower ``least``.

        As s >= 0, a pair's ``(s - t) w+`` is at least ``-t w+``, which is below ``least``
        only if ``w+ > -least / t``. With t = 0 no pair of positive weight lowers it.

        The pair of an image with itself has the weight ``w+(0) - 1 <= 0``, for which this
        does not hold. It lies in a tile of gap 0, which is walked once only if
        ``w+(0) < epsilon``: then ``above <= t - epsilon < 0``, whatever ``least`` is, and
        every repelling pair is kept.
        """
        t, least = self._rows.attraction.double(), self._rows.above.double()
        return torch.where(t > 0.0, -least / t, torch.inf)

    def start_sums(self) -> None:
        """Turn the extrema into thresholds."""
        epsilon = self._config.epsilon
        for side in {id(side): side for side in (self._rows, self._columns)}.values():
            if self._config.mining:
                # In float64, so that a threshold is rounded once.
                t, least = side.attraction.double(), side.above.double()
                side.above.copy_(t + least - epsilon)
                side.below.copy_(side.below.double() + epsilon)
            else:
                side.below.fill_(torch.inf)
                side.above.fill_(-torch.inf)

    def most_repelling(self, tile: Tensor, pair: TilePair) -> Tensor:
        """Mining, after :meth:`start_sums`: take a far or weak tile into ``below``.

        Returns:
            Scalar: whether some row (or column) may keep a repelling pair of the tile,
            which is so if its largest n exceeds ``above``.
        """
        kept = []
        for side, span, (largest, _) in self._found("most_repelling", tile, pair):
            below = side.below[span]
            _raise(below, largest.double() + self._config.epsilon)
            kept.append((largest > side.above[span]).any())
        return torch.stack(kept).any()

    def sums(self, tile: Tensor, pair: TilePair) -> None:
        """Add the tile to the sums."""
        for side, span, found in self._found("sums", tile, pair):
            side.sums[:, span] += found

    def terms(self) -> RowTerms:
        """Return the two terms of each row's loss, sorted, float64."""
        rows, config = self._rows, self._config
        if config.aggregation == "plain":
            rows.terms[0], rows.terms[1] = -rows.sums[0], rows.sums[1]
        else:
            # log(1 + sum e^z) with sums of e^(z - shift); as in dense.log_one_plus_sum_exp.
            logs = rows.shifts + torch.log1p(rows.sums + torch.expm1(-rows.shifts))
            rows.terms[0], rows.terms[1] = logs[0] / config.alpha, logs[1] / config.beta
        return RowTerms(*rows.terms)

    def start_gradient(self, attraction: Tensor, repulsion: Tensor) -> None:
        """Take the gradients by the (sorted) terms, before :meth:`gradient`.

        With ``S = sum exp(z)`` a term is ``log(1 + S) / alpha``, and its derivative by p is
        ``-e^z / (1 + S)``: a pair is multiplied by ``1 / (1 + S) = exp(-alpha term)``.
        """
        rows, config = self._rows, self._config
        rows.by_terms[0], rows.by_terms[1] = attraction, repulsion
        if config.aggregation != "plain":
            attraction = attraction * torch.exp(-config.alpha * rows.terms[0])
            repulsion = repulsion * torch.exp(-config.beta * rows.terms[1])
        rows.attraction.copy_(attraction)
        rows.repulsion.copy_(repulsion)

    def gradient(self, tile: Tensor, pair: TilePair) -> None:
        """Write the derivative by each similarity over the tile."""
        self.backend("gradient", tile, pair)

    def _sides(self, pair: TilePair) -> list[tuple[Side, slice]]:
        """Return whose state a tile counts for: its rows' and, if mirrored, its columns'."""
        both = [(self._rows, pair.rows), (self._columns, pair.columns)]
        return both if pair.mirrored else both[:1]

    def _found(
        self, step: Step, tile: Tensor, pair: TilePair
    ) -> Iterator[tuple[Side, slice, Tensor]]:
        """Run a step; yield each side that the tile counts for, and what was found for it."""
        found = self.backend(step, tile, pair)
        for (side, span), numbers in zip(self._sides(pair), found, strict=False):
            yield side, span, numbers


def self_columns(geometry: Geometry, rows: Ordered, columns: Ordered) -> Tensor:
    """Return ``(B,)`` int64, the sorted column that is each sorted row itself.

    Far below 0 for none, so that no tile's offset brings it into the tile.
    """
    places = torch.empty_like(columns.order)
    places[columns.order] = torch.arange(len(places), device=places.device)
    own = geometry.self_index[rows.order]
    return torch.where(own >= 0, places[own.clamp(min=0)], _NOWHERE)


def _raise(values: Tensor, found: Tensor) -> None:
    torch.maximum(values, found.to(values.dtype), out=values)
