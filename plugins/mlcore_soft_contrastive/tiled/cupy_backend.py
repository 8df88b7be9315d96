"""Tiles through the CUDA kernels: prepares what ``kernels/tiles.cu`` works on.

Everything a kernel needs lies in torch tensors and is handed over by address, so that
nothing is copied, and whoever launches the kernels (CuPy on a GPU; in the tests a build of
the same source for the host) needs to know nothing of this.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import torch
from torch import Tensor

from mlcore.protocols import DeviceInfluenceFunction
from mlcore_soft_contrastive.config import LARGEST_EXPONENT, SoftContrastiveConfig
from mlcore_soft_contrastive.dense import RowTerms
from mlcore_soft_contrastive.geometry import Geometry, Places
from mlcore_soft_contrastive.tiled.layout import (
    Blocks,
    TilePair,
    raise_largest,
    self_columns,
    settled_weights,
    sides,
)

BLOCK = 32
_THREADS = (32, 8)


class Launch(Protocol):
    """Runs a kernel on tensors of one device, in that device's current stream."""

    def __call__(
        self,
        name: str,
        grid: tuple[int, int],
        block: tuple[int, int],
        *arguments: Tensor | int,
    ) -> None:
        """Launch ``name``; tensors are passed as addresses, numbers as C ``int``."""


def covers(geometry: Geometry, config: SoftContrastiveConfig, embeddings: Tensor) -> bool:
    """Return whether the kernels can compute this, on whatever device."""
    return (
        embeddings.dtype != torch.float64
        and isinstance(geometry.influence, DeviceInfluenceFunction)
        and config.largest_exponent <= LARGEST_EXPONENT
    )


class _Side:
    """The rows, or the columns: what kernels read, and the sums in float64."""

    def __init__(
        self, places: Places, order: Blocks, origin_m: Tensor, own: Tensor, *, headings: bool
    ) -> None:
        size, device = len(places), origin_m.device
        self.exact = torch.zeros(3, size, dtype=torch.float64, device=device)
        self.exact[: len(origin_m)] = (places.positions_m[order.order] - origin_m).T
        self.high = self.exact.float()
        self.low = (self.exact - self.high).float()
        self.heading = torch.zeros(0, dtype=torch.float64, device=device)
        if headings and places.headings_rad is not None:
            self.heading = torch.remainder(places.headings_rad[order.order], 2 * math.pi)
        self.below, self.above, self.attraction, self.repulsion = torch.zeros(
            4, size, device=device
        )
        self.own = own
        self.sums = torch.zeros(2, size, dtype=torch.float64, device=device)
        fields = [self.high, self.low, self.exact, self.heading, self.below, self.above]
        fields += [self.attraction, self.repulsion, self.own]
        addresses = [field.data_ptr() if field.numel() else 0 for field in fields]
        self.words = torch.tensor([*addresses, size], dtype=torch.int64, device=device)


class KernelTileOps:
    """See :class:`mlcore_soft_contrastive.tiled.walk.TileOps`.

    Args:
        geometry: Where the images are; its influence function has ``device_code``.
        config: The formula's options.
        rows: Blocks of the rows.
        columns: Blocks of the columns.
        launch: Runs the kernels made from the influence function's code.
    """

    def __init__(
        self,
        geometry: Geometry,
        config: SoftContrastiveConfig,
        rows: Blocks,
        columns: Blocks,
        launch: Launch,
    ) -> None:
        self._config, self._launch = config, launch
        self._support_m = geometry.influence.support_m
        limited = geometry.heading_limit_rad is not None
        origin_m = geometry.columns.positions_m.mean(dim=0)
        own = self_columns(geometry, rows, columns)
        self._rows = _Side(geometry.rows, rows, origin_m, own, headings=limited)
        self._columns = self._rows
        if columns is not rows:
            self._columns = _Side(geometry.columns, columns, origin_m, own, headings=limited)
        self._numbers = torch.tensor(
            _numbers(geometry, config), dtype=torch.float64, device=origin_m.device
        )
        self._terms = RowTerms(*self._rows.sums)

    def most_attracting(self, tile: Tensor, pair: TilePair) -> None:
        for side, span, (largest, _) in self._found("most_attracting", tile, pair):
            _raise(side.attraction[span], largest)

    def least_most_attracting(self, pair: TilePair) -> float:
        least = [side.attraction[span].min() for side, span, _ in self._sides(pair)]
        return float(torch.stack(least).min())

    def mining_extrema(self, tile: Tensor, pair: TilePair) -> None:
        for side, span, (largest, lacking) in self._found("mining_extrema", tile, pair):
            _raise(side.below[span], largest)
            side.above[span] = torch.minimum(side.above[span], -lacking.amax(dim=0))

    def settled_weights(self) -> Tensor:
        return settled_weights(self._rows.attraction, self._rows.above)

    def start_sums(self) -> None:
        for side in {id(side): side for side in (self._rows, self._columns)}.values():
            if self._config.mining:
                side.below += self._config.epsilon
                side.above += side.attraction - self._config.epsilon
            else:
                side.below.fill_(math.inf)
                side.above.fill_(-math.inf)

    def most_repelling(self, tile: Tensor, pair: TilePair) -> Tensor:
        if pair.gap_m < self._support_m:
            for side, span, (largest, _) in self._found("mining_extrema", tile, pair):
                _raise(side.below[span], largest + self._config.epsilon)
            return tile.new_ones((), dtype=torch.bool)
        thresholds = [
            (side.below[span], side.above[span], dim) for side, span, dim in self._sides(pair)
        ]
        return raise_largest(tile, thresholds, self._config.epsilon)

    def sums(self, tile: Tensor, pair: TilePair) -> None:
        for side, span, found in self._found("sums", tile, pair):
            side.sums[:, span] += found.sum(dim=1)

    def terms(self) -> RowTerms:
        attraction, repulsion = self._rows.sums
        if self._config.aggregation == "plain":
            self._terms = RowTerms(-attraction, repulsion)
        else:
            self._terms = RowTerms(
                torch.log1p(attraction) / self._config.alpha,
                torch.log1p(repulsion) / self._config.beta,
            )
        return self._terms

    def start_gradient(self, attraction: Tensor, repulsion: Tensor) -> None:
        if self._config.aggregation != "plain":
            attraction = attraction * torch.exp(-self._config.alpha * self._terms.attraction)
            repulsion = repulsion * torch.exp(-self._config.beta * self._terms.repulsion)
        self._rows.attraction.copy_(attraction)
        self._rows.repulsion.copy_(repulsion)

    def gradient(self, tile: Tensor, pair: TilePair) -> None:
        self._run("gradient", tile, pair)

    def _sides(self, pair: TilePair) -> list[tuple[_Side, slice, int]]:
        return sides(pair, self._rows, self._columns)

    def _found(
        self, step: str, tile: Tensor, pair: TilePair
    ) -> Iterator[tuple[_Side, slice, Tensor]]:
        """Run one step; yield each side, its images and what each block found for them."""
        found = self._run(step, tile, pair)
        for (side, span, _), by_block in zip(self._sides(pair), found, strict=False):
            yield side, span, by_block

    def _run(self, step: str, tile: Tensor, pair: TilePair) -> tuple[Tensor, Tensor]:
        """Return what each block found: ``(2, blocks, rows)``, ``(2, blocks, columns)``."""
        num_rows, num_columns = tile.shape
        grid = (-(-num_columns // BLOCK), -(-num_rows // BLOCK))
        by_row = tile.new_empty(2, grid[0], num_rows)
        by_column = tile.new_empty(2, grid[1], num_columns)
        self._launch(
            step,
            grid,
            _THREADS,
            tile,
            self._rows.words,
            self._columns.words,
            self._numbers,
            pair.rows.start,
            pair.columns.start,
            num_rows,
            num_columns,
            int(pair.gap_m < self._support_m),
            int(pair.symmetric),
            by_row,
            by_column,
        )
        return by_row, by_column


def _raise(values: Tensor, by_block: Tensor) -> None:
    torch.maximum(values, by_block.amax(dim=0), out=values)


def _numbers(geometry: Geometry, config: SoftContrastiveConfig) -> list[float]:
    """Return what ``read_rule`` of the kernels reads."""
    influence, limit = geometry.influence, geometry.heading_limit_rad
    assert isinstance(influence, DeviceInfluenceFunction)
    return [
        influence.support_m,
        influence.repulsion_start_m,
        math.inf if limit is None else limit,
        config.alpha,
        config.beta,
        config.base,
        float(config.aggregation == "plain"),
        *influence.device_code().parameters.values(),
    ]
