"""Compares losses over several seeds and the same queries.

The mean over seeds has a 95 % interval by Student's t, which covers the choice of seeds. The
difference of two losses is paired by seed and query; its interval covers the choice of seeds
and of queries, which are resampled together (percentile bootstrap).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mlcore.evaluation.measures import summaries
from mlcore.evaluation.results import Evaluation, require_same_protocol

_RESAMPLES = 2000
_BOOTSTRAP_SEED = 0


class Interval(NamedTuple):
    """An estimate with its 95 % interval, None where there are too few values for one."""

    mean: float
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of a comparison.

    Attributes:
        name: Of the loss, as given on the command line, or of a baseline.
        evaluations: By seed.
        failures: By seed, the error of a run that diverged.
        learning_rate: Of its training; None for a baseline.
    """

    name: str
    evaluations: Mapping[int, Evaluation]
    failures: Mapping[int, str] = field(default_factory=dict)
    learning_rate: float | None = None

    def over_seeds(self, measure: Callable[[Evaluation], float | None]) -> Interval | None:
        """Return mean and interval of a measure over the seeds that have it; None without."""
        values = [measure(one) for one in self.evaluations.values()]
        known = [value for value in values if value is not None]
        return student_interval(known) if known else None


class Versus(NamedTuple):
    """One entry compared with another, on the same queries and seeds.

    Attributes:
        area: Difference of the area under the accuracy curve, to the limit that tables show.
        wins: Share of queries whose first reference is nearer.
        losses: Share for which it is farther.
    """

    area: Interval
    wins: float
    losses: float


def student_interval(values: Sequence[float]) -> Interval:
    """Return the mean and its 95 % interval by Student's t; no interval for one value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Interval(mean, None, None)
    from scipy.stats import t

    half = float(t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1))
    half /= math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def versus(entry: Entry, reference: Entry) -> Versus | None:
    """Compare two entries over the seeds that both have; None if they share none.

    Raises:
        DataError: They were evaluated by different protocols.
    """
    seeds = sorted(set(entry.evaluations) & set(reference.evaluations))
    if not seeds:
        return None
    pairs = [(entry.evaluations[seed], reference.evaluations[seed]) for seed in seeds]
    require_same_protocol([one for pair in pairs for one in pair])
    own, other = (
        np.stack([pair[k].distance_m for pair in pairs]) for k in (0, 1)
    )  # (seeds, queries)
    limit_m = pairs[0][0].protocol.area_limit_m
    return Versus(
        area=_bootstrap(_closeness(own, limit_m) - _closeness(other, limit_m)),
        wins=float(np.mean(own < other)),
        losses=float(np.mean(own > other)),
    )


def to_document(entries: Sequence[Entry], reference: Entry) -> dict[str, Any]:
    """Return the content of ``comparison.json``."""
    protocols = [e.protocol for entry in entries for e in entry.evaluations.values()]
    return {
        "format": 1,
        "reference": reference.name,
        "protocol": asdict(protocols[0]) if protocols else None,
        "entries": [_entry_document(entry, reference) for entry in entries],
    }


def _entry_document(entry: Entry, reference: Entry) -> dict[str, Any]:
    against = versus(entry, reference) if entry is not reference else None
    return {
        "name": entry.name,
        "learning_rate": entry.learning_rate,
        "summaries": {
            str(seed): summaries(one) for seed, one in sorted(entry.evaluations.items())
        },
        "failures": {str(seed): text for seed, text in sorted(entry.failures.items())},
        "against_reference": None
        if against is None
        else {
            "area": against.area._asdict(),
            "wins": against.wins,
            "losses": against.losses,
        },
    }


def _closeness(distance_m: NDArray[np.float64], limit_m: float) -> NDArray[np.float64]:
    """Return each query's share of the area under the curve."""
    closeness: NDArray[np.float64] = np.maximum(0.0, 1.0 - distance_m / limit_m)
    return closeness


def _bootstrap(differences: NDArray[np.float64]) -> Interval:
    """Return mean and 95 % interval over resampled seeds and queries, ``(S, Q)``."""
    generator = np.random.default_rng(_BOOTSTRAP_SEED)
    seeds, queries = differences.shape
    # One resample at a time: memory stays that of the queries.
    means = []
    for _ in range(_RESAMPLES):
        drawn = generator.integers(0, queries, queries)
        weight = np.bincount(generator.integers(0, seeds, seeds), minlength=seeds) / seeds
        means.append(float((weight @ differences)[drawn].mean()))
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(differences.mean()), float(low), float(high))
