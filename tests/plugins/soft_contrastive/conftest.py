from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore_soft_contrastive import soft_contrastive_loss

CLUMP = 8
UTM_ORIGIN_M = torch.tensor([619_873.4, 5_735_211.8], dtype=torch.float64)


def _load(name: str) -> ModuleType:
    """Import a file beside this one."""
    path = Path(__file__).parent / name
    spec = importlib.util.spec_from_file_location(f"soft_contrastive_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up by name
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """Tiny tiles gain nothing from threads, and on a busy machine lose much to waiting."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def reference() -> ModuleType:
    """The slow float64 loops."""
    return _load("reference.py")


@pytest.fixture(scope="session")
def kernels(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Compile a CUDA source for the host, once; ``descending`` turns the threads' order."""
    build = _load("host/build.py")
    if build.COMPILER is None:
        pytest.skip("no g++ or clang++ here to compile the kernels for the host")
    built: dict[str, Any] = {}

    def make(source: str, *, descending: bool = False) -> Any:
        if source not in built:
            built[source] = build.HostKernels(source, tmp_path_factory.mktemp("kernels"))
        built[source].descending = descending
        return built[source]

    return make


@pytest.fixture
def filled_with_nan() -> Iterator[None]:
    """Fill memory with NaN as torch allocates it, so that what is read unwritten shows.

    Otherwise it may hold the very numbers that an earlier call wrote there.
    """
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(scope="session")
def route() -> Callable[[int, float, int], tuple[Tensor, Tensor, Tensor]]:
    """Make embeddings, raw UTM positions and headings in random order along a road."""

    def make(size: int, length_m: float, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        arc = torch.rand(size, generator=generator, dtype=torch.float64) * length_m
        noise = torch.randn(size, 2, generator=generator, dtype=torch.float64)
        xy = torch.stack([arc, 40.0 * torch.sin(arc / 150.0)], dim=1) + noise
        # Near images look alike: random Fourier features of the position, plus noise.
        waves = torch.randn(2, 24, generator=generator, dtype=torch.float64) / 20.0
        phases = torch.rand(24, generator=generator, dtype=torch.float64) * 2 * math.pi
        features = torch.cos(xy @ waves + phases)
        features += 0.3 * torch.randn(size, 24, generator=generator, dtype=torch.float64)
        turns = torch.rand(size, generator=generator, dtype=torch.float64)
        return features, xy + UTM_ORIGIN_M, (turns * 2 - 1) * math.pi

    return make


@pytest.fixture(scope="session")
def evaluate() -> Callable[..., tuple[Tensor, Tensor, str]]:
    """Compute loss, gradient and the implementation's name, by default in tiles."""

    def run(
        embeddings: Tensor, *args: Any, implementation: Any = "tiled", **options: Any
    ) -> tuple[Tensor, Tensor, str]:
        leaf = embeddings.clone().requires_grad_()
        loss, stats = soft_contrastive_loss(
            leaf, *args, implementation=implementation, return_stats=True, **options
        )
        (grad,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), grad, str(stats["implementation"])

    return run


@pytest.fixture(scope="session")
def agree(
    evaluate: Callable[..., tuple[Tensor, Tensor, str]],
) -> Callable[..., dict[str, tuple[float, float]]]:
    """Return errors (loss, gradient) relative to dense float64, by implementation."""

    def run(embeddings: Tensor, *args: Any, **options: Any) -> dict[str, tuple[float, float]]:
        expected, expected_grad, _ = evaluate(
            embeddings.double(), *args, implementation="dense", **options
        )
        errors = {}
        for dtype in (torch.float32, torch.float64):
            loss, grad, name = evaluate(embeddings.to(dtype), *args, **options)
            errors[name] = (
                abs(loss.item() - expected.item()) / abs(expected.item()),
                ((grad - expected_grad).norm() / expected_grad.norm()).item(),
            )
        return errors

    return run


@pytest.fixture(scope="session")
def clumps() -> Callable[[int], tuple[Tensor, Tensor]]:
    """Make embeddings and positions whose attraction is weak, strong, between."""

    def make(seed: int) -> tuple[Tensor, Tensor]:
        """Return looks and positions of 5 clumps of 8 images, each of one or of many looks.

        With an odd seed the last one lies beyond the support.
        """
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator, dtype=torch.float64)

        prototypes = torch.eye(6, dtype=torch.float64)
        looks, positions = [], []
        for _ in range(5):
            own = prototypes[int(6 * draw(1))]
            varied = prototypes[(6 * draw(CLUMP)).long()]
            alike = draw(CLUMP, 1) < draw(1)
            looks.append(torch.where(alike, own, varied) + 0.3 * draw(1) * draw(CLUMP, 6))
            positions.append(draw(1, 2) * 40.0 + draw(CLUMP, 2) * 30.0 * draw(1))
        if seed % 2:
            positions[-1] += 300.0
        return torch.cat(looks), torch.cat(positions)

    return make
