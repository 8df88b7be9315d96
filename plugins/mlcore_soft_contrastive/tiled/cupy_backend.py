"""Tiles through the CUDA kernels: prepares what ``kernels/tiles.cu`` works on.

Kernels read torch tensors by address: nothing is copied, and the launcher (CuPy on a GPU; in
the tests a build of the same source for the host) needs to know nothing about the loss.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from mlcore.protocols import DeviceInfluenceFunction
from mlcore_soft_contrastive.config import LARGEST_EXPONENT, SoftContrastiveConfig
from mlcore_soft_contrastive.geometry import Geometry, edge_m, wrapped
from mlcore_soft_contrastive.tiled.layout import TilePair
from mlcore_soft_contrastive.tiled.state import Side, Step

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
    """Return whether the kernels support this configuration, on any device."""
    return (
        embeddings.dtype != torch.float64
        and isinstance(geometry.influence, DeviceInfluenceFunction)
        and config.largest_exponent <= LARGEST_EXPONENT
    )


class KernelBackend:
    """See :class:`mlcore_soft_contrastive.tiled.state.Backend`.

    Args:
        geometry: Where the images are; its influence function has ``device_code``.
        config: The formula's options.
        rows: State of the rows.
        columns: State of the columns.
        launch: Runs the kernels made from the influence function's code.
    """

    def __init__(
        self,
        geometry: Geometry,
        config: SoftContrastiveConfig,
        rows: Side,
        columns: Side,
        launch: Launch,
    ) -> None:
        self._launch, self._support_m = launch, geometry.influence.support_m
        self._rows = _Words(rows, rows.own, geometry)
        self._columns = self._rows
        if columns is not rows:
            self._columns = _Words(columns, rows.own, geometry)
        self._numbers = torch.tensor(
            _numbers(geometry, config), dtype=torch.float64, device=rows.own.device
        )

    def __call__(self, step: Step, tile: Tensor, pair: TilePair) -> tuple[Tensor, Tensor]:
        num_rows, num_columns = tile.shape
        grid = (-(-num_columns // BLOCK), -(-num_rows // BLOCK))
        by_row = tile.new_empty(2, grid[0], num_rows)
        by_column = tile.new_empty(2, grid[1], num_columns)
        self._launch(
            # Its first result is the largest n; the second is not used.
            "mining_extrema" if step == "most_repelling" else step,
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
        if step == "sums":
            return by_row.sum(dim=1), by_column.sum(dim=1)
        if step == "gradient":
            return by_row[:, 0], by_column[:, 0]
        return by_row.amax(dim=1), by_column.amax(dim=1)


class _Words:
    """Addresses of what the kernels read of the rows, or of the columns.

    Attributes:
        words: ``struct Side`` of ``kernels/tiles.cu``, as int64.
    """

    def __init__(self, side: Side, own: Tensor, geometry: Geometry) -> None:
        origin_m = geometry.columns.positions_m.mean(dim=0)
        size, device = len(side.places), origin_m.device
        exact = torch.zeros(3, size, dtype=torch.float64, device=device)
        exact[: len(origin_m)] = side.places.positions_m.T  # centring would round them
        centred = torch.zeros_like(exact)
        centred[: len(origin_m)] = (side.places.positions_m - origin_m).T
        high = centred.float()
        low = (centred - high).float()
        headings = torch.zeros(0, dtype=torch.float64, device=device)
        if geometry.reads_headings and side.places.headings_rad is not None:
            headings = wrapped(side.places.headings_rad)
        # Kept, since a kernel is only given their addresses.
        self._fields = [high, low, exact, headings, side.below, side.above]
        self._fields += [side.attraction, side.repulsion, own]
        addresses = [field.data_ptr() if field.numel() else 0 for field in self._fields]
        self.words = torch.tensor([*addresses, size], dtype=torch.int64, device=device)


def _numbers(geometry: Geometry, config: SoftContrastiveConfig) -> list[float]:
    """Return what ``read_rule`` of the kernels reads."""
    influence = geometry.influence
    assert isinstance(influence, DeviceInfluenceFunction)
    return [
        influence.support_m,
        influence.repulsion_start_m,
        geometry.heading_threshold_rad,
        edge_m(influence),
        config.alpha,
        config.beta,
        config.base,
        float(config.aggregation == "plain"),
        geometry.support_rad,
        *influence.device_code().parameters.values(),
    ]
