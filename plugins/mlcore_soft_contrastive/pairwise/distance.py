"""Euclidean distances between all pairs of two sets of points, exact and differentiable."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from mlcore_soft_contrastive.tiled import cupy_launch
from mlcore_soft_contrastive.tiled.cupy_launch import Launch
from mlcore_soft_contrastive.tiled.kernel_source import pairwise_source
from mlcore_soft_contrastive.tiled.products import Products

TILE, GROUP = 64, 8
"""As in ``kernels/pairwise.cu``."""
FEW_COORDINATES = 4
"""Up to this, a point stays in registers."""
MOST_BY_KERNEL = 8
"""Of more coordinates the gradient is a matrix product, which reads the weights once."""


def pairwise_distance(x: Tensor, y: Tensor | None = None, *, squared: bool = False) -> Tensor:
    """Return the Euclidean distances between the points of ``x`` and of ``y``.

    From differences ``x_i - y_j``, never from ``|x|^2 + |y|^2 - 2 x.y``: a difference of
    two floats is correctly rounded, so that raw UTM coordinates lose nothing. Where two
    points coincide the distance's gradient is 0.

    Args:
        x: ``(N, D)``, float64, float32 or half precision (computed in float32).
        y: ``(M, D)`` of the same dtype; None for ``x`` itself.
        squared: Whether to return squared distances.

    Returns:
        ``(N, M)``, float32 at least, on the device of ``x``. Differentiable once.

    Raises:
        ValueError: Shapes, dtypes or devices do not match.
    """
    _check("x", x)
    if y is not None:
        _check("y", y)
        if (y.shape[1], y.dtype, y.device) != (x.shape[1], x.dtype, x.device):
            raise ValueError(
                f"x and y differ in dimensions, dtype or device: {_described(x)} and "
                f"{_described(y)}"
            )
    x = _at_least_float32(x)
    other = None if y is None else _at_least_float32(y)
    distances: Tensor = _PairwiseDistance.apply(x, other, squared)
    return distances


class _PairwiseDistance(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor | None, squared: bool) -> Tensor:
        distances = _distances(x.detach(), (x if y is None else y).detach(), squared=squared)
        ctx.save_for_backward(x, y, distances)
        ctx.squared = squared
        return distances

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, y, distances = ctx.saved_tensors
        if ctx.squared:
            weight = 2.0 * gradient
        else:
            weight = torch.where(distances > 0, gradient / distances, 0.0)
        if y is None:
            return _weighted_differences(x, x, weight + weight.T), None, None
        by_x = _weighted_differences(x, y, weight) if ctx.needs_input_grad[0] else None
        by_y = _weighted_differences(y, x, weight.T) if ctx.needs_input_grad[1] else None
        return by_x, by_y, None


def _distances(x: Tensor, y: Tensor, *, squared: bool) -> Tensor:
    if _on_kernels(x):
        return _distances_on_gpu(x, y, _kernels(), squared=squared)
    if x.device.type != "cpu":
        return _distances_in_torch(x, y, squared=squared)
    from mlcore_soft_contrastive.pairwise import numba_distance
    from mlcore_soft_contrastive.tiled.threads import share

    out = x.new_empty(len(x), len(y))
    few = x.shape[1] <= numba_distance.FEW_DIMENSIONS
    fill = numba_distance.low_dimensional if few else numba_distance.high_dimensional
    a, b = (t.T if few else t for t in (x, y))
    arrays = a.contiguous().numpy(), b.contiguous().numpy(), squared, out.numpy()
    if x.shape[1] == 0 or out.numel() == 0:
        return out.zero_()
    share(lambda start, stop: fill(*arrays, start, stop), len(x), torch.get_num_threads())
    return out


def _distances_in_torch(x: Tensor, y: Tensor, *, squared: bool) -> Tensor:
    total = x.new_zeros(len(x), len(y))
    for k in range(x.shape[1]):
        difference = x[:, k, None] - y[None, :, k]
        total.addcmul_(difference, difference)
    return total if squared else total.sqrt_()


def _weighted_differences(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Return ``sum_j weight_ij (x_i - y_j)``, ``(N, D)``."""
    kernels = _on_kernels(x)
    if kernels and x.shape[1] <= MOST_BY_KERNEL:
        return _weighted_differences_on_gpu(x, y, weight, _kernels())
    if kernels or x.device.type != "cpu":
        # Centred, so that the two terms lose little to each other.
        origin = x.double().mean(dim=0).to(x.dtype)
        with torch.autocast(x.device.type, enabled=False), Products().rounding():
            product = weight @ (y - origin)
        return weight.sum(dim=1, keepdim=True) * (x - origin) - product
    from mlcore_soft_contrastive.pairwise import numba_distance
    from mlcore_soft_contrastive.tiled.threads import share

    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    a, b, w = (t.detach().contiguous().numpy() for t in (x, y, weight))
    share(
        lambda start, stop: numba_distance.weighted_differences(
            a, b, w, out.numpy(), start, stop
        ),
        len(x),
        torch.get_num_threads(),
    )
    return out


def _distances_on_gpu(x: Tensor, y: Tensor, launch: Launch, *, squared: bool) -> Tensor:
    out = x.new_empty(len(x), len(y))
    if out.numel():
        few = 0 < x.shape[1] <= FEW_COORDINATES
        kernel, block, width = "pairwise_distance", (16, 16), TILE
        if few:
            kernel, block, width = "low_dimensional_distance", (32, 8), 2 * TILE
        grid = (-(-len(x) // TILE), -(-len(y) // width))
        sizes = (len(x), len(y), x.shape[1], int(squared))
        with cupy_launch.on_device(x):
            launch(kernel, grid, block, x.contiguous(), y.contiguous(), out, *sizes)
    return out


def _weighted_differences_on_gpu(
    x: Tensor, y: Tensor, weight: Tensor, launch: Launch
) -> Tensor:
    out = torch.zeros_like(x, memory_format=torch.contiguous_format)
    if out.numel() and len(y):
        grid = (len(x), -(-x.shape[1] // GROUP))
        points = (x.contiguous(), y.contiguous(), weight.contiguous(), out)
        with cupy_launch.on_device(x):
            launch("weighted_differences", grid, (128, 1), *points, len(x), len(y), x.shape[1])
    return out


def _on_kernels(x: Tensor) -> bool:
    floats = x.device.type == "cuda" and x.dtype == torch.float32
    return floats and cupy_launch.is_installed() and cupy_launch.works(x.device)


def _kernels() -> Launch:
    return cupy_launch.cupy_kernels(pairwise_source())


def _check(name: str, points: Tensor) -> None:
    if points.dim() != 2 or not points.is_floating_point():
        raise ValueError(f"{name} must be (N, D) and floating point, got {_described(points)}")


def _described(points: Tensor) -> str:
    return f"{tuple(points.shape)} {points.dtype} on {points.device}"


def _at_least_float32(points: Tensor) -> Tensor:
    return points.float() if points.dtype in (torch.float16, torch.bfloat16) else points
