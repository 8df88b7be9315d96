"""Warnings about losses that stay the same and embeddings in one point."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mlcore.training.health import COLLAPSED_STEPS, CONSTANT_STEPS, Health
from mlcore.training.task import EmbeddingTask, _spread


def warnings_of(losses: list[float], spreads: list[float] | None = None) -> list[str]:
    """Return the warnings of a run with these losses and spreads, one per step."""
    said: list[str] = []
    health, trainer = Health(said.append), SimpleNamespace(global_step=0)
    task: Any = EmbeddingTask.__new__(EmbeddingTask)
    object.__setattr__(task, "__dict__", {"completes_step": True})
    for loss, spread in zip(losses, spreads or [0.5] * len(losses), strict=True):
        trainer.global_step += 1
        task.__dict__.update(row={"loss": torch.tensor(loss)}, spread=spread)
        health.on_train_batch_end(trainer, task)
    health.on_train_end(trainer, task)
    return said


def test_a_run_that_learns_gets_no_warning():
    assert warnings_of([1 / step for step in range(1, 400)]) == []
    assert warnings_of([0.0] * (CONSTANT_STEPS - 1)) == []


@pytest.mark.parametrize("value", [0.0, 0.2, -3.0, 1e30])
def test_a_constant_loss_is_reported_once_and_at_the_end(value):
    first, last = warnings_of([0.7, *[value] * (CONSTANT_STEPS + 50)])
    assert first.startswith(f"step {CONSTANT_STEPS + 1}: the loss has been {value:.6g} for")
    assert last.startswith("at the end of training, the loss has been")


def test_a_loss_that_moves_again_is_not_reported_at_the_end():
    said = warnings_of([*[0.0] * CONSTANT_STEPS, 0.5, 0.4, *[0.0] * CONSTANT_STEPS, 0.1])
    assert [line.partition(":")[0] for line in said] == [
        f"step {CONSTANT_STEPS}",
        f"step {2 * CONSTANT_STEPS + 2}",
    ]


def test_a_loss_with_rare_values_is_no_constant_one():
    losses = [0.3 if step % (CONSTANT_STEPS // 2) == 0 else 0.0 for step in range(500)]
    assert warnings_of(losses) == []


def test_collapsed_embeddings_are_reported():
    learning = [1 / step for step in range(1, 60)]
    spreads = [0.3] * 10 + [1e-5] * 49
    first, last = warnings_of(learning, spreads)
    assert first.startswith(f"step {10 + COLLAPSED_STEPS}: all embeddings of a batch")
    assert "collapsed" in last
    assert warnings_of(learning, [1e-5, 0.3] * 29 + [0.3]) == []


def test_the_spread_does_not_depend_on_the_length_of_embeddings():
    embeddings = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))
    assert _spread(embeddings) == pytest.approx(_spread(1000 * embeddings))
    assert _spread(embeddings) > 0.5
    one_point = torch.ones(12, 5) + 1e-6 * embeddings
    assert _spread(one_point) < 1e-5
    assert _spread(torch.zeros(3, 5)) == 0.0
    assert _spread(embeddings[:1]) == float("inf")
