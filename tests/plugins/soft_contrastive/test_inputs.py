"""Bad input: one clear error each."""

from __future__ import annotations

from typing import Any

import numpy as np
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


def damaged(values: torch.Tensor, rows: list[int], value: float = NAN) -> torch.Tensor:
    values = values.clone()
    values[rows] = value
    return values


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"embeddings": torch.ones(4)}, r"embeddings must be \(N, D\).*\(4,\)"),
        ({"embeddings": torch.ones(4, 3, dtype=torch.int64)}, "floating point.*int64"),
        ({"embeddings": X.to_sparse()}, r"embeddings must be dense, got torch.sparse_coo"),
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
        ({"embeddings": damaged(X, [1, 3])}, "embeddings is not finite in 2 of 4 rows: 1, 3"),
        ({"embeddings": damaged(X, [2], float("inf"))}, "in 1 of 4 rows: 2"),
        ({"positions_m": damaged(POSITIONS, [0])}, "positions_m is not finite.*: 0"),
        ({"headings_rad": damaged(torch.zeros(4), [3])}, "headings_rad is not finite.*: 3"),
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
        ({"alpha": 0.0}, "loss: alpha must be greater than 0, got 0"),
        ({"alpha": "2"}, "loss: alpha must be a number, got '2'"),
        ({"beta": None}, "loss: beta must be a number, got None"),
        ({"epsilon": [0.1]}, r"loss: epsilon must be a number, got \[0.1\]"),
        ({"beta": float("inf")}, "loss: beta must be finite, got inf"),
        ({"base": NAN}, "loss: base must be between -2 and 2, got nan"),
        ({"epsilon": NAN}, "loss: epsilon must be between -2 and 2, got nan"),
        ({"aggregation": "mean"}, "aggregation must be one of log-sum-exp, plain, got 'mean'"),
        ({"implementation": "sparse"}, "implementation must be one of auto, dense"),
    ],
)
def test_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        soft_contrastive_loss(X, POSITIONS, **options)


def test_options_of_config_and_influence() -> None:
    with pytest.raises(
        ConfigError, match="loss: heading_limit_deg must be between 0 and 180, got -1"
    ):
        SoftContrastiveConfig(heading_limit_deg=-1.0)
    with pytest.raises(
        ConfigError, match=r"influence: steepness_per_m must be greater than 0, got -0.8"
    ):
        Sigmoid(steepness_per_m=-0.8)
    with pytest.raises(
        ConfigError, match="influence: support_limit_m must be greater than 0, got nan"
    ):
        Linear(support_limit_m=NAN)


def test_arrays_and_lists_are_as_good_as_tensors() -> None:
    embeddings = torch.randn(6, 3, generator=torch.Generator().manual_seed(0))
    rows = [[619_873.4 + 7.3 * k, 5_735_211.8] for k in range(6)]
    positions = torch.tensor(rows, dtype=torch.float64)
    headings = [0.1 * k for k in range(6)]
    options: dict[str, Any] = {"heading_limit_rad": 0.25, "mining": False}
    expected = soft_contrastive_loss(
        embeddings, positions, headings_rad=torch.tensor(headings).double(), **options
    )
    for given in (rows, np.array(rows), tuple(map(tuple, rows))):
        for turned in (headings, np.array(headings)):
            loss = soft_contrastive_loss(embeddings, given, headings_rad=turned, **options)
            assert loss == expected
    whole = soft_contrastive_loss(embeddings, [[k, 0] for k in range(6)])
    assert whole == soft_contrastive_loss(embeddings, whole_numbers())
    rectangular = soft_contrastive_loss(
        embeddings,
        rows,
        references=embeddings,
        reference_positions_m=np.array(rows),
        self_index=list(range(6)),
    )
    assert rectangular == pytest.approx(soft_contrastive_loss(embeddings, positions).item())


def whole_numbers() -> torch.Tensor:
    return torch.stack([torch.arange(6.0), torch.zeros(6)], dim=1)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"embeddings": [[1.0, 2.0]] * 4},
            TypeError,
            "embeddings must be a torch tensor, got l",
        ),
        ({"embeddings": np.ones((4, 3))}, TypeError, "torch tensor, got ndarray; torch.as_"),
        (
            {"positions_m": [["a", "b"]] * 4},
            TypeError,
            "positions_m must be a tensor or an array",
        ),
        ({"positions_m": [[0.0, 1.0], [0.0]]}, TypeError, "positions_m must be a tensor or"),
        ({"positions_m": None}, TypeError, "positions_m must be a tensor or an array"),
        ({"influence": "sigmoid"}, ConfigError, r"such as Sigmoid\(cutoff_m=15.0\), got 'sigm"),
        ({"influence": lambda d: d}, ConfigError, "needs support_m and repulsion_start_m"),
        ({"influence": Sigmoid}, ConfigError, "influence must be an influence function"),
        ({"influence": None}, ConfigError, "influence must be an influence function.*None"),
    ],
)
def test_arguments_of_another_kind(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        soft_contrastive_loss(**({"embeddings": X, "positions_m": POSITIONS} | arguments))


def test_float32_positions_too_large_for_it() -> None:
    utm = POSITIONS + torch.tensor([619_873.4, 5_735_211.8])
    with pytest.warns(UserWarning, match=r"float32 and as large as 5735212 m: .* 0\.68 m"):
        soft_contrastive_loss(X, utm)
    soft_contrastive_loss(X, utm - utm.mean(dim=0))
    soft_contrastive_loss(X, utm.double())


@pytest.mark.parametrize(
    "origin", [(48.14, 11.58), (11.58, 48.14), (-33.9, 151.2), (-151.2, 33.9)]
)
def test_degrees(origin: tuple[float, float]) -> None:
    offsets = torch.tensor([[0.0, 0.0], [0.01, 0.02], [0.03, 0.01], [0.1, 0.2]]).double()
    degrees = offsets + torch.tensor(origin, dtype=torch.float64)
    with pytest.warns(UserWarning, match="positions_m look like degrees of latitude and long"):
        soft_contrastive_loss(X, degrees)
    for constant in (0, 1):
        along = degrees.clone()
        along[:, constant] = origin[constant]
        with pytest.warns(UserWarning, match="look like degrees"):
            soft_contrastive_loss(X, along)
    # Metres: over hundreds of metres, around an origin, or all in one place.
    soft_contrastive_loss(X, 1e4 * degrees)
    soft_contrastive_loss(X, offsets)
    soft_contrastive_loss(X, degrees[:1].expand(4, 2))
