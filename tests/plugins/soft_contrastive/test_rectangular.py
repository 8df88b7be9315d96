"""References, self_index and shares of a joint batch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore import Batch, BuildContext, ConfigError
from mlcore_soft_contrastive import (
    Linear,
    Sigmoid,
    SoftContrastiveConfig,
    soft_contrastive_loss,
)
from mlcore_soft_contrastive.loss import BatchLoss

Route = Callable[[int, float, int], tuple[Tensor, Tensor, Tensor]]


def batch_of(positions_m: Tensor, headings_rad: Tensor | None) -> Batch:
    zeros = torch.zeros(len(positions_m), dtype=torch.int64)
    return Batch(
        positions_m=positions_m,
        headings_rad=headings_rad,
        tuple_id=zeros,
        role=zeros,
        place_id=zeros,
        index=zeros,
    )


@pytest.mark.parametrize("mining", [True, False])
@pytest.mark.parametrize("aggregation", ["log-sum-exp", "plain"])
def test_rectangular_equals_square(mining: bool, aggregation: Any, route: Route) -> None:
    embeddings, positions, headings = route(31, 200.0, 4)
    options: dict[str, Any] = {
        "mining": mining,
        "aggregation": aggregation,
        "headings_rad": headings,
        "heading_limit_rad": 1.0,
    }
    square = embeddings.clone().requires_grad_()
    expected = soft_contrastive_loss(square, positions, **options)
    expected.backward()
    both = embeddings.clone().requires_grad_()
    order = torch.randperm(31, generator=torch.Generator().manual_seed(1))
    loss = soft_contrastive_loss(
        both,
        positions,
        references=both[order],
        reference_positions_m=positions[order],
        reference_headings_rad=headings[order],
        self_index=torch.argsort(order),
        **options,
    )
    loss.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(both.grad, square.grad)


def test_references_that_hold_other_images(route: Route) -> None:
    embeddings, positions, _ = route(20, 100.0, 6)
    joint = soft_contrastive_loss(embeddings, positions, influence=Linear(), mining=False)
    without_self = soft_contrastive_loss(
        embeddings,
        positions,
        references=embeddings,
        reference_positions_m=positions,
        influence=Linear(),
        mining=False,
    )
    # Each image now attracts its copy at distance 0.
    assert without_self > joint


def test_no_references_at_all() -> None:
    embeddings = torch.randn(3, 4, requires_grad=True)
    loss = soft_contrastive_loss(
        embeddings,
        torch.zeros(3, 2),
        references=torch.zeros(0, 4),
        reference_positions_m=torch.zeros(0, 2),
    )
    loss.backward()
    assert loss.item() == 0.0
    assert embeddings.grad is not None
    assert not embeddings.grad.any()


@pytest.mark.parametrize("cuts", [[0, 31], [0, 8, 31], [0, 1, 16, 16, 31]])
@pytest.mark.parametrize("mining", [True, False])
def test_shares_of_a_joint_batch_add_up(cuts: list[int], mining: bool, route: Route) -> None:
    embeddings, positions, headings = route(31, 200.0, 4)
    batch = batch_of(positions, headings)
    module = BatchLoss(SoftContrastiveConfig(mining=mining), Sigmoid(), math.pi / 3)
    whole = embeddings.clone().requires_grad_()
    expected = module(whole, batch)
    expected.loss.backward()
    parts = embeddings.clone().requires_grad_()
    shares = [
        module.forward_rows(parts, batch, slice(start, stop))
        for start, stop in itertools.pairwise(cuts)
    ]
    total = sum(share.loss for share in shares)
    assert isinstance(total, Tensor)
    total.backward()
    torch.testing.assert_close(total, expected.loss)
    torch.testing.assert_close(parts.grad, whole.grad)
    for name in ("attraction", "repulsion"):
        summed = sum(float(share.stats.get(name, 0.0)) for share in shares)
        assert summed == pytest.approx(float(expected.stats[name]))


@pytest.mark.parametrize(
    ("limit", "tuples", "has_headings", "expected"),
    [
        ("auto", 4, True, math.radians(60.0)),
        ("auto", 1, True, None),
        ("auto", 4, False, None),
        ("none", 4, True, None),
        (25.0, 1, True, math.radians(25.0)),
    ],
)
def test_heading_limit_of_a_run(
    limit: Any, tuples: int, has_headings: bool, expected: float | None
) -> None:
    context = BuildContext(tuples_per_batch=tuples, has_headings=has_headings)
    config = SoftContrastiveConfig(heading_limit_deg=limit)
    module = BatchLoss.for_run(config, context)
    assert module.heading_limit_rad == expected
    assert isinstance(module.influence, Sigmoid)


def test_heading_limit_without_headings_is_refused() -> None:
    config = SoftContrastiveConfig(heading_limit_deg=30.0)
    with pytest.raises(ConfigError, match=r"heading_limit_deg is 30\.0.*has no headings"):
        BatchLoss.for_run(config, BuildContext())


def test_module_equals_function(route: Route) -> None:
    embeddings, positions, headings = route(12, 60.0, 8)
    config = SoftContrastiveConfig(alpha=3.0, beta=20.0, epsilon=0.2)
    module = BatchLoss.for_run(config, BuildContext(influence=Linear(cutoff_m=9.0)))
    assert list(module.parameters()) == []
    expected = soft_contrastive_loss(
        embeddings, positions, influence=Linear(cutoff_m=9.0), alpha=3.0, beta=20.0, epsilon=0.2
    )
    assert torch.equal(module(embeddings, batch_of(positions, headings)).loss, expected)
