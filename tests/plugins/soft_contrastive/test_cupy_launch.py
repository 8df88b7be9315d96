"""The thin module that launches kernels, as far as it goes without a GPU."""

from __future__ import annotations

import contextlib
import types
import warnings
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
from mlcore_soft_contrastive.cuda.arguments import PlacesWords
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
    monkeypatch.setattr(cupy_launch, "works", lambda _: True)
    assert _choose(_gpu_tensor(torch.float32)) == "cupy"
    assert _choose(_gpu_tensor(torch.bfloat16)) == "cupy"
    # What the kernels do not cover is named by what takes its place.
    assert _choose(_gpu_tensor(torch.float64)) == "tiled-torch"
    assert _choose(_gpu_tensor(torch.float32), base=0.0, beta=500.0) == "tiled-torch"
    assert _choose(_gpu_tensor(torch.float32), implementation="tiled") == "tiled-torch"


def test_launch_passes_addresses_and_ints(monkeypatch: pytest.MonkeyPatch) -> None:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    calls: list[tuple[Any, ...]] = []
    looked_up: list[str] = []

    class Module:
        def __init__(self, code: str, options: tuple[str, ...]) -> None:
            assert (code, options) == ("source", cupy_launch.OPTIONS)

        def get_function(self, name: str) -> Any:
            looked_up.append(name)

            def kernel(grid: Any, block: Any, arguments: Any, *, stream: Any) -> None:
                calls.append((name, grid, block, arguments, stream))

            return types.SimpleNamespace(kernel=kernel)

    def external_stream(pointer: int, device: int) -> tuple[int, int]:
        return pointer, device

    monkeypatch.setattr(cupy, "RawModule", Module)
    monkeypatch.setattr(cupy.cuda, "Device", lambda _: contextlib.nullcontext())
    monkeypatch.setattr(cupy.cuda, "ExternalStream", external_stream)
    monkeypatch.setattr(
        torch.cuda, "current_stream", lambda _: types.SimpleNamespace(cuda_stream=77)
    )
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    tensor = torch.zeros(3)
    words = PlacesWords(size=11)
    kernels = cupy_launch.CupyKernels("source")
    for _ in range(2):
        kernels("sums", (1, 2), (32, 8), tensor, 5, 0.25, None, words)
    assert looked_up == ["sums"]
    assert len(calls) == 2
    name, grid, block, (address, number, real, null, structure), stream = calls[1]
    assert (name, grid, block, stream) == ("sums", (1, 2), (32, 8), (77, 1))
    assert isinstance(address, np.uint64)
    assert address == tensor.data_ptr()
    assert isinstance(number, np.int32)
    assert number == 5
    assert isinstance(real, np.float64)
    assert real == 0.25
    assert isinstance(null, np.uint64)
    assert null == 0
    # CuPy passes an array of one element by value.
    assert structure.size == 1
    assert structure.tobytes() == bytes(words)


def test_cupy_that_does_not_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Present, but without a GPU here: auto falls back and says so once; 'cupy' refuses."""
    pytest.importorskip("cupy", reason="CuPy is not installed")
    if torch.cuda.is_available():
        pytest.skip("CuPy works here")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(2):
            assert _choose(_gpu_tensor(torch.float32)) == "tiled-torch"
    assert len(caught) == 1
    assert "CuPy does not work here: " in str(caught[0].message)
    with pytest.raises(ConfigError, match="'cupy' cannot run on cuda:0: "):
        _choose(_gpu_tensor(torch.float32), implementation="cupy")


def test_a_kernel_that_computes_something_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cupy_launch, "CupyKernels", lambda _: lambda *_: None)
    monkeypatch.setattr(torch.cuda, "device", lambda _: contextlib.nullcontext())
    plain = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, dtype, **_: plain(*size, dtype=dtype))
    assert cupy_launch.failure.__wrapped__(0) == "a kernel that adds 7 to 0 returned 0"


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
@pytest.mark.parametrize("implementation", ["auto", "cupy"])
def test_rounded_factors_need_a_gpu_that_has_them(
    precision: Any, implementation: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cupy_launch, "is_installed", lambda: True)
    monkeypatch.setattr(cupy_launch, "failure", lambda _: None)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "Quadro RTX 4000")
    options = {"tile_precision": precision, "implementation": implementation}
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(ConfigError, match=r"needs .* 8\.0 or later, and Quadro .* has 7\.5"):
        _choose(_gpu_tensor(torch.float32), **options)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))
    assert _choose(_gpu_tensor(torch.float32), **options) == "cupy"
