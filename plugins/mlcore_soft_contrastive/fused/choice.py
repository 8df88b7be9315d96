"""Whether the fused kernels can run and cover a configuration; imports no Triton."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mlcore.errors import ConfigError
from mlcore.protocols import DeviceInfluenceFunction
from mlcore_soft_contrastive.config import LARGEST_EXPONENT, SoftContrastiveConfig
from mlcore_soft_contrastive.fused.influence_code import triton_source
from mlcore_soft_contrastive.geometry import Geometry

if TYPE_CHECKING:
    from mlcore_soft_contrastive.fused.evaluation import FusedEvaluation

LARGEST_DIM = 256
"""A row's gradient of more floats does not fit in the registers of its program."""
LEAST_CAPABILITY = (8, 0)
MOST_REGIONS = 64
"""Blocks of so many regions would be small, and most of a program's work idle."""


def require(device: torch.device) -> None:
    """Raise ConfigError unless the kernels can run on ``device``."""
    if importlib.util.find_spec("triton") is None:
        raise ConfigError(
            "loss: implementation 'fused' needs Triton, which torch installs on Linux only; "
            "use 'auto'"
        )
    if interpreted():
        return
    if device.type != "cuda":
        raise ConfigError(
            f"loss: implementation 'fused' needs tensors on a GPU, got {device}; move the "
            "model to a GPU, or use 'auto'"
        )
    capability = torch.cuda.get_device_capability(device)
    if capability < LEAST_CAPABILITY:
        raise ConfigError(
            f"loss: implementation 'fused' needs a GPU of compute capability 8.0 or later, got "
            f"{capability[0]}.{capability[1]}; use 'auto'"
        )


def interpreted() -> bool:
    """Return whether Triton runs kernels on the CPU, in Python; for tests."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def covers(geometry: Geometry, config: SoftContrastiveConfig, embeddings: Tensor) -> bool:
    """Return whether the kernels support this configuration, on any device."""
    return (
        embeddings.dtype != torch.float64
        and embeddings.shape[1] <= LARGEST_DIM
        and isinstance(geometry.influence, DeviceInfluenceFunction)
        and triton_source(geometry.influence.device_code()) is not None
        and config.largest_exponent <= LARGEST_EXPONENT
        and geometry.num_regions <= MOST_REGIONS
    )


def start(
    geometry: Geometry, config: SoftContrastiveConfig, *, square: bool
) -> FusedEvaluation:
    """Return an evaluation for which :func:`covers` holds."""
    from mlcore_soft_contrastive.fused.evaluation import FusedEvaluation

    return FusedEvaluation(geometry, config, square=square)
