"""Chooses who does the elementwise work, and lays out the tiles for it."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from mlcore.protocols import DeviceInfluenceFunction
from mlcore_soft_contrastive import cupy_launch, kernel_ops, numba_ops
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.geometry import Geometry
from mlcore_soft_contrastive.kernel_source import tiles_source
from mlcore_soft_contrastive.layout import blocks, tile_pairs
from mlcore_soft_contrastive.products import Products
from mlcore_soft_contrastive.tiled import MakeTileOps, Plan
from mlcore_soft_contrastive.torch_ops import TorchTileOps

CPU_TILE = 512
"""512 x 512 floats stay in a core's caches and fill its matrix units."""
DEVICE_TILE = 2048
"""A GPU wants more work in a launch; 16 MiB of floats still stay in its second-level cache."""
TORCH_TILE = 1024
"""On a GPU without kernels: a chain of operations holds a dozen tiles at once."""


def plan_tiles(
    geometry: Geometry, config: SoftContrastiveConfig, embeddings: Tensor, *, square: bool
) -> tuple[str, Plan]:
    """Return the implementation's name for the stats, and what to walk over.

    Args:
        geometry: Where the images are.
        config: The formula's options, and the implementation asked for.
        embeddings: ``(B, D)``, for device and dtype.
        square: Whether the embeddings are compared with each other.

    Raises:
        ConfigError: "cupy" is asked for and cannot run here.
    """
    name, tile, make = choose(geometry, config, embeddings)
    rows = blocks(geometry.rows.positions_m, tile)
    columns = rows if square else blocks(geometry.columns.positions_m, tile)
    return name, Plan(
        geometry=geometry,
        config=config,
        rows=rows,
        columns=columns,
        pairs=tile_pairs(rows, columns, symmetric=square),
        ops=make(geometry, config, rows, columns),
        products=Products(config.tile_precision if name == "cupy" else "float32"),
    )


def choose(
    geometry: Geometry, config: SoftContrastiveConfig, embeddings: Tensor
) -> tuple[str, int, MakeTileOps]:
    """Return name, tile width and maker of the elementwise work."""
    on_cpu = embeddings.device.type == "cpu"
    if config.implementation == "cupy":
        cupy_launch.require(embeddings.device)
    wants_kernels = config.implementation == "cupy" or (
        config.implementation == "auto" and embeddings.device.type == "cuda"
    )
    if wants_kernels and not cupy_launch.is_installed():
        cupy_launch.warn_without_cupy()
    elif wants_kernels and kernel_ops.covers(geometry, config, embeddings):
        assert isinstance(geometry.influence, DeviceInfluenceFunction)
        source = tiles_source(geometry.influence.device_code())
        launch = cupy_launch.cupy_kernels(source)
        return "cupy", DEVICE_TILE, partial(kernel_ops.KernelTileOps, launch=launch)
    if on_cpu and numba_ops.covers(geometry, config, embeddings):
        return "tiled-numba", CPU_TILE, numba_ops.NumbaTileOps
    return "tiled-torch", CPU_TILE if on_cpu else TORCH_TILE, TorchTileOps
