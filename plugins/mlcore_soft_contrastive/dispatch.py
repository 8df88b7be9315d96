"""One loss evaluation: choose the implementation, average, report."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from mlcore.protocols import LossOutput, ProcessGroup
from mlcore_soft_contrastive.autograd import Evaluation, TileEvaluation, tiled_row_terms
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.cuda.walk import CudaKernels, tile_width
from mlcore_soft_contrastive.dense import RowTerms, dense_row_terms
from mlcore_soft_contrastive.fused import choice as fused
from mlcore_soft_contrastive.geometry import Geometry
from mlcore_soft_contrastive.inputs import require_finite_embeddings
from mlcore_soft_contrastive.tiled import cupy_launch, numba_backend
from mlcore_soft_contrastive.tiled.cores import cores
from mlcore_soft_contrastive.tiled.layout import blocks, share_of, tile_pairs
from mlcore_soft_contrastive.tiled.products import Products
from mlcore_soft_contrastive.tiled.state import MakeBackend, TileState
from mlcore_soft_contrastive.tiled.threads import mean, own_threads
from mlcore_soft_contrastive.tiled.torch_backend import TorchBackend
from mlcore_soft_contrastive.tiled.walk import Plan

P = ParamSpec("P")
R = TypeVar("R")

SMALLEST_TILED = 256 * 256
"""With fewer pairs, one dense matrix costs less than the walk over tiles."""


def not_compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Return ``function``, left as it is by ``torch.compile`` of what calls it.

    The loss looks at values (finite? near or far?) and runs compiled code already: a graph
    would break at each of these, and numba's functions cannot be traced at all.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            # Not as a decorator: that would import the compiler into every process.
            left_alone = torch.compiler.disable(function)  # type: ignore[no-untyped-call]
            return cast("R", left_alone(*args, **kwargs))
        return function(*args, **kwargs)

    return call


def evaluate(
    embeddings: Tensor,
    references: Tensor | None,
    geometry: Geometry,
    config: SoftContrastiveConfig,
    group: ProcessGroup | None = None,
) -> LossOutput:
    """Return the mean loss of the rows.

    Args:
        embeddings: ``(B, D)``.
        references: ``(R, D)``; None compares the embeddings with each other.
        geometry: Where the images of both are, checked against them.
        config: The formula's options and the implementation asked for.
        group: Processes that all call this with the same arguments, square form and tiles:
            each walks over its share, and the gradients of all add up to the whole one.

    Raises:
        DataError: An embedding is not finite; the message names the rows.
    """
    require_finite_embeddings("embeddings", embeddings)
    others = embeddings if references is None else references
    if references is not None:
        require_finite_embeddings("references", references)
    if embeddings.numel() == 0 or others.numel() == 0:
        nothing = embeddings[:0].sum() + others[:0].sum()
        return LossOutput(nothing, {"implementation": "none"})
    # Half precision is for the model: a similarity is multiplied by beta = 50 here.
    with torch.autocast(embeddings.device.type, enabled=False):
        name, terms = _row_terms(embeddings, references, geometry, config, group)
        # On a GPU torch's own is one launch, and the same each time.
        average = mean if embeddings.device.type == "cpu" else torch.mean
        attraction, repulsion = average(terms.attraction), average(terms.repulsion)
    return LossOutput(
        attraction + repulsion,
        {
            "attraction": attraction.detach(),
            "repulsion": repulsion.detach(),
            "implementation": name,
        },
    )


def is_dense(geometry: Geometry, config: SoftContrastiveConfig) -> bool:
    """Return whether all pair matrices are written out."""
    pairs = len(geometry.rows) * len(geometry.columns)
    small = config.implementation == "auto" and pairs < SMALLEST_TILED
    return config.implementation == "dense" or small


def _row_terms(
    embeddings: Tensor,
    references: Tensor | None,
    geometry: Geometry,
    config: SoftContrastiveConfig,
    group: ProcessGroup | None,
) -> tuple[str, RowTerms]:
    if is_dense(geometry, config):
        return "dense", dense_row_terms(embeddings, references, geometry, config)
    names: list[str] = []

    def start(embeddings: Tensor, geometry: Geometry) -> Evaluation:
        square = references is None
        name, evaluation = start_tiles(geometry, config, embeddings, square=square, group=group)
        names.append(name)
        return evaluation

    terms = tiled_row_terms(embeddings, references, geometry, start)
    return names[0], terms


CPU_TILE = 512
"""512 x 512 floats stay in a core's caches and fill its matrix units."""
SMALL_BATCH, SMALL_CPU_TILE = 1024, 256
"""Of so few images a second thread would cost more than it does: threads wait for Python's
lock at each tile. Smaller tiles skip more pairs."""
DEVICE_TILE = 4096
"""In kernels, whose launches would cost more than the work in a smaller tile; 64 MiB. See
:func:`mlcore_soft_contrastive.cuda.walk.tile_width`."""
MOST_REGIONS = 64
"""Blocks of so many regions would be small, and tiles many: torch's, which then compare the
regions of each pair, are faster. So do the kernels, for any number of regions."""
TORCH_TILE = 1024
"""On a GPU without kernels: a chain of operations holds a dozen tiles at once."""


def start_tiles(
    geometry: Geometry,
    config: SoftContrastiveConfig,
    embeddings: Tensor,
    *,
    square: bool,
    group: ProcessGroup | None = None,
) -> tuple[str, Evaluation]:
    """Return the implementation's name for the stats, and the evaluation.

    Args:
        geometry: Where the images are.
        config: The formula's options, and the implementation asked for.
        embeddings: ``(B, D)``, for device and dtype.
        square: Whether the embeddings are compared with each other.
        group: Processes that share the tiles.

    Raises:
        ConfigError: "fused" or "cupy" is asked for and cannot run here.
    """
    if config.implementation == "fused":
        fused.require(embeddings.device)
        if group is None and fused.covers(geometry, config, embeddings):
            return "fused", fused.start(geometry, config, square=square)
    name, tile, make = choose(geometry, config, embeddings)
    if isinstance(make, CudaKernels):
        return name, make.start(geometry, config, tile, group)
    chosen = name, tile, make
    plan = plan_tiles(geometry, config, embeddings.dtype, chosen, square=square, group=group)
    return name, TileEvaluation(plan)


def plan_tiles(
    geometry: Geometry,
    config: SoftContrastiveConfig,
    dtype: torch.dtype,
    chosen: tuple[str, int, MakeBackend],
    *,
    square: bool,
    group: ProcessGroup | None = None,
) -> Plan:
    """Return what to walk over, in Python.

    Args:
        geometry: Where the images are.
        config: The formula's options.
        dtype: Of the embeddings.
        chosen: Name, tile width and maker of the back end.
        square: Whether the embeddings are compared with each other.
        group: Processes that share the tiles.
    """
    name, tile, make = chosen
    dtype = torch.float64 if dtype == torch.float64 else torch.float32
    places = geometry.rows, geometry.columns
    if geometry.num_regions > MOST_REGIONS:
        places = replace(places[0], region=None), replace(places[1], region=None)
    threads = _threads(geometry) if name == "tiled-numba" else None
    with own_threads(threads):
        rows = blocks(places[0], tile)
        columns = rows if square else blocks(places[1], tile)
        pairs = tile_pairs(rows, columns, symmetric=square)
        return Plan(
            geometry=geometry,
            config=config,
            rows=rows,
            columns=columns,
            pairs=pairs if group is None else share_of(pairs, group.rank, group.count),
            state=TileState(geometry, config, rows, columns, make, dtype, group),
            products=Products(),
            threads=threads,
            group=group,
        )


def choose(
    geometry: Geometry, config: SoftContrastiveConfig, embeddings: Tensor
) -> tuple[str, int, MakeBackend | CudaKernels]:
    """Return the implementation's name, the width of its tiles and what computes on them."""
    on_cpu = embeddings.device.type == "cpu"
    if config.implementation == "cupy":
        cupy_launch.require(embeddings.device, config.tile_precision)
    wants_kernels = config.implementation == "cupy" or (
        config.implementation in ("auto", "fused") and embeddings.device.type == "cuda"
    )
    covered = wants_kernels and CudaKernels.covers(geometry, config, embeddings)
    if covered and cupy_launch.works(embeddings.device):
        cupy_launch.require_precision(embeddings.device, config.tile_precision)
        size = max(len(geometry.rows), len(geometry.columns))
        tile = tile_width(size, DEVICE_TILE)
        return "cupy", tile, CudaKernels(cupy_launch.cupy_kernels)
    by_pair = geometry.num_regions > MOST_REGIONS
    if on_cpu and not by_pair and numba_backend.covers(geometry, config, embeddings):
        tile = min(CPU_TILE, SMALL_CPU_TILE) if _is_small(geometry) else CPU_TILE
        return "tiled-numba", tile, numba_backend.NumbaBackend
    return "tiled-torch", CPU_TILE if on_cpu else TORCH_TILE, TorchBackend


def _is_small(geometry: Geometry) -> bool:
    return max(len(geometry.rows), len(geometry.columns)) <= SMALL_BATCH


def _threads(geometry: Geometry) -> int:
    return 1 if _is_small(geometry) else cores.threads(torch.get_num_threads())
