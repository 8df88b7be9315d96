"""Bad input: one clear error each."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mlcore.errors import ConfigError, DataError
from mlcore_soft_contrastive import (
    Linear,
    Sigmoid,
    SoftContrastiveConfig,
    soft_contrastive_loss,
)

X, POSITIONS = torch.ones(4, 3), torch.zeros(4, 2)
NAN = float("nan")


def spoilt(values: torch.Tensor, rows: list[int], value: float = NAN) -> torch.Tensor:
    values = values.clone()
    values[rows] = value
    return values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embeddings": torch.ones(4)}, r"embeddings must be \(N, D\).*\(4,\)"),
        ({"embeddings": torch.ones(4, 3, dtype=torch.int64)}, "floating point.*int64"),
        ({"positions_m": torch.zeros(4)}, r"positions_m must be \(N, 2\) or \(N, 3\)"),
        ({"positions_m": torch.zeros(4, 4)}, r"got \(4, 4\)"),
        ({"positions_m": torch.zeros(5, 2)}, "positions_m has 5 rows, the embeddings have 4"),
        ({"positions_m": torch.zeros(4, 2, device="meta")}, "positions_m is on meta"),
        ({"headings_rad": torch.zeros(3)}, r"headings_rad must be \(4,\), got \(3,\)"),
        ({"heading_limit_rad": 1.0}, "heading_limit_rad needs headings_rad"),
        ({"references": X}, "need reference_positions_m"),
        ({"reference_positions_m": POSITIONS}, "need references"),
        ({"self_index": torch.arange(4)}, "need references"),
    ],
)
def test_shapes_and_devices(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        soft_contrastive_loss(**({"embeddings": X, "positions_m": POSITIONS} | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"references": torch.ones(2, 5)}, "references have 5 dimensions"),
        ({"references": torch.ones(2, 3).double()}, "references are torch.float64"),
        ({"reference_positions_m": torch.zeros(2, 3)}, "has 3 coordinates"),
        ({"self_index": torch.tensor([0, 1, 2, 0])}, r"in \[-1, 2\), got 2"),
        ({"self_index": torch.zeros(4)}, "int64"),
        (
            {"headings_rad": torch.zeros(4), "heading_limit_rad": 1.0},
            "needs reference_headings_rad",
        ),
    ],
)
def test_references(arguments: dict[str, Any], message: str) -> None:
    given = {"references": torch.ones(2, 3), "reference_positions_m": torch.zeros(2, 2)}
    with pytest.raises(ValueError, match=message):
        soft_contrastive_loss(X, POSITIONS, **(given | arguments))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embeddings": spoilt(X, [1, 3])}, "embeddings is not finite in 2 of 4 rows: 1, 3"),
        ({"embeddings": spoilt(X, [2], float("inf"))}, "in 1 of 4 rows: 2"),
        ({"positions_m": spoilt(POSITIONS, [0])}, "positions_m is not finite.*: 0"),
        ({"headings_rad": spoilt(torch.zeros(4), [3])}, "headings_rad is not finite.*: 3"),
    ],
)
def test_values_that_are_not_finite_name_their_rows(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        soft_contrastive_loss(**({"embeddings": X, "positions_m": POSITIONS} | arguments))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 0.0}, "alpha must be positive and finite, got 0"),
        ({"beta": float("inf")}, "beta must be positive and finite, got inf"),
        ({"base": NAN}, "base must be finite"),
        ({"epsilon": NAN}, "epsilon must be finite"),
        ({"aggregation": "mean"}, "aggregation must be one of log-sum-exp, plain, got 'mean'"),
        ({"implementation": "sparse"}, "implementation must be one of auto, dense"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        soft_contrastive_loss(X, POSITIONS, **options)


def test_options_of_config_and_influence() -> None:
    with pytest.raises(ConfigError, match=r"heading_limit_deg must be in \[0, 180\]"):
        SoftContrastiveConfig(heading_limit_deg=-1.0)
    with pytest.raises(ConfigError, match="steepness_per_m must be positive"):
        Sigmoid(steepness_per_m=-0.8)
    with pytest.raises(ConfigError, match="support_limit_m must be positive"):
        Linear(support_limit_m=NAN)
