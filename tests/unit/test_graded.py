"""Graded measures against loops in float64, and what older results show of them."""

from __future__ import annotations

import json
import math
import tracemalloc
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcore.errors import ConfigError, DataError
from mlcore.evaluation.documents import from_document, to_document
from mlcore.evaluation.evaluate import evaluate_split
from mlcore.evaluation.graded import order_counts
from mlcore.evaluation.measures import columns, summary
from mlcore.evaluation.results import require_same_protocol
from mlcore.options.engine import EvaluationOptions
from mlcore.protocols import PlaceTable, Split
from mlcore.reporting.tables import graded_table, result_tables

CONDITIONS = ("sun", "night")
OLD = Path(__file__).parents[2] / "benchmarks/results/localization/runs/proposed-seed-1"


def table_of(positions_m, condition):
    size = len(positions_m)
    return PlaceTable(
        index=np.arange(size),
        positions_m=np.asarray(positions_m, dtype=np.float64),
        traversal=np.zeros(size, dtype=np.int64),
        traversals=("only",),
        condition=condition,
        conditions=CONDITIONS,
    )


def random_case(seed, num_references=25, num_queries=20, side_m=40):
    """Half-metre grids and embeddings on a small grid: distances and ties of both kinds."""
    generator = np.random.default_rng(seed)
    here = np.array([620_000.0, 5_735_000.0])
    positions = [
        here + generator.integers(0, 2 * side_m, (size, 2)) / 2
        for size in (num_references, num_queries)
    ]
    split = Split(
        references=table_of(positions[0], np.zeros(num_references, dtype=np.int64)),
        queries=table_of(positions[1], np.arange(num_queries) % 2),
    )
    embeddings = [
        generator.integers(0, 4, (size, 3)).astype(np.float32)
        for size in (num_references, num_queries)
    ]
    return split, *embeddings


def metres(split, query, reference):
    return math.dist(
        split.queries.positions_m[query].tolist(), split.references.positions_m[reference]
    )


def likeness(references, queries, query, reference):
    return math.dist(queries[query].tolist(), references[reference].tolist())


def slow_order(split, references, queries, rows, limit_m):
    right = pairs = 0
    for query in rows:
        for a in range(len(references)):
            for b in range(len(references)):
                near, far = metres(split, query, a), metres(split, query, b)
                if far > limit_m or far - near < 2:
                    continue
                pairs += 1
                close = likeness(references, queries, query, a)
                away = likeness(references, queries, query, b)
                right += 1 if close < away else 0.5 if close == away else 0
    return right / pairs if pairs else None


def slow_ndcg(split, references, queries, rows, k, options):
    def gain(distance_m):
        return 1 / (
            1 + math.exp(options.gain_steepness_per_m * (distance_m - options.gain_cutoff_m))
        )

    def dcg(order, query):
        return sum(
            gain(metres(split, query, reference)) / math.log2(rank + 1)
            for rank, reference in enumerate(order[:k], start=1)
        )

    values, left_out = [], 0
    for query in rows:
        every = range(len(references))
        ideal = dcg(sorted(every, key=lambda one: metres(split, query, one)), query)
        if ideal < 1e-6:
            left_out += 1
            continue
        retrieved = sorted(every, key=lambda one: likeness(references, queries, query, one))
        values.append(dcg(retrieved, query) / ideal)
    return (sum(values) / len(values) if values else None), left_out


def slow_precision_recall(split, references, queries, rows, radius_m):
    """Return (threshold, precision, recall) at every distinct distance."""
    answers, possible = [], 0
    for query in rows:
        every = range(len(references))
        first = min(every, key=lambda one: likeness(references, queries, query, one))
        answers.append(
            (
                likeness(references, queries, query, first),
                metres(split, query, first) <= radius_m,
            )
        )
        possible += any(metres(split, query, one) <= radius_m for one in every)
    points = []
    for threshold in sorted({distance for distance, _ in answers}):
        given_ = [correct for distance, correct in answers if distance <= threshold]
        points.append(
            (threshold, sum(given_) / len(given_), sum(given_) / possible if possible else 0)
        )
    return points


@given(
    seed=st.integers(0, 2**32),
    side_m=st.sampled_from([6, 40, 300]),
    num_references=st.sampled_from([1, 2, 25]),
    radius_m=st.sampled_from([5.0, 25.0]),
)
@settings(max_examples=20, deadline=None)
def test_measures_equal_loops(seed, side_m, num_references, radius_m):
    split, references, queries = random_case(seed, num_references, side_m=side_m)
    options = EvaluationOptions(
        order_limits_m=(10.0, 7.5, 25.0),
        ndcg_at=(10, 1, 30),
        gain_cutoff_m=8.0,
        gain_steepness_per_m=0.5,
        recall_radius_m=radius_m,
    )
    found = evaluate_split(references, queries, split, options, name="random")
    for condition in (None, *CONDITIONS):
        rows = [
            row
            for row, code in enumerate(split.queries.condition)
            if condition is None or CONDITIONS[code] == condition
        ]
        case = split, references, queries, rows
        for limit_m in options.order_limits_m:
            assert found.order_accuracy(limit_m, condition) == pytest.approx(
                slow_order(*case, limit_m), abs=1e-12
            )
        for k in options.ndcg_at:
            mean, left_out = slow_ndcg(*case, k, options)
            assert found.ndcg(k, condition) == pytest.approx(mean, abs=1e-12)
            assert found.ndcg_left_out(k, condition) == left_out
        firsts = [
            min(range(num_references), key=lambda one: likeness(references, queries, row, one))
            for row in rows
        ]
        reached = [metres(split, row, first) for row, first in zip(rows, firsts, strict=True)]
        best = [min(metres(split, row, one) for one in range(num_references)) for row in rows]
        share = sum(a <= b + 1e-6 for a, b in zip(reached, best, strict=True)) / len(rows)
        assert found.nearest_first(condition) == pytest.approx(share, abs=1e-12)
        assert found.median_error(condition) == pytest.approx(np.median(reached), abs=1e-9)
        assert found.median_error_bound(condition) == pytest.approx(np.median(best), abs=1e-9)
        points = slow_precision_recall(*case, radius_m)
        curve = found.precision_recall(condition)
        np.testing.assert_allclose(np.stack(curve, axis=1), points, atol=1e-12)
        last, area, full = 0.0, 0.0, 0.0
        for _, precision, recall in points:
            area += (recall - last) * precision
            last = recall
            full = recall if precision == 1 else full
        assert found.average_precision(condition) == pytest.approx(area, abs=1e-12)
        assert found.recall_at_full_precision(condition) == pytest.approx(full, abs=1e-12)


def test_a_perfect_and_a_reversed_order():
    split, *_ = random_case(0, num_references=60)
    metres_from = split.references.positions_m - split.references.positions_m[:1]
    queries_from = split.queries.positions_m - split.references.positions_m[:1]
    perfect = evaluate_split(
        metres_from.astype(np.float32), queries_from.astype(np.float32), split,
        EvaluationOptions(), name="perfect",
    )  # fmt: skip
    assert [perfect.order_accuracy(limit_m) for limit_m in (10, 15, 25)] == [1, 1, 1]
    assert perfect.ndcg(10) == pytest.approx(1)
    assert perfect.nearest_first() == 1
    assert perfect.median_error() == perfect.median_error_bound()
    assert perfect.recall_at_full_precision() == perfect.average_precision() == 1
    queries = split.queries.positions_m[:1]
    away = np.linalg.norm(split.references.positions_m - queries, axis=1)
    counts = order_counts(
        (1 / (1 + away))[:, None].astype(np.float32),
        np.zeros((1, 1), dtype=np.float32),
        split.references.positions_m,
        queries,
        (25.0,),
    )
    assert counts.pairs[0, 0] > 0
    assert counts.right[0, 0] == 0


def test_limits_are_inclusive_and_so_is_the_gap():
    positions = [[0.0, 0.0], [8.0, 0.0], [10.0, 0.0]]
    embeddings = np.array([[0], [1], [2]], dtype=np.float32)
    here = np.zeros((1, 2))
    zero = np.zeros((1, 1), dtype=np.float32)
    limits_m = (np.nextafter(10, 0), 10.0, np.nextafter(8, 0))
    counts = order_counts(embeddings, zero, np.array(positions), here, limits_m)
    assert counts.pairs.tolist() == [[1, 3, 0]]
    assert counts.right.tolist() == [[1, 3, 0]]


def test_recall_at_full_precision_leaves_ties_with_an_error_out():
    split, references, queries = random_case(3)
    found = evaluate_split(references, queries, split, EvaluationOptions(), name="any")
    found = replace(
        found,
        protocol=replace(found.protocol, recall_radius_m=5.0),
        embedding_distance=np.repeat([1.0, 2.0, 3.0, 4.0], 5),
        distance_m=np.array([1.0] * 8 + [9.0] + [1.0] * 11),
        nearest_m=np.array([1.0] * 16 + [9.0] * 4),
    )
    # Of the second five answers one is wrong: only the first five are without error.
    assert found.recall_at_full_precision() == 5 / 16
    nothing = replace(found, distance_m=np.full(20, 9.0), nearest_m=np.full(20, 9.0))
    assert nothing.recall_at_full_precision() == nothing.average_precision() == 0


def test_json_keeps_them():
    split, references, queries = random_case(5, side_m=300)
    found = evaluate_split(references, queries, split, EvaluationOptions(), name="a")
    assert np.isnan(found.graded.ndcg).any()
    text = json.dumps(to_document([found]), allow_nan=False)
    (again,) = from_document(json.loads(text))
    assert again.protocol == found.protocol
    for name in ("order_right", "order_pairs", "ndcg"):
        np.testing.assert_array_equal(getattr(again.graded, name), getattr(found.graded, name))
    overall = json.loads(text)["evaluations"][0]["summary"]["overall"]
    assert overall == summary(again)
    assert overall["ndcg"]["10"] == found.ndcg(10)
    assert overall["nearest_first"] == found.nearest_first()
    assert overall["median_error_m"] == found.median_error()


def test_results_of_older_versions_open_and_show_what_they_can():
    content = json.loads((OLD / "evaluation.json").read_text())
    (trained,) = (one for one in from_document(content) if one.model == "trained")
    written = next(one for one in content["evaluations"] if one["model"] == "trained")
    assert trained.protocol.digest == written["protocol_digest"]
    assert trained.order_accuracy(10.0) is None
    assert trained.ndcg(10) is None
    assert 0 < trained.nearest_first() < trained.accuracy(5.0)
    assert trained.median_error() > trained.median_error_bound()
    assert graded_table([trained]).row_count == 2 * len(trained.sections)
    assert from_document(to_document([trained]))[0].protocol == trained.protocol


def test_shares_are_shown_in_percent_and_metres_as_they_are():
    split, references, queries = random_case(1)
    found = evaluate_split(references, queries, split, EvaluationOptions(), name="a")
    shown = {column.heading: column for column in columns(found.protocol, "graded")}
    assert shown["median (m)"].text(12.34) == "12.3"
    assert shown["nearest first"].text(0.1234) == "12.3"
    assert shown["NDCG@10"].text(None) == ""


def test_older_and_newer_results_can_be_compared():
    split, references, queries = random_case(1)
    new = evaluate_split(references, queries, split, EvaluationOptions(), name="new")
    old = replace(new, model="old", graded=None, protocol=replace(new.protocol, graded=None))
    require_same_protocol([new, old])
    assert len(result_tables([new, old]).renderables) == 2
    other = EvaluationOptions(ndcg_at=(5,))
    with pytest.raises(DataError, match="graded is"):
        require_same_protocol(
            [new, evaluate_split(references, queries, split, other, name="other")]
        )


@pytest.mark.parametrize(
    "options", [{"order_limits_m": (0.0,)}, {"ndcg_at": (0,)}, {"ndcg_at": (5, -1)}]
)
def test_options_out_of_range(options):
    with pytest.raises(ValueError, match=f"^{next(iter(options))} must be"):
        EvaluationOptions(**options)


def test_recall_at_no_number():
    split, references, queries = random_case(1)
    with pytest.raises(ConfigError, match="recall_at must have at least one number"):
        evaluate_split(references, queries, split, EvaluationOptions(recall_at=()), name="a")


def test_distances_and_pairs_do_not_depend_on_the_size_of_a_block(monkeypatch):
    split, references, queries = random_case(2)
    positions_m = split.references.positions_m, split.queries.positions_m
    whole = order_counts(references, queries, *positions_m, (15.0, 25.0))
    monkeypatch.setattr("mlcore.evaluation.graded._ROWS_AT_ONCE", 7)
    monkeypatch.setattr("mlcore.evaluation.graded._MOST_PAIRS", 60)
    parts = order_counts(references, queries, *positions_m, (15.0, 25.0))
    np.testing.assert_array_equal(whole.right, parts.right)
    np.testing.assert_array_equal(whole.pairs, parts.pairs)


def test_without_limits_and_numbers_there_are_no_graded_columns():
    split, references, queries = random_case(1)
    options = EvaluationOptions(order_limits_m=(), ndcg_at=())
    found = evaluate_split(references, queries, split, options, name="a")
    assert summary(found)["order_accuracy"] == {}
    (again,) = from_document(json.loads(json.dumps(to_document([found]))))
    assert again.graded.ndcg.shape == (20, 0)


def test_memory_is_that_of_one_query():
    size = 3000
    generator = np.random.default_rng(0)
    positions = generator.uniform(0, 10, (size, 2))
    embeddings = generator.normal(size=(size, 4)).astype(np.float32)
    tracemalloc.start()
    counts = order_counts(embeddings, embeddings[:3], positions, positions[:3], (25.0,))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert counts.pairs.min() > size
    assert peak < 40 * 2**20  # a float64 matrix of all pairs of references: 69 MiB
