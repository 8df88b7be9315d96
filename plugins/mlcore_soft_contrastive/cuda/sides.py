"""Rows and columns of the matrix, sorted along the curve by kernels, and their state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mlcore_soft_contrastive.cuda.arguments import PlacesWords, SideWords, address
from mlcore_soft_contrastive.geometry import Geometry, Places
from mlcore_soft_contrastive.tiled.cupy_launch import Launch
from mlcore_soft_contrastive.tiled.kernel_source import Variant

BLOCK = 128
"""Rows and columns whose pairs a block of threads takes, as in ``kernels/rows.cu``."""

_NOWHERE = -(2**30)


def variant_of(geometry: Geometry, *, plain: bool) -> Variant:
    """Return what the kernels have to be compiled for."""
    headings = "weigh" if geometry.influence_turns else "none"
    if headings == "none" and geometry.heading_limit_rad is not None:
        headings = "limit"
    return Variant(
        coordinates=3 if geometry.columns.positions_m.shape[1] == 3 else 2,
        headings=headings,  # type: ignore[arg-type]
        regions=geometry.columns.region is not None,
        repulsion_starts=geometry.influence.repulsion_start_m >= 0.0,
        plain=plain,
    )


class Side:
    """Images along the curve, padded to whole blocks, with the state of one evaluation.

    Attributes:
        order: ``(N,)`` int64, the batch row of each sorted row.
        size: N.
        padded: N rounded up to whole blocks.
        boxes: ``(blocks, 2, 4)`` on the CPU, lower and upper corner of each block relative to
            the middle of all columns, metres, and least and largest region.
        words: What kernels read; addresses of tensors that this object keeps.
        keep: ``(padded, 2)`` float32: first the extrema ``-least`` and max n, then the
            thresholds below which attracting and above which repelling pairs are kept.
        most_attracting: ``(padded,)`` float32, t in mining.
        sums: ``(padded, 2)`` float64.
        factor: ``(padded, 2)`` float32, in backward.
    """

    boxes: np.ndarray[Any, Any]

    def __init__(
        self,
        places: Places,
        region: Tensor | None,
        bounds_m: tuple[Tensor, Tensor],
        launch: Launch,
        variant: Variant,
    ) -> None:
        positions = places.positions_m.contiguous()
        device = positions.device
        self._launch, self.size = launch, len(places)
        blocks = -(-self.size // BLOCK)
        self.padded = blocks * BLOCK
        keys = torch.empty(self.size, dtype=torch.int64, device=device)
        arguments = (positions, region, *bounds_m, keys, self.size)
        launch("curve_keys", (blocks, 1), (BLOCK, 1), *arguments)
        self.order = torch.argsort(keys, stable=True)

        def floats(width: int, rows: int = self.padded) -> Tensor:
            return torch.empty(rows, width, dtype=torch.float32, device=device)

        self.keep, self.factor = floats(2), floats(2)
        self.most_attracting = floats(1)[:, 0]
        self.sums = torch.empty(self.padded, 2, dtype=torch.float64, device=device)
        self._box = floats(4, 2 * blocks)
        weighs, three = variant.headings != "none", variant.coordinates == 3
        headings = places.headings_rad.contiguous() if weighs else None  # type: ignore[union-attr]
        exact = torch.empty(
            self.padded, variant.coordinates, dtype=torch.float64, device=device
        )
        self._fields: dict[str, Tensor | None] = {
            "place": floats(4),
            "height": floats(2) if three else None,
            "exact": exact,
            "heading": floats(2) if weighs else None,
            "exact_heading": torch.empty_like(exact[:, 0]) if weighs else None,
            "box": self._box,
            "keep": self.keep,
            "most_attracting": self.most_attracting,
            "factor": self.factor,
            "sums": self.sums,
        }
        regions = None
        if region is not None:
            regions = torch.empty(self.padded, dtype=torch.int32, device=device)
        self._regions = regions
        self._inputs = positions, headings, region, *bounds_m

    def place(self, below: float, above: float) -> None:
        """Fill everything in; thresholds begin at ``below`` and ``above``."""
        positions, headings, region, lower, upper = self._inputs
        words = PlacesWords(
            position_m=address(positions),
            heading_rad=address(headings),
            region=address(region),
            order=address(self.order),
            lower_m=address(lower),
            upper_m=address(upper),
            region_of_row=address(self._regions),
            size=self.size,
            below=below,
            above=above,
            **{name: address(field) for name, field in self._fields.items()},
        )
        self._launch("place_rows", (self.padded // BLOCK, 1), (BLOCK, 1), words)

    def read_boxes(self) -> None:
        """Fetch the boxes: the one transfer that a walk waits for before its loops."""
        self.boxes = self._box.view(-1, 2, 4).cpu().numpy()

    def words(self, own: Tensor | None) -> SideWords:
        """Return what kernels read of this side."""
        return SideWords(
            own=address(own),
            region=address(self._regions),
            size=self.size,
            padded=self.padded,
            **{name: address(field) for name, field in self._fields.items()},
        )


def own_columns(geometry: Geometry, rows: Side, columns: Side) -> Tensor:
    """Return ``(padded rows,)`` int32, the sorted column that is each sorted row itself.

    Far below 0 for none, so that no tile's offset brings it into the tile.
    """
    places = torch.empty_like(columns.order)
    places[columns.order] = torch.arange(len(places), device=places.device)
    own = geometry.self_index[rows.order]
    found = torch.where(own >= 0, places[own.clamp(min=0)], _NOWHERE).int()
    return torch.nn.functional.pad(found, (0, rows.padded - rows.size), value=_NOWHERE)


def tile_boxes(boxes: np.ndarray[Any, Any], tile: int) -> np.ndarray[Any, Any]:
    """Return the boxes of tiles ``tile`` rows wide from those of blocks."""
    starts = range(0, len(boxes), tile // BLOCK)
    lower = np.minimum.reduceat(boxes[:, 0], starts)
    upper = np.maximum.reduceat(boxes[:, 1], starts)
    return np.stack([lower, upper], axis=1).astype(np.float64)


def gaps_m(rows: np.ndarray[Any, Any], columns: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return ``(R, C)``, by how much boxes of rows and columns are apart at least.

    Infinite between boxes that have no region in common.
    """
    apart = np.maximum(
        rows[:, None, 0] - columns[None, :, 1], columns[None, :, 0] - rows[:, None, 1]
    ).clip(min=0.0)
    gaps: np.ndarray[Any, Any] = np.sqrt(np.square(apart[..., :3]).sum(axis=2))
    return np.where(apart[..., 3] > 0.0, math.inf, gaps)
