"""Checks of what callers hand in."""

from __future__ import annotations

import torch
from torch import Tensor

from mlcore.errors import DataError
from mlcore.protocols import InfluenceFunction
from mlcore_soft_contrastive.geometry import Geometry, Places


def checked_geometry(
    embeddings: Tensor,
    positions_m: Tensor,
    headings_rad: Tensor | None,
    references: Tensor | None = None,
    reference_positions_m: Tensor | None = None,
    reference_headings_rad: Tensor | None = None,
    self_index: Tensor | None = None,
    *,
    influence: InfluenceFunction,
    heading_limit_rad: float | None,
) -> Geometry:
    """Return the geometry of the arguments of ``soft_contrastive_loss``, checked.

    Raises:
        DataError: A position or heading is not finite; names the rows.
        ValueError: Shapes, dtypes, devices or the combination of arguments do not match.
    """
    if heading_limit_rad is not None and headings_rad is None:
        raise ValueError("heading_limit_rad needs headings_rad")
    rows = _places("", embeddings, positions_m, headings_rad)
    if references is None:
        if not (reference_positions_m is reference_headings_rad is self_index is None):
            raise ValueError(
                "reference_positions_m, reference_headings_rad and self_index need references"
            )
        columns = rows
        numbers = torch.arange(len(rows), device=embeddings.device)
        return Geometry(
            rows=rows,
            columns=columns,
            self_index=numbers,
            influence=influence,
            heading_limit_rad=heading_limit_rad,
        )
    if reference_positions_m is None:
        raise ValueError("references need reference_positions_m")
    if heading_limit_rad is not None and reference_headings_rad is None:
        raise ValueError("heading_limit_rad needs reference_headings_rad beside references")
    columns = _places("reference_", references, reference_positions_m, reference_headings_rad)
    _check_pairing(embeddings, references, rows, columns)
    return Geometry(
        rows=rows,
        columns=columns,
        self_index=_checked_self_index(self_index, rows, columns),
        influence=influence,
        heading_limit_rad=heading_limit_rad,
    )


def require_finite_embeddings(name: str, embeddings: Tensor) -> None:
    """Raise DataError naming the rows of ``embeddings`` that hold a NaN or an infinity."""
    if embeddings.numel() == 0:
        return
    # No temporary of the size of the embeddings, which isfinite needs.
    norms = torch.linalg.vector_norm(embeddings.detach(), dim=1)
    if not torch.isfinite(norms).all():
        _require_finite_rows(name, embeddings)


def _places(
    name: str, embeddings: Tensor, positions_m: Tensor, headings_rad: Tensor | None
) -> Places:
    if embeddings.dim() != 2 or not embeddings.is_floating_point():
        what = "references" if name else "embeddings"
        raise ValueError(
            f"{what} must be (N, D) and floating point, got {tuple(embeddings.shape)} "
            f"{embeddings.dtype}"
        )
    size, shape = embeddings.shape[0], tuple(positions_m.shape)
    if positions_m.dim() != 2 or shape[1] not in (2, 3):
        raise ValueError(f"{name}positions_m must be (N, 2) or (N, 3), got {shape}")
    if shape[0] != size:
        raise ValueError(f"{name}positions_m has {shape[0]} rows, the embeddings have {size}")
    if headings_rad is not None and tuple(headings_rad.shape) != (size,):
        raise ValueError(
            f"{name}headings_rad must be ({size},), got {tuple(headings_rad.shape)}"
        )
    return Places(
        _finite_float64(f"{name}positions_m", positions_m, embeddings.device),
        None
        if headings_rad is None
        else _finite_float64(f"{name}headings_rad", headings_rad, embeddings.device),
    )


def _finite_float64(name: str, values: Tensor, device: torch.device) -> Tensor:
    if values.device != device:
        raise ValueError(f"{name} is on {values.device}, the embeddings are on {device}")
    _require_finite_rows(name, values)
    return values.detach().double()


def _require_finite_rows(name: str, values: Tensor) -> None:
    """Raise DataError naming the rows of ``values`` that hold a NaN or an infinity."""
    if torch.isfinite(values).all():
        return
    finite = torch.isfinite(values.reshape(len(values), -1)).all(dim=1)
    rows = torch.nonzero(~finite)[:, 0].tolist()
    listed = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
    raise DataError(f"{name} is not finite in {len(rows)} of {len(values)} rows: {listed}")


def _check_pairing(
    embeddings: Tensor, references: Tensor, rows: Places, columns: Places
) -> None:
    """Raise ValueError unless embeddings and references can be compared."""
    if references.device != embeddings.device:
        raise ValueError(
            f"references are on {references.device}, the embeddings on {embeddings.device}"
        )
    if references.dtype != embeddings.dtype:
        raise ValueError(
            f"references are {references.dtype}, the embeddings {embeddings.dtype}"
        )
    if references.shape[1] != embeddings.shape[1]:
        raise ValueError(
            f"references have {references.shape[1]} dimensions, "
            f"the embeddings {embeddings.shape[1]}"
        )
    if columns.positions_m.shape[1] != rows.positions_m.shape[1]:
        raise ValueError(
            f"reference_positions_m has {columns.positions_m.shape[1]} coordinates, "
            f"positions_m {rows.positions_m.shape[1]}"
        )


def _checked_self_index(self_index: Tensor | None, rows: Places, columns: Places) -> Tensor:
    if self_index is None:
        return torch.full((len(rows),), -1, device=rows.positions_m.device)
    if tuple(self_index.shape) != (len(rows),) or self_index.dtype != torch.int64:
        raise ValueError(
            f"self_index must be ({len(rows)},) int64, got {tuple(self_index.shape)} "
            f"{self_index.dtype}"
        )
    if self_index.device != rows.positions_m.device:
        raise ValueError(
            f"self_index is on {self_index.device}, the embeddings on {rows.positions_m.device}"
        )
    outside = (self_index < -1) | (self_index >= len(columns))
    if outside.any():
        raise ValueError(
            f"self_index must be in [-1, {len(columns)}), got {self_index[outside][0].item()}"
        )
    return self_index
