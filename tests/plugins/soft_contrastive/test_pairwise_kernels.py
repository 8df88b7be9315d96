"""The kernels of pairwise distances, compiled for the host; mutated, they fail."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore_soft_contrastive.pairwise import distance
from mlcore_soft_contrastive.tiled.kernel_source import pairwise_source


@pytest.mark.parametrize(
    ("rows", "columns", "dim"),
    [(1, 1, 2), (70, 65, 2), (5, 130, 1), (9, 260, 3), (65, 129, 4), (70, 65, 5), (5, 130, 37)],
)
@pytest.mark.parametrize("squared", [True, False])
def test_pairwise_kernels(
    rows: int, columns: int, dim: int, squared: bool, kernels: Any
) -> None:
    launch = kernels(pairwise_source())
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, dim, generator=generator) + 5e5
    y = torch.randn(columns, dim, generator=generator) + 5e5
    expected = (x.double()[:, None] - y.double()[None]).norm(dim=2)
    actual = distance._distances_on_gpu(x, y, launch, squared=squared)
    expected_value = expected.square() if squared else expected
    torch.testing.assert_close(actual.double(), expected_value, rtol=1e-6, atol=0)
    weight = torch.randn(rows, columns, generator=generator)
    out = distance._weighted_differences_on_gpu(x, y, weight, launch)
    differences = x.double()[:, None] - y.double()[None]
    wanted = (weight.double()[..., None] * differences).sum(dim=1)
    assert (out - wanted).norm() < 1e-6 * wanted.norm().clamp(min=1.0)


PAIRWISE_MUTATIONS = {
    "dropped barrier after loading": (
        "    __syncthreads();\n    for (int depth",
        "    for (int depth",
    ),
    "dropped barrier before loading": ("    __syncthreads();\n  }\n", "  }\n"),
    "dropped barrier of the gradient": (
        "  __syncthreads();\n  if (lane < GROUP",
        "  if (lane < GROUP",
    ),
    "edge off by one": ("if (i < rows && j < columns)", "if (i < rows - 1 && j < columns)"),
    "edge of few coordinates": ("if (j < columns) out[i", "if (j < columns - 1) out[i"),
    "rows of few coordinates": ("r < TILE; r += 8", "r < TILE - 60; r += 8"),
    "coordinate left out": ("coordinate < dim;", "coordinate < dim - 1;"),
}


@pytest.mark.slow
@pytest.mark.usefixtures("filled_with_nan")
@pytest.mark.parametrize("mutation", PAIRWISE_MUTATIONS)
def test_a_mutated_pairwise_kernel_fails(mutation: str, kernels: Any) -> None:
    old, new = PAIRWISE_MUTATIONS[mutation]
    source = pairwise_source()
    assert source.count(old) == 1
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(9, 19, generator=generator)
    y = torch.randn(66, 19, generator=generator)
    weight = torch.randn(9, 66, generator=generator)

    def run(launch: Any) -> list[Tensor]:
        return [
            distance._distances_on_gpu(x, y, launch, squared=False),
            distance._distances_on_gpu(x[:, :3], y[:, :3], launch, squared=False),
            distance._weighted_differences_on_gpu(x, y, weight, launch),
        ]

    expected = run(kernels(source))
    mutant = kernels(source.replace(old, new))
    results = [run(mutant)]
    mutant.descending = True
    results.append(run(mutant))
    assert not all(
        torch.equal(a, b) for result in results for a, b in zip(result, expected, strict=True)
    )
