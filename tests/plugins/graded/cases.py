"""Batches and losses that several tests share."""

from __future__ import annotations

import torch

from mlcore import Batch, BuildContext
from mlcore.geometry import pairwise_distance_m
from mlcore_graded.plugin import mlcore_losses
from mlcore_soft_contrastive.influence import Sigmoid

FACTORIES = {factory.name: factory for factory in mlcore_losses()}
SIGMOID = Sigmoid()


def build(name, influence=SIGMOID, **options):
    factory = FACTORIES[name]
    return factory.build(factory.config(**options), BuildContext(influence=influence))


def batch_at(positions_m):
    size = len(positions_m)
    zeros = torch.zeros(size, dtype=torch.int64)
    return Batch(
        positions_m=positions_m,
        headings_rad=None,
        tuple_id=zeros,
        role=zeros,
        place_id=zeros,
        index=torch.arange(size),
    )


def weights(positions_m, influence=SIGMOID):
    distance_m = pairwise_distance_m(positions_m)
    return distance_m, influence(distance_m) * (distance_m < influence.support_m)


# Every loss and variant: name, options, and the same by loops (``o.near``: w = 1 within 15 m).
EVERY = [
    ("rank-n-contrast", {}, lambda o: o.rank_n_contrast(lambda i, k: -o.D[i][k] / 0.5)),
    (
        "rank-n-contrast",
        {"logits": "similarity"},
        lambda o: o.rank_n_contrast(lambda i, k: o.s[i][k] / 0.1),
    ),
    (
        "rank-n-contrast",
        {"limit_m": 12.0, "temperature": 0.2},
        lambda o: o.rank_n_contrast(lambda i, k: -o.D[i][k] / 0.2, 12.0),
    ),
    ("soft-supcon", {}, lambda o: o.soft_supcon("y-aware", 0.1)),
    ("soft-supcon", {"variant": "threshold"}, lambda o: o.soft_supcon("threshold", 0.1)),
    (
        "soft-supcon",
        {"variant": "exponential"},
        lambda o: o.soft_supcon("exponential", 0.1),
    ),
    ("rince", {}, lambda o: o.rince((5, 10, 15), (0.1, 0.15, 0.2))),
    ("cosent", {}, lambda o: o.cosent(20)),
    ("graded-ap", {}, lambda o: o.average_precision(o.w, 0.01)),
    ("graded-ap", {"temperature": 0.1}, lambda o: o.average_precision(o.w, 0.1)),
    ("smooth-ap", {"temperature": 0.1}, lambda o: o.average_precision(o.near, 0.1)),
    ("recall-at-k", {}, lambda o: o.recall_at_k(15, (1, 2, 4), 1, 0.01)),
    ("similarity-regression", {}, lambda o: o.similarity_regression()),
    ("adaptive-margin", {}, lambda o: o.adaptive_margin(2**0.5)),
    ("distance-triplet", {}, lambda o: o.distance_triplet(0.3, 25)),
    ("stress", {}, lambda o: o.stress(25)),
]
IDS = [" ".join([name, *map(str, options.values())]) for name, options, _ in EVERY]
