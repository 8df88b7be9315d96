"""What one evaluation knows of each image: extrema and thresholds of mining, sums, terms.

A *back end* computes on one tile, and takes what it finds into the state. With
``p = w+ s`` and ``n = w- s`` of a pair, multi-similarity mining keeps of row i::

    attracting pairs with  p < below_i = max n + epsilon
    repelling pairs with   n > above_i = t + least - epsilon,
                           t = max p,  least = min (s - t) w+

over all pairs of the row; all three extrema include 0, so that ``least <= 0 <= t``.
"""

from __future__ import annotations

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

    def __call__(self, step: Step, tile: Tensor, pair: TilePair) -> Tensor | None:
        """Run ``step`` on the raw products ``x_I x_J^T`` of unit embeddings, contiguous.

        Takes what it finds into the state of the rows and, if the tile is mirrored, of the
        columns:

        - most_attracting: max p into ``attraction``
        - mining_extrema: max n into ``below``; max (t - s) w+ into ``above``, t being the
          row's or column's own
        - most_repelling: max n + epsilon into ``below``
        - sums: those over kept attracting and kept repelling pairs into ``sums``
        - gradient: nothing; the derivative by each similarity is written over the tile

        Returns:
            Of most_repelling, a scalar: whether some row (or column) may keep a repelling pair
            of the tile, which is so if its largest n exceeds ``above``.
        """


class MakeBackend(Protocol):
    """Makes the back end of one evaluation, which reads and updates the two sides."""

    def __call__(
        self, geometry: Geometry, config: SoftContrastiveConfig, rows: Side, columns: Side
    ) -> Backend: ...


class Side:
    """The rows, or the columns, of the matrix, in blocks along the curve.

    Attributes:
        places: Where they are, float64, as given.
        own: Of the rows, ``(N,)`` int64, the sorted column that is the row itself, or far
            below 0.
        keep: ``(2, N)``, ``below`` and ``above``.
        below: ``(N,)``, while mining max n, then the threshold of attracting pairs.
        above: ``(N,)``, while mining ``-least``, then the threshold of repelling pairs.
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
        self.keep, (self.attraction, self.repulsion) = torch.zeros(
            2, 2, size, dtype=dtype, device=device
        )
        self.below, self.above = self.keep
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
        self.backend("most_attracting", tile, pair)

    def least_most_attracting(self, pair: TilePair) -> float:
        """Return the least t so far among the rows (and columns) of a tile.

        A tile whose p are all at most this can raise no t. Since w+ never rises with
        distance and s <= 1, no p exceeds w+ at the gap of the tile's two boxes.
        """
        return min(float(side.attraction[span].min()) for side, span in self.sides(pair))

    def is_weak(self, pair: TilePair, weight: float) -> bool:
        """Return whether a tile need not be looked at for the extrema, from those so far.

        In one that need not,

        - all its w+ are below ``max n + epsilon`` of all its rows (and columns). Then
          ``p <= w+ < below``, whatever else raises ``below``: all its attracting pairs are
          kept, and can be summed before ``below`` is final; and
        - no pair lowers ``least``. As s >= 0, its ``(s - t) w+`` is at least ``-t w+``, which
          is below ``least`` only if ``t w+ > -least``.

        The pair of an image with itself has the weight ``w+(0) - 1 <= 0``, for which the second
        does not hold. Its tile has gap 0, and is weak only if ``w+(0) < epsilon``: then
        ``above <= t - epsilon < 0``, whatever ``least`` is, and every repelling pair is kept.

        Args:
            pair: The tile.
            weight: The most that a w+ of it can be.
        """
        epsilon = self._config.epsilon
        if pair.gap_m <= 0.0 and weight >= epsilon:
            return False
        return not any(
            weight >= float(side.below[span].min()) + epsilon
            or bool((weight * side.attraction[span] > side.above[span]).any())
            for side, span in self.sides(pair)
        )

    def mining_extrema(self, tile: Tensor, pair: TilePair) -> None:
        """Mining, second step, when every t is known: max n and ``least``."""
        self.backend("mining_extrema", tile, pair)

    def join_most_attracting(self) -> None:
        """Take other processes' tiles into t."""
        if self._group is not None:
            self._rows.attraction.copy_(self._group.largest(self._rows.attraction))

    def join_extrema(self) -> None:
        """Take other processes' tiles into max n and ``least``, or both thresholds."""
        if self._group is not None:
            self._rows.keep.copy_(self._group.largest(self._rows.keep))

    def join_sums(self) -> None:
        """Add the sums of other processes' tiles, at the largest of their shifts."""
        if self._group is not None:
            rows = self._rows
            shifts = self._group.largest(rows.shifts)
            rows.sums *= torch.exp(rows.shifts - shifts)
            rows.shifts.copy_(shifts)
            rows.sums.copy_(self._group.add_up(rows.sums))

    def start_sums(self) -> None:
        """Turn the extrema into thresholds."""
        epsilon = self._config.epsilon
        for side in {id(side): side for side in (self._rows, self._columns)}.values():
            if self._config.mining:
                # In float64, so that a threshold is rounded once.
                t, lacking = side.attraction.double(), side.above.double()
                side.above.copy_(t - lacking - epsilon)
                side.below.copy_(side.below.double() + epsilon)
            else:
                side.below.fill_(torch.inf)
                side.above.fill_(-torch.inf)

    def most_repelling(self, tile: Tensor, pair: TilePair) -> Tensor:
        """Mining, after :meth:`start_sums`: take a far or weak tile into ``below``.

        Returns:
            Scalar: whether some row (or column) may keep a repelling pair of the tile.
        """
        kept = self.backend("most_repelling", tile, pair)
        assert kept is not None
        return kept

    def sums(self, tile: Tensor, pair: TilePair) -> None:
        """Add the tile to the sums."""
        self.backend("sums", tile, pair)

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

    def sides(self, pair: TilePair) -> list[tuple[Side, slice]]:
        """Return whose state a tile counts for: its rows' and, if mirrored, its columns'."""
        return sides_of(pair, self._rows, self._columns)


def sides_of(pair: TilePair, rows: Side, columns: Side) -> list[tuple[Side, slice]]:
    """Return whose state a tile counts for: its rows' and, if mirrored, its columns'."""
    both = [(rows, pair.rows), (columns, pair.columns)]
    return both if pair.mirrored else both[:1]


def self_columns(geometry: Geometry, rows: Ordered, columns: Ordered) -> Tensor:
    """Return ``(B,)`` int64, the sorted column that is each sorted row itself.

    Far below 0 for none, so that no tile's offset brings it into the tile.
    """
    places = torch.empty_like(columns.order)
    places[columns.order] = torch.arange(len(places), device=places.device)
    own = geometry.self_index[rows.order]
    return torch.where(own >= 0, places[own.clamp(min=0)], _NOWHERE)
