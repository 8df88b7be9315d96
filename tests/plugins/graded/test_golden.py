"""The graded losses against golden values, in float64 to 1e-10."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cases import batch_at, build

CASES = json.loads(Path(__file__).with_name("golden_graded_losses.json").read_text())["cases"]
LOSSES = {
    "rank-n-contrast, logits -distance/0.5": ("rank-n-contrast", {}),
    "rank-n-contrast, logits similarity/0.1": ("rank-n-contrast", {"logits": "similarity"}),
    "soft-supcon y-aware, temperature 0.1": ("soft-supcon", {}),
    "soft-supcon threshold, temperature 0.1": ("soft-supcon", {"variant": "threshold"}),
    "soft-supcon exponential, temperature 0.1": ("soft-supcon", {"variant": "exponential"}),
    "cosent, scale 20": ("cosent", {}),
    "similarity-regression": ("similarity-regression", {}),
    "adaptive-margin, margin sqrt 2": ("adaptive-margin", {}),
    "stress, range 25 m": ("stress", {}),
    "distance-triplet, margin 0.3, range 25 m": ("distance-triplet", {}),
    "graded-ap, temperature 0.01": ("graded-ap", {}),
    "graded-ap, temperature 0.1": ("graded-ap", {"temperature": 0.1}),
    "smooth-ap, temperature 0.1, near radius 15 m": ("smooth-ap", {"temperature": 0.1}),
    "recall-at-k, k 1 and 2, t1 1, t2 0.01, near radius 15 m": ("recall-at-k", {"k": (1, 2)}),
    "rince out, bands 5 10 15 m, temperatures 0.1 0.15 0.2": ("rince", {}),
}
OF_BASELINES = {"generalized-contrastive, margin 0.5"}


def test_every_golden_value_has_a_loss():
    for case in CASES:
        assert set(case["values"]) == set(LOSSES) | OF_BASELINES


@pytest.mark.parametrize("number", range(len(CASES)))
@pytest.mark.parametrize("title", LOSSES)
def test_golden_value(title, number):
    case, (name, options) = CASES[number], LOSSES[title]
    embeddings = torch.tensor(case["embeddings"], dtype=torch.float64)
    batch = batch_at(torch.tensor(case["positions_m"], dtype=torch.float64))
    value = build(name, **options)(embeddings, batch).loss
    assert abs(value.item() - case["values"][title]) < 1e-10
