"""Launches the kernels on a GPU through CuPy, on torch's memory and in torch's stream."""

from __future__ import annotations

import functools
import importlib.util
import warnings

import numpy as np
import torch
from torch import Tensor

from mlcore.errors import ConfigError

EXTRAS = "install mlcore with the extra 'cuda12' or 'cuda13'"


def is_installed() -> bool:
    """Return whether CuPy can be imported."""
    return importlib.util.find_spec("cupy") is not None


def require(device: torch.device) -> None:
    """Raise ConfigError unless kernels can run on ``device``."""
    if not is_installed():
        raise ConfigError(
            f"loss: implementation 'cupy' needs CuPy, which is not installed; {EXTRAS}"
        )
    if device.type != "cuda":
        raise ConfigError(
            f"loss: implementation 'cupy' needs tensors on a GPU, got {device}; move the model "
            f"to a GPU (and {EXTRAS}), or use 'auto'"
        )


@functools.cache
def warn_without_cupy() -> None:
    """Warn once that the CUDA kernels need CuPy."""
    warnings.warn(
        f"the soft contrastive loss runs without its CUDA kernels, which need CuPy; {EXTRAS}",
        stacklevel=2,
    )


@functools.cache
def cupy_kernels(source: str) -> CupyKernels:
    """Return the kernels of a source, compiled at their first launch on each device."""
    return CupyKernels(source)


class CupyKernels:
    """Kernels of one source; see :class:`mlcore_soft_contrastive.tiled.cupy_backend.Launch`."""

    def __init__(self, source: str) -> None:
        import cupy

        self._cupy = cupy
        self._module = cupy.RawModule(code=source, options=("--std=c++17",))

    def __call__(
        self,
        name: str,
        grid: tuple[int, int],
        block: tuple[int, int],
        *arguments: Tensor | int,
    ) -> None:
        index = next(a.device.index for a in arguments if isinstance(a, Tensor))
        stream = torch.cuda.current_stream(index).cuda_stream
        cuda = self._cupy.cuda
        with cuda.Device(index), cuda.ExternalStream(stream, index):
            self._module.get_function(name)(grid, block, tuple(map(_as_scalar, arguments)))


def _as_scalar(argument: Tensor | int) -> np.uint64 | np.int32:
    """Return what CuPy passes on byte for byte: an address, or a C ``int``."""
    if isinstance(argument, Tensor):
        assert argument.is_contiguous()
        return np.uint64(argument.data_ptr())
    return np.int32(argument)
