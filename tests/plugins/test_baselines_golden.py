"""The paper's baselines against values of the published float32 implementations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore import Batch, BuildContext, Role
from mlcore_baselines.plugin import mlcore_losses

LOSSES = {factory.name: factory for factory in mlcore_losses()}
CASES = json.loads(Path(__file__).with_name("golden_losses.json").read_text())
MULTI_SIMILARITY = [case for case in CASES if case["kind"] == "multi-similarity-paper"]
TUPLES = [case for case in CASES if "anchor" in case]


def build(case: dict[str, Any]) -> torch.nn.Module:
    factory = LOSSES[case["kind"]]
    known = factory.config.__dataclass_fields__
    options = {name: value for name, value in case.items() if name in known}
    return factory.build(factory.config(**options), BuildContext())


def make_batch(tuple_id: list[int], role: list[Role], along_m: list[float]) -> Batch:
    size = len(role)
    positions = torch.zeros(size, 2, dtype=torch.float64)
    positions[:, 0] = torch.tensor(along_m, dtype=torch.float64)
    return Batch(
        positions_m=positions,
        headings_rad=None,
        tuple_id=torch.tensor(tuple_id),
        role=torch.tensor(role, dtype=torch.int64),
        place_id=torch.zeros(size, dtype=torch.int64),
        index=torch.arange(size),
    )


def check(
    loss: torch.nn.Module, x: Tensor, batch: Batch, case: dict[str, Any], grad: Tensor
) -> None:
    """Compare with the case; ``grad`` is of the first rows of ``x``."""
    x.requires_grad_()
    value = loss(x, batch).loss
    (gradient,) = torch.autograd.grad(value, x)
    assert value.dtype == torch.float32
    assert abs(value.item() - case["loss"]) <= 1e-5
    assert (gradient[: len(grad)] - grad).norm() <= 1e-4 * grad.norm()


def test_all_kinds_of_cases_are_here() -> None:
    kinds = {case["kind"] for case in (*TUPLES, *MULTI_SIMILARITY)}
    assert kinds == {
        "triplet",
        "lazy-triplet",
        "quadruplet",
        "lazy-quadruplet",
        "triplet-huber",
        "multi-similarity-paper",
    }


@pytest.mark.parametrize("case", TUPLES, ids=lambda case: case["kind"])
def test_golden_values_of_tuple_losses(case: dict[str, Any]) -> None:
    rows, tuple_id, role, along_m = [], [], [], []
    for part, of_part in (
        ("anchor", Role.ANCHOR),
        ("near", Role.NEAR),
        ("far", Role.FAR),
        ("other_far", Role.OTHER_FAR),
    ):
        for number, images in enumerate(case[part]):
            for k, row in enumerate(images):
                rows.append(row)
                tuple_id.append(number)
                role.append(of_part)
                along_m.append(case["near_distance_m"][number][k] if part == "near" else 0.0)
    grad = [
        torch.tensor(case[name]).flatten(end_dim=1) for name in ("grad_anchor", "grad_near")
    ]
    batch = make_batch(tuple_id, role, along_m)
    check(build(case), torch.tensor(rows), batch, case, torch.cat(grad))


@pytest.mark.parametrize("case", MULTI_SIMILARITY, ids=lambda case: str(case["mining"]))
def test_golden_values_of_multi_similarity(case: dict[str, Any]) -> None:
    size = len(case["labels"])
    num_near = case["labels"].count(0) - 1
    role = [Role.ANCHOR] + [Role.NEAR] * num_near + [Role.FAR] * (size - 1 - num_near)
    batch = make_batch([0] * size, role, [0.0] * size)
    check(
        build(case), torch.tensor(case["embeddings"]), batch, case, torch.tensor(case["grad"])
    )
