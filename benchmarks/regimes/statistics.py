"""Differences from the proposed loss, over towns, seeds and queries.

Shapes: ``T`` towns, ``L`` rows, ``S`` seeds, ``Q`` queries of a town, ``R`` resamples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlcore.evaluation.results import CURVE_LIMIT_M, Evaluation

RESAMPLES = 4000
_SEED = 0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Quantity:
    """A measure that is a ratio of sums over queries.

    Attributes:
        name: In headings.
        numerator: ``(Q,)`` of an evaluation.
        denominator: ``(Q,)``; it depends on the places alone, not on what was retrieved.
    """

    name: str
    numerator: Callable[[Evaluation], Floats]
    denominator: Callable[[Evaluation], Floats]


def _closeness(evaluation: Evaluation) -> Floats:
    closeness: Floats = np.maximum(0.0, 1.0 - evaluation.distance_m / CURVE_LIMIT_M)
    return closeness


def _order(column: str) -> Callable[[Evaluation], Floats]:
    def values(evaluation: Evaluation) -> Floats:
        assert evaluation.graded is not None
        found: Floats = getattr(evaluation.graded, column)[:, 0].astype(np.float64)
        return found

    return values


AREA = Quantity(
    f"area to {CURVE_LIMIT_M:g} m", _closeness, lambda one: np.ones(len(one.distance_m))
)
ORDER = Quantity("order 10 m", _order("order_right"), _order("order_pairs"))


class Difference(NamedTuple):
    """A row compared with the reference.

    Attributes:
        mean: Of the row less that of the reference: mean over towns of the mean over seeds.
        low: Lower end of the 95 % interval.
        high: Upper end.
        p: Two-sided, adjusted by Holm for all rows that are compared.
    """

    mean: float
    low: float
    high: float
    p: float


def against(
    reference: Sequence[Sequence[Evaluation]],
    others: Sequence[Sequence[Sequence[Evaluation]]],
    quantity: Quantity,
) -> list[Difference]:
    """Compare rows with a reference on the same towns, seeds and queries.

    Percentile bootstrap: each resample draws ``T`` towns, and for each the seeds and queries,
    the same ones for every row. A row with one evaluation of a town, such as that of features
    without training, has it for every seed.

    Args:
        reference: Evaluations by town and seed.
        others: The same of each row that is compared.
        quantity: What is compared.
    """
    if not others:
        return []
    rows = [reference, *others]
    towns = range(len(reference))
    numerators, denominators = [], []
    for town in towns:
        seeds = len(reference[town])
        numerators.append(
            np.stack([_seeds(row[town], seeds, quantity.numerator) for row in rows])
        )
        denominators.append(quantity.denominator(reference[town][0]))
    own = [
        (numerators[town].sum(axis=2) / denominators[town].sum()).mean(axis=1) for town in towns
    ]
    observed = np.mean(own, axis=0)
    drawn = _resampled(numerators, denominators)
    difference = drawn[:, 1:] - drawn[:, :1]
    low, high = np.quantile(difference, [0.025, 0.975], axis=0)
    below, above = (difference <= 0).sum(axis=0), (difference >= 0).sum(axis=0)
    p = np.minimum(1.0, 2 * (np.minimum(below, above) + 1) / (RESAMPLES + 1))
    columns = (observed[1:] - observed[0], low, high, holm(p))
    return [Difference(*map(float, values)) for values in zip(*columns, strict=True)]


def _seeds(
    evaluations: Sequence[Evaluation], seeds: int, values: Callable[[Evaluation], Floats]
) -> Floats:
    """Return ``(S, Q)``."""
    found = np.stack([values(one) for one in evaluations])
    return np.broadcast_to(found, (seeds, found.shape[1]))


def _resampled(numerators: Sequence[Floats], denominators: Sequence[Floats]) -> Floats:
    """Return ``(R, L)``, the mean over drawn towns of the ratio of each row."""
    generator = np.random.default_rng(_SEED)
    num_towns = len(numerators)
    total = np.zeros((RESAMPLES, numerators[0].shape[0]))
    for _ in range(num_towns):
        chosen = generator.integers(num_towns, size=RESAMPLES)
        for town in range(num_towns):
            rows = np.flatnonzero(chosen == town)
            total[rows] += _drawn(numerators[town], denominators[town], len(rows), generator)
    return total / num_towns


def _drawn(
    numerator: Floats, denominator: Floats, times: int, generator: np.random.Generator
) -> Floats:
    """Return ``(times, L)``, the ratio of each row over drawn seeds and queries."""
    num_rows, seeds, queries = numerator.shape
    count = generator.multinomial(queries, np.full(queries, 1 / queries), size=times)
    share = generator.multinomial(seeds, np.full(seeds, 1 / seeds), size=times) / seeds
    sums = (count @ numerator.reshape(-1, queries).T).reshape(times, num_rows, seeds)
    ratio: Floats = np.einsum("rls,rs->rl", sums, share) / (count @ denominator)[:, None]
    return ratio


def holm(p: Floats) -> Floats:
    """Return p-values adjusted for their number (Holm, 1979), in the order given."""
    order = np.argsort(p, kind="stable")
    factors = np.arange(len(p), 0, -1)
    adjusted = np.minimum(1.0, np.maximum.accumulate(p[order] * factors))
    found = np.empty_like(p)
    found[order] = adjusted
    return found
