"""Runs each test on a GPU, if there is one, and on the CPU with kernels built for the host.

The second finds a wrong reference or a mistyped call without a GPU.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mlcore_soft_contrastive import dispatch
from mlcore_soft_contrastive.cuda.sides import BLOCK
from mlcore_soft_contrastive.cuda.walk import CudaKernels
from mlcore_soft_contrastive.geometry import Geometry
from mlcore_soft_contrastive.pairwise import distance
from mlcore_soft_contrastive.tiled import cupy_launch
from mlcore_soft_contrastive.tiled.cupy_launch import Launch
from mlcore_soft_contrastive.tiled.kernel_source import pairwise_source

HOST = Path(__file__).parents[1] / "plugins" / "soft_contrastive" / "host" / "build.py"


@pytest.fixture(scope="session")
def host_kernels(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Launch]:
    """Return kernels of a source, compiled for the host once."""
    spec = importlib.util.spec_from_file_location("soft_contrastive_host_build", HOST)
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    if build.COMPILER is None:
        pytest.skip("no g++ or clang++ to compile the kernels for the host")
    built: dict[str, Launch] = {}

    def make(source: str) -> Launch:
        if source not in built:
            built[source] = build.HostKernels(source, tmp_path_factory.mktemp("kernels"))
        return built[source]

    return make


@pytest.fixture(params=[pytest.param("cuda", marks=pytest.mark.gpu), "cpu"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return where to run; on the CPU the loss and the distances run in kernels too."""
    where = str(request.param)
    if where == "cuda":
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device here")
        if not cupy_launch.is_installed():
            pytest.skip("CuPy is not installed")
        return where
    kernels = request.getfixturevalue("host_kernels")
    plain = dispatch.choose

    def choose(geometry: Geometry, config: Any, embeddings: Any) -> Any:
        if config.implementation == "tiled":
            return plain(geometry, config, embeddings)
        return "cupy", BLOCK, CudaKernels(kernels)

    monkeypatch.setattr(dispatch, "choose", choose)
    monkeypatch.setattr(distance, "_on_kernels", lambda x: x.dtype == torch.float32)
    monkeypatch.setattr(distance, "_kernels", lambda: kernels(pairwise_source()))
    return where
