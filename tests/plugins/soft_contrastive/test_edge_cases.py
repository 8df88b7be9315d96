"""Values at the edges, as documented by ``soft_contrastive_loss``."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from mlcore_soft_contrastive import Linear, Sigmoid, Step, Tanh, soft_contrastive_loss

ALL = [Sigmoid(), Linear(), Tanh(), Step()]
NAMES = ["sigmoid", "linear", "tanh", "step"]


def positions(*xs: float) -> torch.Tensor:
    return torch.tensor([[x, 0.0] for x in xs], dtype=torch.float64)


def run(embeddings: torch.Tensor, where: torch.Tensor, **options: Any) -> tuple[float, Any]:
    leaf = embeddings.clone().requires_grad_()
    loss = soft_contrastive_loss(leaf, where, **options)
    (grad,) = torch.autograd.grad(loss, leaf)
    return loss.item(), grad


def attraction_of(similarity: float, weight: float, alpha: float = 2.0) -> float:
    return math.log1p(math.exp(-alpha * (weight * similarity - 1.0))) / alpha


@pytest.mark.parametrize("influence", ALL, ids=NAMES)
@pytest.mark.parametrize("aggregation", ["log-sum-exp", "plain"])
@pytest.mark.parametrize("mining", [True, False])
def test_single_image_and_zero_padding(influence: Any, aggregation: Any, mining: bool) -> None:
    options = {"influence": influence, "aggregation": aggregation, "mining": mining}
    loss, grad = run(torch.randn(1, 6), positions(3.0), **options)
    assert abs(loss) < (1e-20 if aggregation == "log-sum-exp" else 1e-5)
    assert torch.equal(grad, torch.zeros(1, 6))

    loss, grad = run(torch.zeros(5, 6), positions(0, 0, 1, 30, 500), **options)
    assert math.isfinite(loss)
    assert torch.equal(grad, torch.zeros(5, 6))


def test_zero_embedding_among_others() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    loss, grad = run(embeddings, positions(0.0, 5.0), influence=Linear(), mining=False)
    # Similarity 0: each row has one attracting pair of p = 0 and one repelling of n = 0.
    expected = attraction_of(0.0, 1.0) + math.log1p(math.exp(-50.0)) / 50.0
    assert loss == pytest.approx(expected, rel=1e-6)
    assert torch.equal(grad, torch.zeros(2, 2))


@pytest.mark.parametrize("influence", ALL, ids=NAMES)
def test_empty_batch(influence: Any) -> None:
    loss, grad = run(torch.zeros(0, 4), torch.zeros(0, 2), influence=influence)
    assert loss == 0.0
    assert grad.shape == (0, 4)


def test_coincident_positions_and_duplicate_embeddings() -> None:
    embeddings = torch.tensor([[3.0, 4.0], [0.6, 0.8]])
    loss, grad = run(embeddings, positions(7.0, 7.0), influence=Linear(), mining=False)
    assert loss == pytest.approx(attraction_of(1.0, 1.0), rel=1e-6)
    assert grad.abs().max() < 1e-7


def test_no_near_pair() -> None:
    embeddings = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    loss, stats = soft_contrastive_loss(
        embeddings, positions(0.0, 1000.0), mining=False, return_stats=True
    )
    self_term = math.exp(50.0 * (1.0 / (1.0 + math.exp(12.0)) - 1.0))
    expected = math.log1p(self_term + math.exp(50.0 * (math.sqrt(0.5) - 1.0))) / 50.0
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    assert stats["attraction"] == 0.0
    assert stats["implementation"] == "dense"


@pytest.mark.parametrize("influence", ALL, ids=NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_support_is_decided_to_a_tenth_of_a_millimetre(
    influence: Any, dtype: torch.dtype
) -> None:
    origin = 5_735_211.8
    embeddings = torch.eye(2, dtype=dtype)
    for offset, terms in ((-1e-4, 1), (1e-4, 0)):
        where = positions(origin, origin + influence.support_m + offset)
        loss = soft_contrastive_loss(embeddings, where, influence=influence, mining=False)
        assert loss.item() == pytest.approx(terms * attraction_of(0.0, 1.0), abs=1e-6)


def test_defaults_of_the_support() -> None:
    assert Sigmoid().support_m == pytest.approx(125.90354885, abs=1e-7)
    assert Linear().support_m == 15.0
    assert Tanh().support_m == pytest.approx(135.16, abs=0.01)
    assert Step().support_m == 15.0
    assert Sigmoid(support_limit_m=20.0).support_m == 20.0


def test_step_repels_from_its_cutoff_on() -> None:
    embeddings = torch.ones(2, 2, dtype=torch.float64)
    step = Step(cutoff_m=15.0, support_limit_m=20.0)
    for distance, repelling in ((14.999999, 0.0), (15.0, 1.0)):
        _, stats = soft_contrastive_loss(
            embeddings,
            positions(0.0, distance),
            influence=step,
            aggregation="plain",
            mining=False,
            return_stats=True,
        )
        assert float(stats["repulsion"]) == pytest.approx(repelling)


def test_opposite_headings_at_one_place_are_in_neither_sum() -> None:
    embeddings = torch.ones(2, 2, dtype=torch.float64)
    # 179 and -179 degrees are 2 degrees apart.
    for degrees, attracting in (((0, 180), 0.0), ((179, -179), 1.0), ((0, 59), 1.0)):
        headings = torch.deg2rad(torch.tensor(degrees, dtype=torch.float64))
        _, stats = soft_contrastive_loss(
            embeddings,
            positions(0.0, 0.0),
            influence=Step(),
            aggregation="plain",
            mining=False,
            headings_rad=headings,
            heading_limit_rad=math.radians(60.0),
            return_stats=True,
        )
        assert -float(stats["attraction"]) == pytest.approx(attracting)
        assert float(stats["repulsion"]) == 0.0
    # Beyond the support, headings do not matter.
    loss = soft_contrastive_loss(
        embeddings,
        positions(0.0, 100.0),
        influence=Step(),
        aggregation="plain",
        mining=False,
        headings_rad=torch.tensor([0.0, math.pi]),
        heading_limit_rad=1.0,
    )
    assert loss.item() == pytest.approx(1.0)
