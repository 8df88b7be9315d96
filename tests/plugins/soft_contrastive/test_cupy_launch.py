"""The thin module that launches kernels, as far as it goes without a GPU."""

from __future__ import annotations

import contextlib
import types
from typing import Any

import numpy as np
import pytest
import torch

from mlcore import ConfigError
from mlcore_soft_contrastive import (
    Sigmoid,
    SoftContrastiveConfig,
    dispatch,
    soft_contrastive_loss,
)
from mlcore_soft_contrastive.inputs import checked_geometry
from mlcore_soft_contrastive.tiled import cupy_launch


def test_asked_for_with_tensors_on_the_cpu() -> None:
    pytest.importorskip("cupy", reason="CuPy is not installed")
    with pytest.raises(ConfigError, match=r"needs tensors on a GPU, got cpu.*'cuda12'"):
        soft_contrastive_loss(torch.ones(3, 2), torch.zeros(3, 2), implementation="cupy")


def test_asked_for_without_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cupy_launch, "is_installed", lambda: False)
    with pytest.raises(
        ConfigError, match=r"needs CuPy, which is not installed; install.*'cuda12' or 'cuda13'"
    ):
        soft_contrastive_loss(torch.ones(3, 2), torch.zeros(3, 2), implementation="cupy")


def _choose(embeddings: Any, **options: Any) -> str:
    on_cpu = torch.zeros(3, 2, dtype=embeddings.dtype)
    geometry = checked_geometry(
        on_cpu, torch.zeros(3, 2), None, influence=Sigmoid(), heading_limit_rad=None
    )
    return dispatch.choose(geometry, SoftContrastiveConfig(**options), embeddings)[0]


def _gpu_tensor(dtype: torch.dtype) -> Any:
    return types.SimpleNamespace(device=torch.device("cuda", 0), dtype=dtype)


def test_auto_on_a_gpu_without_cupy_warns_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cupy_launch, "is_installed", lambda: False)
    cupy_launch.warn_without_cupy.cache_clear()
    with pytest.warns(UserWarning, match="'cuda12' or 'cuda13'"):
        assert _choose(_gpu_tensor(torch.float32)) == "tiled-torch"
    assert _choose(_gpu_tensor(torch.float32)) == "tiled-torch"


def test_auto_on_a_gpu_with_cupy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cupy_launch, "is_installed", lambda: True)
    monkeypatch.setattr(cupy_launch, "cupy_kernels", lambda source: source)
    assert _choose(_gpu_tensor(torch.float32)) == "cupy"
    assert _choose(_gpu_tensor(torch.bfloat16)) == "cupy"
    # What the kernels do not cover is named by what takes its place.
    assert _choose(_gpu_tensor(torch.float64)) == "tiled-torch"
    assert _choose(_gpu_tensor(torch.float32), base=0.0, beta=500.0) == "tiled-torch"
    assert _choose(_gpu_tensor(torch.float32), implementation="tiled") == "tiled-torch"


def test_launch_passes_addresses_and_ints(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    calls: list[tuple[Any, ...]] = []
    streams: list[tuple[int, int]] = []

    class Module:
        def __init__(self, code: str, options: tuple[str, ...]) -> None:
            assert code == "source"

        def get_function(self, name: str) -> Any:
            return lambda grid, block, arguments: calls.append((name, grid, block, arguments))

    def external_stream(pointer: int, device: int) -> Any:
        streams.append((pointer, device))
        return contextlib.nullcontext()

    monkeypatch.setattr(cupy, "RawModule", Module)
    monkeypatch.setattr(cupy.cuda, "Device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(cupy.cuda, "ExternalStream", external_stream)
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda _: types.SimpleNamespace(cuda_stream=77)
    )
    tensor = torch.zeros(3)
    cupy_launch.CupyKernels("source")("sums", (1, 2), (32, 8), tensor, 5)
    ((name, grid, block, (address, number)),) = calls
    assert (name, grid, block) == ("sums", (1, 2), (32, 8))
    assert isinstance(address, np.uint64)
    assert address == tensor.data_ptr()
    assert isinstance(number, np.int32)
    assert number == 5
    assert streams == [(77, None)]
