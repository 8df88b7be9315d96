"""Launches the kernels on a GPU through CuPy, on torch's memory and in torch's stream."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import warnings
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mlcore.errors import ConfigError
from mlcore_soft_contrastive.config import TilePrecision

if TYPE_CHECKING:
    from mlcore_soft_contrastive.cuda.arguments import Structure

EXTRAS = "install mlcore with the extra 'cuda12' or 'cuda13'"

OPTIONS = ("--std=c++17", "--prec-div=false")
"""Beside what CuPy adds. A division in an influence function is then one instruction and a
multiplication, to 2 units of 2^-24; where a quotient is rounded, the kernels say so."""

CUPY_OPTIONS = ("-ftz=true", "--device-as-default-execution-space")
"""What CuPy adds: for those who compile without it."""

ROUNDED_FACTORS = (8, 0)
"""Compute capability from which on the tensor cores multiply TF32 and bfloat16."""


class Launch(Protocol):
    """Runs a kernel on tensors of one device, in that device's current stream."""

    def __call__(
        self,
        name: str,
        grid: tuple[int, int],
        block: tuple[int, int],
        *arguments: Tensor | Structure | float | None,
    ) -> None:
        """Launch ``name`` on torch's current device.

        Tensors are passed as addresses (None as null), integers as C ``int``, other numbers as
        ``double``, structures by value.
        """


def is_installed() -> bool:
    """Return whether CuPy can be imported."""
    return importlib.util.find_spec("cupy") is not None


def require(device: torch.device, precision: TilePrecision = "float32") -> None:
    """Raise ConfigError unless kernels can run on ``device``.

    Raises:
        ConfigError: CuPy is missing or does not work there, or the GPU multiplies no factors
            of this precision.
    """
    if not is_installed():
        raise ConfigError(
            f"loss: implementation 'cupy' needs CuPy, which is not installed; {EXTRAS}"
        )
    if device.type != "cuda":
        raise ConfigError(
            f"loss: implementation 'cupy' needs tensors on a GPU, got {device}; move the model "
            f"to a GPU (and {EXTRAS}), or use 'auto'"
        )
    reason = failure(device.index or 0)
    if reason is not None:
        raise ConfigError(
            f"loss: implementation 'cupy' cannot run on {device}: {reason}; {EXTRAS} that "
            "matches the driver, or use 'tiled'"
        )
    require_precision(device, precision)


def require_precision(device: torch.device, precision: TilePrecision) -> None:
    """Raise ConfigError if the GPU multiplies no factors of this precision."""
    if precision == "float32":
        return
    capability = torch.cuda.get_device_capability(device)
    if capability < ROUNDED_FACTORS:
        raise ConfigError(
            f"loss: tile_precision {precision} needs a GPU of compute capability 8.0 or later, "
            f"and {torch.cuda.get_device_name(device)} has "
            f"{'.'.join(map(str, capability))}; use float32"
        )


def works(device: torch.device) -> bool:
    """Return whether kernels can run on a GPU; if not, warn once why."""
    if not is_installed():
        warn_without_cupy()
        return False
    reason = failure(device.index or 0)
    if reason is not None:
        _warn_of(reason)
    return reason is None


def on_device(tensor: Tensor) -> AbstractContextManager[object]:
    """Return the context in which kernels on ``tensor`` are launched."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


@functools.cache
def failure(index: int) -> str | None:
    """Return why no kernel can be compiled and run on a GPU, None if one can.

    CuPy may be there without a compiler, of another CUDA than the driver, or too new for the
    GPU: running a kernel is the only test of all that.
    """
    try:
        with torch.cuda.device(index):
            number = torch.zeros(1, dtype=torch.int32, device="cuda")
            CupyKernels('extern "C" __global__ void add(int* to, int what) { *to += what; }')(
                "add", (1, 1), (1, 1), number, 7
            )
            found = int(number)
    except Exception as error:  # noqa: BLE001 - CuPy raises errors of many libraries
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None if found == 7 else f"a kernel that adds 7 to 0 returned {found}"


@functools.cache
def warn_without_cupy() -> None:
    """Warn once that the CUDA kernels need CuPy."""
    warnings.warn(
        f"the soft contrastive loss runs without its CUDA kernels, which need CuPy; {EXTRAS}",
        stacklevel=2,
    )


@functools.cache
def _warn_of(reason: str) -> None:
    warnings.warn(
        "the soft contrastive loss runs without its CUDA kernels, because CuPy does not work "
        f"here: {reason}",
        stacklevel=2,
    )


@functools.cache
def cupy_kernels(source: str) -> CupyKernels:
    """Return the kernels of a source, compiled at their first launch on each device."""
    return CupyKernels(source)


class CupyKernels:
    """Kernels of one source; see :class:`Launch`."""

    def __init__(self, source: str) -> None:
        import cupy

        self._cupy = cupy
        self._module = cupy.RawModule(code=source, options=OPTIONS)
        self._functions: dict[tuple[str, int], Any] = {}
        self._streams: dict[tuple[int, int], Any] = {}

    def __call__(
        self,
        name: str,
        grid: tuple[int, int],
        block: tuple[int, int],
        *arguments: Tensor | Structure | float | None,
    ) -> None:
        index = torch.cuda.current_device()
        passed = tuple(map(as_scalar, arguments))
        self._function(name, index)(grid, block, passed, stream=self._stream(index))

    def _function(self, name: str, index: int) -> Any:
        """Return a kernel of the device; looking one up takes as long as launching it."""
        key = name, index
        if key not in self._functions:
            with self._cupy.cuda.Device(index):
                self._functions[key] = self._module.get_function(name).kernel
        return self._functions[key]

    def _stream(self, index: int) -> Any:
        key = torch.cuda.current_stream(index).cuda_stream, index
        if key not in self._streams:
            self._streams[key] = self._cupy.cuda.ExternalStream(*key)
        return self._streams[key]


_NULL = np.uint64(0)


def as_scalar(argument: Any) -> Any:
    """Return what CuPy passes on byte for byte; of integers first, as most are."""
    if isinstance(argument, int):
        return np.int32(argument)
    if argument is None:
        return _NULL
    if isinstance(argument, ctypes.Structure):
        return argument.scalar
    if isinstance(argument, float):
        return np.float64(argument)
    # Not asked whether it is one: of other types, that takes torch a Python function.
    assert argument.is_contiguous()
    return np.uint64(argument.data_ptr())
