"""The learning rate over a run, step by step."""

from __future__ import annotations

import math

import pytest

from mlcore.options.engine import TrainingOptions
from mlcore.training.schedule import learning_rate_factor


def factors(steps_per_epoch: int = 4, **options: object) -> list[float]:
    settings = TrainingOptions(max_steps=12, **options)
    return [learning_rate_factor(settings, steps_per_epoch)(step) for step in range(12)]


def test_constant():
    assert factors(schedule="constant") == [1.0] * 12


def test_cosine_falls_from_one_to_nearly_zero_over_the_run():
    expected = [(1 + math.cos(math.pi * step / 12)) / 2 for step in range(12)]
    assert factors(schedule="cosine") == pytest.approx(expected, abs=1e-15)
    assert expected[6] == pytest.approx(0.5)
    after_the_end = learning_rate_factor(TrainingOptions(max_steps=12), 4)
    assert [after_the_end(step) for step in (12, 13, 40)] == [0.0] * 3


def test_halved_at_the_end_of_every_epoch():
    assert factors(schedule="halve-each-epoch") == [1.0] * 4 + [0.5] * 4 + [0.25] * 4
    assert factors(5, schedule="halve-each-epoch")[4:6] == [1.0, 0.5]


@pytest.mark.parametrize("schedule", ["constant", "cosine", "halve-each-epoch"])
def test_warmup_rises_linearly_and_then_leaves_the_schedule_alone(schedule):
    plain = factors(schedule=schedule)
    warmed = factors(schedule=schedule, warmup_steps=5)
    rising = [0.2, 0.4, 0.6, 0.8, 1.0]
    expected = [share * factor for share, factor in zip(rising, plain, strict=False)]
    assert warmed[:5] == pytest.approx(expected)
    assert warmed[5:] == plain[5:]
