"""Intervals, paired differences and wins."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mlcore.errors import DataError
from mlcore.evaluation.comparison import Entry, student_interval, to_document, versus
from mlcore.evaluation.results import Evaluation, EvaluationProtocol


def evaluation(distance_m, spacing_m=0.0, auc_limits_m=(25.0,)):
    size = len(distance_m)
    zeros = np.zeros(size, dtype=np.int64)
    return Evaluation(
        model="trained",
        protocol=EvaluationProtocol(
            data_fingerprint="x",
            split="test",
            num_references=9,
            num_queries=size,
            spacing_m=spacing_m,
            thresholds_m=(5.0,),
            auc_limits_m=auc_limits_m,
            recall_at=(1,),
            recall_radius_m=25.0,
        ),
        whitening="none",
        whitening_images=0,
        dimensions=4,
        conditions=("sun",),
        condition=zeros,
        query_index=zeros,
        reference_index=zeros,
        distance_m=np.asarray(distance_m, dtype=np.float64),
        embedding_distance=np.zeros(size),
        nearest_m=np.zeros(size),
        first_hit_rank=zeros,
    )


def entry(name, distances, **protocol):
    evaluations = {seed: evaluation(one, **protocol) for seed, one in distances.items()}
    return Entry(name=name, evaluations=evaluations)


def test_student_interval_is_scipys():
    values = [0.5, 0.61, 0.47, 0.55]
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert student_interval(values)[1:] == pytest.approx(expected)
    assert student_interval([0.5]) == (0.5, None, None)
    # With one degree of freedom, Student's t is Cauchy's: tan(0.475 pi) = 12.706.
    assert student_interval([0.0, 2.0]) == pytest.approx((1.0, -11.706, 13.706), abs=1e-3)


def test_differences_are_paired_over_common_seeds():
    generator = np.random.default_rng(0)
    base = generator.uniform(0, 20, 400)
    reference = entry("a", {0: base, 1: base, 2: base + 9})
    better = entry("b", {0: base - 0.5, 1: base - 0.5})
    result = versus(better, reference)
    # The same gain on every query leaves no chance, however much queries differ.
    assert result.area == pytest.approx((0.02, 0.02, 0.02))
    assert (result.wins, result.losses) == (1.0, 0.0)
    assert versus(entry("c", {7: base}), reference) is None


def test_bootstrap_interval_is_that_of_the_mean():
    generator = np.random.default_rng(1)
    first, second = generator.uniform(0, 25, (2, 800))
    mean, low, high = versus(entry("b", {0: first}), entry("a", {0: second})).area
    differences = (second - first) / 25
    half = 1.96 * differences.std() / np.sqrt(800)
    assert mean == pytest.approx(differences.mean())
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.15 * half)


def test_bootstrap_resamples_seeds():
    generator = np.random.default_rng(2)
    base = generator.uniform(8, 12, 50)
    gains = np.arange(10) / 5  # metres, the same for every query of a seed
    reference = entry("a", dict.fromkeys(range(10), base))
    better = entry("b", {seed: base - gain for seed, gain in enumerate(gains)})
    mean, low, high = versus(better, reference).area
    half = 1.96 * (gains / 25).std() / np.sqrt(10)
    assert mean == pytest.approx(gains.mean() / 25)
    assert (low, high) == pytest.approx((mean - half, mean + half), abs=0.15 * half)


def test_bootstrap_resamples_seeds_and_queries_together():
    generator = np.random.default_rng(3)
    differences = generator.normal(0, 2, (12, 1)) + generator.normal(0, 15, (1, 600))
    differences -= differences.mean()
    base = dict.fromkeys(range(12), np.full(600, 500.0))
    reference = entry("a", base, auc_limits_m=(1000.0,))
    better = entry("b", dict(enumerate(500 - differences)), auc_limits_m=(1000.0,))
    _, low, high = versus(better, reference).area
    variance = differences.mean(axis=1).var() / 12 + differences.mean(axis=0).var() / 600
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(variance) / 1000, rel=0.1)


def test_unlike_protocols_are_refused():
    other = Entry(name="b", evaluations={0: evaluation([1.0, 2.0], spacing_m=5.0)})
    with pytest.raises(DataError, match=r"spacing_m is 5.0 and 0.0"):
        versus(other, entry("a", {0: [1.0, 2.0]}))


def test_an_equal_distance_is_neither_won_nor_lost():
    result = versus(
        entry("b", {0: [1.0, 2.0, 3.0, 9.0]}), entry("a", {0: [1.0, 2.0, 5.0, 8.0]})
    )
    assert (result.wins, result.losses) == (0.25, 0.25)


def test_the_document_compares_with_the_reference_all_entries_but_the_reference():
    reference = entry("a", {1: [4.0, 9.0], 0: [3.0, 8.0]})
    other = Entry(
        name="b", evaluations=entry("b", {0: [3.0, 5.5]}).evaluations, failures={1: "diverged"}
    )
    document = to_document([reference, other], reference)
    first, second = document["entries"]
    assert document["reference"] == "a"
    assert document["protocol"]["num_queries"] == 2
    assert (first["against_reference"], list(first["summaries"])) == (None, ["0", "1"])
    assert second["failures"] == {"1": "diverged"}
    assert second["against_reference"]["wins"] == 0.5
    assert second["against_reference"]["losses"] == 0.0
    assert second["against_reference"]["area"]["mean"] == pytest.approx(2.5 / 25 / 2)


def test_the_document_of_losses_that_all_diverged():
    failed = Entry(name="a", evaluations={}, failures={0: "diverged"})
    document = to_document([failed, Entry(name="b", evaluations={})], failed)
    assert document["protocol"] is None
    assert [one["against_reference"] for one in document["entries"]] == [None, None]
