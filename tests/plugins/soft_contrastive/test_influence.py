"""Influence functions: values, monotony, C code."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mlcore.protocols import DeviceInfluenceFunction
from mlcore_soft_contrastive import FieldOfView, Linear, Sigmoid, Step, Tanh

AT_M = torch.tensor([0.0, 5.0, 10.0, 15.0, 20.0, 25.0], dtype=torch.float64)
ALL = [Sigmoid(), Linear(), Tanh(), Step(), FieldOfView()]


@pytest.mark.parametrize(
    ("influence", "expected"),
    [
        (Sigmoid(), [1.000, 0.9997, 0.982, 0.500, 0.018, 0.0003]),
        (Linear(), [1.0, 0.667, 0.333, 0.0, 0.0, 0.0]),
        (Tanh(), [1.0, 0.679, 0.417, 0.238, 0.130, 0.069]),
        (Step(), [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]),
    ],
)
def test_values_of_the_paper(influence: Any, expected: list[float]) -> None:
    torch.testing.assert_close(
        influence(AT_M), torch.tensor(expected, dtype=torch.float64), atol=6e-4, rtol=0
    )


@pytest.mark.parametrize("influence", ALL)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_contract(influence: Any, dtype: torch.dtype) -> None:
    distances = torch.linspace(0.0, 2000.0, 4001, dtype=dtype).reshape(1, -1)
    before = distances.clone()
    weights = influence(distances)
    assert torch.equal(distances, before), "must not change its argument"
    assert weights.dtype == dtype
    assert weights.shape == distances.shape
    assert ((weights >= 0) & (weights <= 1)).all()
    assert (weights.diff() <= 0).all()
    assert isinstance(influence, DeviceInfluenceFunction)


@pytest.mark.parametrize("influence", ALL)
def test_device_code_says_the_same(influence: Any) -> None:
    """Evaluate the C expression with Python's arithmetic in place of C's."""
    code = influence.device_code()
    names: dict[str, Any] = {
        "expf": lambda z: math.exp(min(z, 700.0)),
        "tanhf": math.tanh,
        "fmaxf": max,
        **code.parameters,
    }
    expression = code.expression.replace("0f", "0")
    if "?" in expression:
        condition, values = expression.split("?")
        true, false = values.split(":")
        expression = f"({true}) if ({condition}) else ({false})"
    for distance in (0.0, 3.7, 14.99, 15.0, 15.01, 60.0, 500.0):
        value = eval(expression, names | {"d": distance, "h": 0.0})
        expected = influence(torch.tensor([distance], dtype=torch.float64)).item()
        assert value == pytest.approx(expected, abs=1e-12)
