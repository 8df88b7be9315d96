"""Values and gradients of the published implementation, and of the loops beside it."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from mlcore_soft_contrastive import Linear, Sigmoid, Tanh, soft_contrastive_loss

GOLDEN = Path(__file__).parents[1] / "golden_losses.json"
CASES = [c for c in json.loads(GOLDEN.read_text()) if c["kind"] == "soft-contrastive"]
AGGREGATIONS = {"ms": "log-sum-exp", "plain": "plain"}
IDS = [
    f"{k}-{c['influence']}-{c['reduction']}-{'mined' if c['mining'] else 'all'}"
    for k, c in enumerate(CASES)
]


def _options(case: dict[str, Any]) -> dict[str, Any]:
    names = ("alpha", "beta", "base", "mining", "epsilon")
    return {name: case[name] for name in names} | {
        "aggregation": AGGREGATIONS[case["reduction"]]
    }


def _influence(case: dict[str, Any]) -> Any:
    cutoff = case["cutoff_m"]
    if case["influence"] == "sigmoid":
        return Sigmoid(steepness_per_m=case["steepness_per_m"], cutoff_m=cutoff)
    return {"linear": Linear, "tanh": Tanh}[case["influence"]](cutoff_m=cutoff)


def _compare(loss: torch.Tensor, grad: torch.Tensor, case: dict[str, Any], tol: float) -> None:
    assert loss.item() == pytest.approx(case["loss"], abs=tol)
    expected = torch.tensor(case["grad"], dtype=torch.float64)
    assert (grad.double() - expected).norm() <= 1e-4 * expected.norm()


def test_all_thirteen_cases_are_here() -> None:
    assert len(CASES) == 13


@pytest.mark.parametrize("case", CASES, ids=IDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_published_values(case: dict[str, Any], dtype: torch.dtype) -> None:
    embeddings = torch.tensor(case["embeddings"], dtype=dtype, requires_grad=True)
    positions = torch.tensor(case["positions_m"], dtype=torch.float64)
    loss = soft_contrastive_loss(
        embeddings, positions, influence=_influence(case), **_options(case)
    )
    loss.backward()
    assert loss.dtype == dtype
    assert embeddings.grad is not None
    _compare(loss, embeddings.grad, case, 1e-5 if dtype == torch.float32 else 1e-6)


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_loops_agree_with_published_values(case: dict[str, Any], reference: ModuleType) -> None:
    embeddings = torch.tensor(case["embeddings"], dtype=torch.float64, requires_grad=True)
    positions = torch.tensor(case["positions_m"], dtype=torch.float64)
    cutoff = case["cutoff_m"]
    influence = {
        "sigmoid": lambda: reference.sigmoid(case["steepness_per_m"], cutoff),
        "linear": lambda: reference.linear(cutoff),
        "tanh": lambda: reference.tanh(cutoff),
    }[case["influence"]]()
    loss = reference.loss(embeddings, positions, influence, **_options(case))
    loss.backward()
    assert embeddings.grad is not None
    _compare(loss, embeddings.grad, case, 1e-6)
