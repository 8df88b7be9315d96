"""Images along the curve in blocks of 128, and in strips of such blocks; all on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from mlcore_soft_contrastive.geometry import Places
from mlcore_soft_contrastive.tiled.layout import hilbert_index

BLOCK = 128
"""Also that of the kernels."""
STRIP_BLOCKS = 64
"""Partial sums of 64 blocks of rows for each column: half the memory of 256-wide embeddings."""


@dataclass(frozen=True)
class Strip:
    """Blocks of rows that one launch visits.

    Attributes:
        first: The first block.
        blocks: How many.
        rows: Their rows.
    """

    first: int
    blocks: int
    rows: slice


@dataclass(frozen=True)
class CurveBlocks:
    """Images along the curve, region after region; no block has images of two regions.

    Attributes:
        order: ``(N,)`` int64, the batch row of each sorted row.
        strips: Cover all blocks.
        first: ``(blocks,)`` int32, the first row of each block.
        stop: ``(blocks,)`` int32, the row after its last.
        of_row: ``(N,)`` int64, the block of each sorted row.
        region: ``(blocks,)`` int32.
        lower_m: ``(blocks, 2 or 3)`` float64, corner of each bounding box.
        upper_m: The other corner.
    """

    order: Tensor
    strips: tuple[Strip, ...]
    first: Tensor
    stop: Tensor
    of_row: Tensor
    region: Tensor
    lower_m: Tensor
    upper_m: Tensor


def curve_blocks(places: Places) -> CurveBlocks:
    """Sort N > 0 images along a Hilbert curve and cut them into blocks."""
    device = places.positions_m.device
    order = torch.argsort(hilbert_index(places.positions_m[:, :2]), stable=True)
    sizes, codes = [len(order)], [0]
    if places.region is not None:
        order = order[torch.argsort(places.region[order], stable=True)]
        region, counts = torch.unique(places.region, return_counts=True)
        sizes, codes = counts.tolist(), region.tolist()
    firsts: list[int] = []
    regions: list[int] = []
    begin = 0
    for size, code in zip(sizes, codes, strict=True):
        firsts += range(begin, begin + size, BLOCK)
        regions += [code] * (len(firsts) - len(regions))
        begin += size
    bounds = [*firsts, begin]
    lengths = torch.tensor(bounds, device=device).diff()
    of_row = torch.repeat_interleave(lengths, output_size=begin)
    sorted_m = places.positions_m[order]
    index = of_row[:, None].expand_as(sorted_m)
    nothing = sorted_m.new_full((len(firsts), sorted_m.shape[1]), torch.inf)
    first = torch.tensor(firsts, dtype=torch.int32, device=device)
    return CurveBlocks(
        order=order,
        strips=tuple(_strips(bounds)),
        first=first,
        stop=first + lengths.int(),
        of_row=of_row,
        region=torch.tensor(regions, device=device),
        lower_m=nothing.scatter_reduce(0, index, sorted_m, "amin"),
        upper_m=nothing.neg().scatter_reduce(0, index, sorted_m, "amax"),
    )


def _strips(bounds: list[int]) -> list[Strip]:
    """Return strips of blocks, given the first row of each and the number of rows."""
    blocks = len(bounds) - 1
    stops = [min(k + STRIP_BLOCKS, blocks) for k in range(0, blocks, STRIP_BLOCKS)]
    firsts = range(0, blocks, STRIP_BLOCKS)
    return [
        Strip(first, stop - first, slice(bounds[first], bounds[stop]))
        for first, stop in zip(firsts, stops, strict=True)
    ]
