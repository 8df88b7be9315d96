"""A check that descending a loss brings near images together, away from far ones."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mlcore.factories import LossFactory
from mlcore.protocols import Batch
from mlcore.testing.cases import RELATION, LossCase, clusters, loss_case_of
from mlcore.testing.check import Fault
from mlcore.testing.losses.calls import differentiate
from mlcore.testing.subject import Subject

_SEEDS = (3, 9, 26, 28)
"""Two batches whose near pairs start farther apart than the far pairs, and two others."""

_STEP = 0.1
"""Length of the longest step of an embedding; embeddings have length 1."""

_MOST_STEPS = 20
"""A loss with proxies first moves near images towards a proxy, which takes a few steps. Many
more would not do: a loss that pushes near images apart may end with them at two poles."""


def learns(subject: Subject) -> None:
    """A step down the gradient widens the gap between far and near pairs, or twenty do.

    The gap is the mean embedding distance of far pairs minus that of near pairs. It widens in
    every batch, whichever its sign: that of a loss which brings all embeddings together does
    not.
    """
    factory: LossFactory = subject.factory
    cases = [loss_case_of(factory, clusters(seed)) for seed in _SEEDS]
    before = [gap(case.embeddings.detach(), case.batch) for case in cases]
    after = before
    for step in range(1, _MOST_STEPS + 1):
        cases = [descend(case, normalize=factory.normalize) for case in cases]
        if step in (1, _MOST_STEPS):
            after = [gap(case.embeddings.detach(), case.batch) for case in cases]
            if all(now > was for now, was in zip(after, before, strict=True)):
                return
    was, now = min(zip(before, after, strict=True), key=lambda pair: pair[1] - pair[0])
    raise Fault(
        f"near images to come together and far ones apart within {_MOST_STEPS} steps down the "
        "gradient",
        f"far pairs were {was:+.4f} farther than near ones in the embedding, and then "
        f"{now:+.4f}; a sign may be wrong, or near taken for far",
    )


def gap(embeddings: Tensor, batch: Batch) -> float:
    """Return how much farther far pairs of a batch are than near ones, on average."""
    near, far = RELATION(batch)
    distance = torch.linalg.vector_norm(embeddings[:, None] - embeddings[None], dim=-1)
    return float(distance[far].mean() - distance[near].mean())


def descend(case: LossCase, *, normalize: bool) -> LossCase:
    """Return the case with its embeddings one step down the gradient."""
    differentiate(case)
    gradient = case.embeddings.grad
    assert gradient is not None
    longest = gradient.norm(dim=1).max().clamp(min=1e-30)
    moved = case.embeddings.detach() - _STEP * gradient / longest
    if normalize:
        moved = functional.normalize(moved)
    return case._replace(embeddings=moved.requires_grad_())
