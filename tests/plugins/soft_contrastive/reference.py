"""The loss written out as loops over pairs, from the formulas, in float64.

Slow and obviously right: one image pair at a time, Python floats for the geometry, torch
scalars for the similarity so that autograd differentiates it. It shares no code with the
implementations it judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Influence:
    """Attraction weight of a distance, its support, and what repels; a field of view."""

    attraction: Callable[[float], float]
    support_m: float
    repels: Callable[[float], bool]
    view_rad: float = math.inf


def sigmoid(steepness: float = 0.8, cutoff: float = 15.0) -> Influence:
    def attraction(d: float) -> float:
        z = steepness * (d - cutoff)
        return 1.0 / (1.0 + math.exp(z)) if z < 700.0 else 0.0

    return Influence(attraction, cutoff + 88.7228391 / steepness, lambda _: True)


def field_of_view(view_deg: float = 90.0) -> Influence:
    return replace(sigmoid(), view_rad=math.radians(view_deg))


def linear(cutoff: float = 15.0) -> Influence:
    return Influence(lambda d: max(0.0, 1.0 - d / cutoff), cutoff, lambda d: d > 0.0)


def tanh(cutoff: float = 15.0) -> Influence:
    support = 13.0 * math.log(2.0) * cutoff
    return Influence(lambda d: 1.0 - math.tanh(d / cutoff), support, lambda d: d > 0.0)


def step(cutoff: float = 15.0) -> Influence:
    return Influence(lambda d: float(d < cutoff), cutoff, lambda d: d >= cutoff)


def loss(
    embeddings: Tensor,
    positions_m: Tensor,
    influence: Influence,
    *,
    alpha: float = 2.0,
    beta: float = 50.0,
    base: float = 1.0,
    mining: bool = True,
    epsilon: float = 0.1,
    aggregation: str = "log-sum-exp",
    headings_rad: Tensor | None = None,
    heading_limit_rad: float | None = None,
) -> Tensor:
    """Return the square form's loss of float64 ``embeddings``, differentiable."""
    size = len(embeddings)
    where = positions_m.double().tolist()
    x = [e / e.norm() if bool((e != 0).any()) else e * 0.0 for e in embeddings]
    total = torch.zeros((), dtype=torch.float64)
    for i in range(size):
        pairs = []  # of row i: (j, s, p, n, w+, attracts, repels)
        for j in range(size):
            d = math.dist(where[i], where[j])
            turn = 0.0
            if headings_rad is not None:
                turn = abs(headings_rad[i].item() - headings_rad[j].item()) % (2 * math.pi)
                turn = min(turn, 2 * math.pi - turn)
            near = d < influence.support_m and turn < influence.view_rad
            w_plus = influence.attraction(d) if near else 0.0
            if influence.view_rad < math.inf:
                w_plus *= max(0.0, 1.0 - turn / influence.view_rad)
            w_minus = 1.0 - w_plus
            attracts, repels = near and j != i, influence.repels(d) or not near
            if heading_limit_rad is not None and near and turn > heading_limit_rad:
                continue
            dot = x[i] @ x[j]
            s = dot if dot.item() > 0.0 else dot.detach() * 0.0
            if i == j:
                s, w_plus = s.detach(), w_plus - 1.0
            pairs.append((s, w_plus * s, w_minus * s, w_plus, attracts, repels))
        most_repelling = max([0.0, *(n.item() for _, _, n, *_ in pairs)])
        t = max([0.0, *(p.item() for _, p, *_ in pairs)])
        m = t + min([0.0, *((s.item() - t) * w for s, _, _, w, *_ in pairs)])
        kept_p = [p for _, p, _, _, a, _ in pairs if a]
        kept_n = [n for _, _, n, _, _, r in pairs if r]
        if mining:
            kept_p = [p for p in kept_p if p.item() < most_repelling + epsilon]
            kept_n = [n for n in kept_n if n.item() > m - epsilon]
        if aggregation == "plain":
            total = total + sum(kept_n) - sum(kept_p)
        else:
            total = total + _log1p_sum([-alpha * (p - base) for p in kept_p]) / alpha
            total = total + _log1p_sum([beta * (n - base) for n in kept_n]) / beta
    return total / size


def _log1p_sum(exponents: list[Tensor]) -> Tensor | float:
    return torch.log1p(sum(torch.exp(z) for z in exponents)) if exponents else 0.0
