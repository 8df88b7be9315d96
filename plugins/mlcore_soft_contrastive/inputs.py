"""Checks of the arguments of the loss."""

from __future__ import annotations

import math
import warnings
from dataclasses import replace
from numbers import Real

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from mlcore.errors import ConfigError, DataError
from mlcore.geometry import require_headings
from mlcore.protocols import InfluenceFunction
from mlcore_soft_contrastive.geometry import Geometry, Places


class NotFiniteError(DataError, ValueError):
    """A number that is NaN or infinite; a ``ValueError`` too, as all of a call's errors are."""


def checked_geometry(
    embeddings: Tensor,
    positions_m: ArrayLike,
    headings_rad: ArrayLike | None,
    references: Tensor | None = None,
    reference_positions_m: ArrayLike | None = None,
    reference_headings_rad: ArrayLike | None = None,
    self_index: ArrayLike | None = None,
    *,
    region: ArrayLike | None = None,
    reference_region: ArrayLike | None = None,
    influence: InfluenceFunction,
    heading_limit_rad: float | None,
) -> Geometry:
    """Return the geometry of the arguments of ``soft_contrastive_loss``, checked.

    Positions, headings and ``self_index`` may be anything that ``torch.as_tensor`` takes.

    Raises:
        ConfigError: ``influence`` is no influence function, or needs headings.
        DataError: A position or heading is not finite; names the rows.
        TypeError: Embeddings are no tensor, or positions are nothing like numbers.
        ValueError: Shapes, dtypes, devices or the combination of arguments do not match.
    """
    _require_influence_function(influence)
    others_have = references is None or reference_headings_rad is not None
    require_headings(influence, has_headings=headings_rad is not None and others_have)
    if heading_limit_rad is not None and headings_rad is None:
        raise ValueError("heading_limit_rad needs headings_rad")
    rows = _places("", embeddings, positions_m, headings_rad, region)
    if references is None:
        others = reference_positions_m, reference_headings_rad, reference_region, self_index
        if any(other is not None for other in others):
            raise ValueError(
                "reference_positions_m, reference_headings_rad, reference_region and "
                "self_index need references"
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
    if (region is None) != (reference_region is None):
        raise ValueError("region and reference_region must be given together, or neither")
    columns = _places(
        "reference_",
        references,
        reference_positions_m,
        reference_headings_rad,
        reference_region,
    )
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
    # No temporary of the size of the embeddings, which isfinite needs; and one operation where
    # it takes five. Norms are not negative, so that nothing is cancelled.
    norms = torch.linalg.vector_norm(embeddings.detach(), dim=1)
    if not math.isfinite(norms.sum(dtype=torch.float64)):
        _require_finite_rows(name, embeddings)


def _require_influence_function(influence: object) -> None:
    """Raise ConfigError unless ``influence`` is a function with its support."""
    instance = callable(influence) and not isinstance(influence, type)
    names = ("support_m", "repulsion_start_m")
    if instance and all(isinstance(getattr(influence, n, None), Real) for n in names):
        return
    raise ConfigError(
        f"loss: influence must be an influence function, such as Sigmoid(cutoff_m=15.0), got "
        f"{influence!r}; a function of your own needs support_m and repulsion_start_m "
        "(see mlcore.protocols.InfluenceFunction)"
    )


def _places(
    name: str,
    embeddings: Tensor,
    positions_m: ArrayLike,
    headings_rad: ArrayLike | None,
    region: ArrayLike | None,
) -> Places:
    what = "references" if name else "embeddings"
    if not isinstance(embeddings, Tensor):
        raise TypeError(
            f"{what} must be a torch tensor, got {type(embeddings).__name__}; "
            "torch.as_tensor converts it"
        )
    if embeddings.dim() != 2 or not embeddings.is_floating_point():
        raise ValueError(
            f"{what} must be (N, D) and floating point, got {tuple(embeddings.shape)} "
            f"{embeddings.dtype}"
        )
    if embeddings.layout != torch.strided:
        raise ValueError(f"{what} must be dense, got {embeddings.layout}; call .to_dense()")
    positions = _tensor(f"{name}positions_m", positions_m, embeddings.device)
    size, shape = embeddings.shape[0], tuple(positions.shape)
    if positions.dim() != 2 or shape[1] not in (2, 3):
        raise ValueError(f"{name}positions_m must be (N, 2) or (N, 3), got {shape}")
    if shape[0] != size:
        raise ValueError(f"{name}positions_m has {shape[0]} rows, the {what} have {size}")
    _warn_of_suspicious(f"{name}positions_m", positions)
    places = Places(_finite_float64(f"{name}positions_m", positions), None)
    if headings_rad is not None:
        headings = _column(f"{name}headings_rad", headings_rad, embeddings)
        places = replace(places, headings_rad=_finite_float64(f"{name}headings_rad", headings))
    if region is not None:
        codes = _column(f"{name}region", region, embeddings)
        if codes.is_floating_point():
            raise ValueError(f"{name}region must be integer codes, got {codes.dtype}")
        places = replace(places, region=codes.long())
    return places


def _column(name: str, values: ArrayLike, embeddings: Tensor) -> Tensor:
    """Return one number per embedding."""
    column = _tensor(name, values, embeddings.device)
    if tuple(column.shape) != (len(embeddings),):
        raise ValueError(f"{name} must be ({len(embeddings)},), got {tuple(column.shape)}")
    return column


def _tensor(name: str, values: ArrayLike, device: torch.device) -> Tensor:
    """Return ``values`` as they are, if a tensor, else as a tensor on ``device``."""
    if not isinstance(values, Tensor):
        try:
            # Through NumPy, which keeps Python's floats float64.
            return torch.tensor(np.asarray(values), device=device)
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"{name} must be a tensor or an array of numbers: {error}"
            ) from None
    if values.device != device:
        raise ValueError(f"{name} is on {values.device}, the embeddings are on {device}")
    return values


def _finite_float64(name: str, values: Tensor) -> Tensor:
    _require_finite_rows(name, values)
    return values.detach().double()


COARSEST_M = 0.01
"""Positions whose floating-point spacing is coarser get a warning."""


def _warn_of_suspicious(name: str, positions: Tensor) -> None:
    """Warn of positions too coarse for their size, and of what looks like degrees.

    Degrees of latitude and longitude: several images, all within a hundredth of a metre to a
    metre, far from the origin compared with that, and within the range of degrees. A local
    metric frame looks like this only if it begins elsewhere and the images share one place.
    """
    if len(positions) < 2 or positions.device.type == "meta":
        return
    # As Python's numbers, brought from the device once: they are few.
    lower, upper = torch.stack(torch.aminmax(positions.detach(), dim=0)).double().tolist()
    extent = [above - below for below, above in zip(lower, upper, strict=True)]
    largest = [max(-below, above) for below, above in zip(lower, upper, strict=True)]
    if not all(map(math.isfinite, extent)):
        return  # named soon
    if positions.is_floating_point():
        spacing = max(largest) * torch.finfo(positions.dtype).eps
        if spacing > COARSEST_M:
            warnings.warn(
                f"{name} are {positions.dtype} and as large as {max(largest):.0f} m: "
                f"their resolution is {spacing:.2g} m; pass float64 positions, or subtract an "
                "origin before the conversion",
                stacklevel=2,
            )
    plane, spread = largest[:2], extent[:2]
    in_range = max(plane) <= 180.0 and min(plane) <= 90.0
    # One of them may be constant: a walk along a parallel or a meridian.
    far = all(
        across < min(1.0, away / 10.0) for across, away in zip(spread, plane, strict=True)
    )
    if in_range and far and max(spread) > 1e-5:
        warnings.warn(
            f"{name} look like degrees of latitude and longitude: all {len(positions)} images "
            f"within {max(spread):.2g} of each other around "
            f"({lower[0]:.5g}, {lower[1]:.5g}); convert them to metres, such as UTM, first",
            stacklevel=2,
        )


def _require_finite_rows(name: str, values: Tensor) -> None:
    """Raise DataError naming the rows of ``values`` that hold a NaN or an infinity."""
    if torch.isfinite(values).all():
        return
    finite = torch.isfinite(values.reshape(len(values), -1)).all(dim=1)
    rows = torch.nonzero(~finite)[:, 0].tolist()
    listed = ", ".join(map(str, rows[:10])) + (", ..." if len(rows) > 10 else "")
    raise NotFiniteError(f"{name} is not finite in {len(rows)} of {len(values)} rows: {listed}")


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


def _checked_self_index(self_index: ArrayLike | None, rows: Places, columns: Places) -> Tensor:
    if self_index is None:
        return torch.full((len(rows),), -1, device=rows.positions_m.device)
    index = _tensor("self_index", self_index, rows.positions_m.device)
    if tuple(index.shape) != (len(rows),) or index.dtype != torch.int64:
        raise ValueError(
            f"self_index must be ({len(rows)},) int64, got {tuple(index.shape)} {index.dtype}"
        )
    outside = (index < -1) | (index >= len(columns))
    if outside.any():
        raise ValueError(
            f"self_index must be in [-1, {len(columns)}), got {index[outside][0].item()}"
        )
    return index
