"""Chooses who does the elementwise work, and lays out the tiles for it."""

from __future__ import annotations

from torch import Tensor

from mlcore_soft_contrastive import numba_ops
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.geometry import Geometry
from mlcore_soft_contrastive.layout import blocks, tile_pairs
from mlcore_soft_contrastive.tiled import Plan, TileOps
from mlcore_soft_contrastive.torch_ops import TorchTileOps

CPU_TILE = 512
"""512 x 512 floats stay in a core's caches and fill its matrix units."""
DEVICE_TILE = 1024
"""Elsewhere each step is a kernel launch, which wants more work."""


def plan_tiles(
    geometry: Geometry, config: SoftContrastiveConfig, embeddings: Tensor, *, square: bool
) -> tuple[str, Plan]:
    """Return the implementation's name for the stats, and what to walk over.

    Args:
        geometry: Where the images are.
        config: The formula's options.
        embeddings: ``(B, D)``, for device and dtype.
        square: Whether the embeddings are compared with each other.
    """
    tile = CPU_TILE if embeddings.device.type == "cpu" else DEVICE_TILE
    rows = blocks(geometry.rows.positions_m, tile)
    columns = rows if square else blocks(geometry.columns.positions_m, tile)
    ops: TileOps
    if numba_ops.covers(geometry, config, embeddings):
        name, ops = "tiled-numba", numba_ops.NumbaTileOps(geometry, config, rows, columns)
    else:
        name, ops = "tiled-torch", TorchTileOps(geometry, config, rows, columns)
    return name, Plan(
        geometry=geometry,
        config=config,
        rows=rows,
        columns=columns,
        pairs=tile_pairs(rows, columns, symmetric=square),
        ops=ops,
    )
