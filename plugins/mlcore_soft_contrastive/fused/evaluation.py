"""One evaluation of the loss in fused kernels: passes over strips of rows.

The same state, sums and bounds as of the tiled walk (``tiled.state``, ``tiled.walk``), in
blocks of 128 images. Mining needs two more passes over near blocks; far blocks are visited once
forward and, where they change a digit of the gradient, once backward. The kernels decide which
blocks those are; nothing here waits for the GPU.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor

from mlcore.geometry import takes_headings
from mlcore.protocols import DeviceInfluenceFunction
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.fused import kernels, tuning
from mlcore_soft_contrastive.fused.influence_code import triton_function, triton_source
from mlcore_soft_contrastive.fused.layout import BLOCK, CurveBlocks, Strip, curve_blocks
from mlcore_soft_contrastive.fused.sides import rule_arguments, side_arguments
from mlcore_soft_contrastive.geometry import Geometry
from mlcore_soft_contrastive.tiled.layout import TilePair
from mlcore_soft_contrastive.tiled.state import Backend, Side, Step, TileState
from mlcore_soft_contrastive.tiled.unit_rows import UnitRows
from mlcore_soft_contrastive.tiled.walk import SHORTEST_SHARE, unsorted

Pass = Literal["most_attracting", "mining_extrema", "far", "sums"]
Form = Literal["square", "rows", "columns"]

CHUNK = 16
"""Blocks of columns that a program sums over: few partial sums, and programs for every SM."""
SPLITS = 4
"""Programs that share the columns of one block of rows in backward."""
_NO_LIMIT = -0.5
"""Below every similarity of a kept pair, and above the -1 of a block without one."""


class FusedEvaluation:
    """See :class:`mlcore_soft_contrastive.autograd.Evaluation`.

    Args:
        geometry: Where the images are.
        config: The formula's options.
        square: Whether the embeddings are compared with each other.
    """

    def __init__(
        self, geometry: Geometry, config: SoftContrastiveConfig, *, square: bool
    ) -> None:
        self._geometry, self._config = geometry, config
        self._row_blocks = curve_blocks(geometry.rows)
        self._column_blocks = self._row_blocks if square else curve_blocks(geometry.columns)
        self._state = TileState(
            geometry, config, self._row_blocks, self._column_blocks, self._take, torch.float32
        )
        self._square = square

    def _take(
        self, geometry: Geometry, config: SoftContrastiveConfig, rows: Side, columns: Side
    ) -> Backend:
        """Keep the state of the images, for whole strips; no tile is computed alone."""
        self._row_side, self._column_side = rows, columns
        return _no_single_tile

    def forward(self, embeddings: Tensor, references: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the terms of each row, ``(B,)`` each, in the order of the batch."""
        self._x = UnitRows.of(embeddings, self._row_blocks)
        self._y = self._x
        if references is not None:
            self._y = UnitRows.of(references, self._column_blocks)
        self._prepare()
        state, config = self._state, self._config
        if config.mining:
            self._reduce("most_attracting")
            self._reduce("mining_extrema")
        state.start_sums()
        self._reduce("far")
        self._reduce("sums")
        attraction, repulsion = (terms.float() for terms in state.terms())
        return (
            unsorted(attraction, self._row_blocks),
            unsorted(repulsion, self._row_blocks),
        )

    def backward(
        self, attraction: Tensor, repulsion: Tensor, *, needs_columns: bool
    ) -> tuple[Tensor, Tensor | None]:
        """Return the gradients by embeddings and references, given those by the terms."""
        order = self._row_blocks.order
        attraction, repulsion = (g.double()[order] for g in (attraction, repulsion))
        self._state.start_gradient(attraction, repulsion)
        forms: list[Form] = ["square"] if self._square else ["rows"]
        if needs_columns and not self._square:
            forms.append("columns")
        gradients = [torch.empty_like(self._side_of(form)[0].values) for form in forms]
        for form, gradient in zip(forms, gradients, strict=True):
            self._add_gradient(form, gradient, far=False)
        self._limit_far(repulsion.abs().amax(), gradients)
        for form, gradient in zip(forms, gradients, strict=True):
            self._add_gradient(form, gradient, far=True)
        by_x, *others = gradients
        by_y = others[0] if others else None
        with torch.autocast(by_x.device.type, enabled=False):
            return (
                self._x.chain(by_x),
                None if by_y is None else self._y.chain(by_y),
            )

    def _prepare(self) -> None:
        """Make what every launch is given."""
        geometry, config, own = self._geometry, self._config, self._row_side.own
        units = [unit.values for unit in (self._x, self._y)]
        if config.tile_precision == "bfloat16":
            units = [unit.bfloat16() for unit in units]
        self._rows = side_arguments(self._row_side, own, self._row_blocks, units[0], geometry)
        self._columns = self._rows
        if not self._square:
            self._columns = side_arguments(
                self._column_side, own, self._column_blocks, units[1], geometry
            )
        self._rule = rule_arguments(geometry, config, own.device)
        self._largest = torch.full(
            (self._rows.blocks, self._columns.blocks), -1.0, device=own.device
        )
        influence = geometry.influence
        assert isinstance(influence, DeviceInfluenceFunction)
        source = triton_source(influence.device_code())
        assert source is not None
        self._constants: dict[str, Any] = {
            "INFLUENCE": triton_function(source),
            "AXES": geometry.rows.positions_m.shape[1],
            "TURNS": _turns(geometry),
            "MINING": config.mining,
            "PLAIN": config.aggregation == "plain",
            "PRECISION": tuning.INPUT_PRECISION[config.tile_precision],
            "D": self._x.values.shape[1],
        }

    def _reduce(self, step: Pass) -> None:
        """Run a step over all strips and take what it found into the state."""
        for strip in self._row_blocks.strips:
            by_row, by_column = self._launch_reduce(step, strip)
            self._absorb(step, self._row_side, strip.rows, by_row)
            if self._square:
                self._absorb(step, self._row_side, slice(None), by_column)

    def _launch_reduce(self, step: Pass, strip: Strip) -> tuple[Tensor, Tensor]:
        rows, columns = self._rows, self._columns
        chunks = -(-columns.blocks // CHUNK)
        num_rows = strip.rows.stop - strip.rows.start
        by_row = self._largest.new_empty(chunks, 2, num_rows)
        mirrored = strip.blocks if self._square else 0
        by_column = self._largest.new_zeros(mirrored, 2, columns.size)
        with _device_of(by_row):
            kernels.reduce_strip[strip.blocks, chunks](
                rows,
                columns,
                self._rule,
                by_row,
                by_column,
                self._largest,
                strip.first,
                strip.rows.start,
                num_rows,
                CHUNK=CHUNK,
                STEP=step,
                FORM="square" if self._square else "rows",
                **self._constants,
                **tuning.reduce_options(self._constants["TURNS"], self._config.tile_precision),
            )
        return by_row, by_column

    def _absorb(self, step: Pass, side: Side, rows: slice, found: Tensor) -> None:
        """Take partial results ``(parts, 2, rows)`` into the state, in a fixed order."""
        if step == "sums":
            side.sums[:, rows] += found.sum(dim=0, dtype=torch.float64)
            return
        one, two = found[:, 0].amax(dim=0), found[:, 1]
        if step == "most_attracting":
            _raise(side.attraction[rows], one)
        elif step == "mining_extrema":
            _raise(side.below[rows], one)
            _raise(side.above[rows], two.amax(dim=0))
        else:
            if self._config.mining:
                _raise(side.below[rows], (one.double() + self._config.epsilon).float())
            side.sums[1, rows] += two.sum(dim=0, dtype=torch.float64)

    def _side_of(self, form: Form) -> tuple[UnitRows, CurveBlocks]:
        if form == "columns":
            return self._y, self._column_blocks
        return self._x, self._row_blocks

    def _add_gradient(self, form: Form, gradient: Tensor, *, far: bool) -> None:
        """Write the part of near blocks, or add that of far ones."""
        rows, columns = self._rows, self._columns
        if form == "columns":
            rows, columns = columns, rows
        for strip in self._side_of(form)[1].strips:
            num_rows = strip.rows.stop - strip.rows.start
            parts = gradient.new_empty(SPLITS, num_rows, gradient.shape[1])
            options = tuning.gradient_options(gradient.shape[1], self._constants["TURNS"])
            with _device_of(gradient):
                kernels.gradient_strip[strip.blocks * (BLOCK // options["BM"]), SPLITS](
                    rows,
                    columns,
                    self._rule,
                    self._largest,
                    parts,
                    strip.first,
                    strip.rows.start,
                    num_rows,
                    SPLITS=SPLITS,
                    FAR=far,
                    FORM=form,
                    **self._constants,
                    **options,
                )
            total = parts.sum(dim=0)
            gradient[strip.rows] = gradient[strip.rows] + total if far else total

    def _limit_far(self, steepest: Tensor, gradients: list[Tensor]) -> None:
        """Set from which similarity on far blocks change a digit of the near ones' gradient.

        As of ``tiled.walk.Walk``: a far pair's gradient is at most
        ``2 steepest e^(beta (s - base))``, a row has at most ``count`` of them, and together
        they shall stay below half a unit in the last place of the row's gradient. Solved for s.
        """
        config = self._config
        count = max(self._rows.size, self._columns.size)
        limits: list[Tensor] = []
        for gradient, (unit, blocks) in zip(
            gradients,
            ((self._x, self._row_blocks), (self._y, self._column_blocks)),
            strict=False,
        ):
            if config.aggregation == "plain":
                limits.append(gradient.new_full((len(blocks.first),), _NO_LIMIT))
                continue
            digit = torch.finfo(gradient.dtype).eps / 2
            share = digit * _shortest(gradient, unit.values, blocks) / (2 * count * steepest)
            limit = config.base + share.log() / config.beta
            limits.append(limit.clamp_(min=_NO_LIMIT).float())
        if len(limits) == 1:  # columns that nobody differentiates set no limit of their own
            infinite = limits[0].new_full((self._columns.blocks,), math.inf)
            limits.append(limits[0] if self._square else infinite)
        self._rows = self._rows._replace(limit=limits[0])
        self._columns = self._columns._replace(limit=limits[1])


def _shortest(gradient: Tensor, unit: Tensor, blocks: CurveBlocks) -> Tensor:
    """Return the least length across ``unit`` of each block's gradients, float64.

    Never less than :data:`SHORTEST_SHARE` of the root mean square over all rows.
    """
    along = (gradient * unit).sum(dim=1, keepdim=True)
    lengths = torch.linalg.vector_norm(gradient - along * unit, dim=1).double()
    lengths = torch.maximum(lengths, SHORTEST_SHARE * lengths.square().mean().sqrt())
    most = lengths.new_full((len(blocks.first),), math.inf)
    return most.scatter_reduce(0, blocks.of_row, lengths, "amin")


def _turns(geometry: Geometry) -> str:
    """Return what the kernels compare headings for."""
    influence = takes_headings(geometry.influence) and geometry.influence_turns
    if geometry.heading_limit_rad is None:
        return "influence" if influence else "none"
    return "both" if influence else "limit"


def _no_single_tile(step: Step, tile: Tensor, pair: TilePair) -> None:
    del step, tile, pair
    raise AssertionError("fused kernels visit strips, never a tile alone")


def _device_of(tensor: Tensor) -> AbstractContextManager[object]:
    """Launches go to the current device, whatever their tensors'."""
    if tensor.device.type != "cuda":
        return nullcontext()
    return torch.cuda.device(tensor.device)


def _raise(values: Tensor, found: Tensor) -> None:
    torch.maximum(values, found, out=values)
