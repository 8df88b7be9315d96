"""Measures against loops in float64, at the edges; evaluation from images to JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlcore.errors import ConfigError, DataError
from mlcore.evaluation.documents import from_document, to_document
from mlcore.evaluation.evaluate import device_of, evaluate_model, evaluate_split
from mlcore.evaluation.measures import columns
from mlcore.evaluation.results import (
    require_same_protocol,
)
from mlcore.models.pixels import PixelModel
from mlcore.options.engine import EvaluationOptions
from mlcore.protocols import PlaceTable, Split
from mlcore.reporting.tables import accuracy_table, result_rows
from mlcore.retrieval.embedder import Embedder

CONDITIONS = ("overcast", "night", "never seen", "snow")


def table_of(positions, conditions=None):
    size = len(positions)
    return PlaceTable(
        index=np.arange(size) + 1000,
        positions_m=np.asarray(positions, dtype=np.float64),
        traversal=np.zeros(size, dtype=np.int64),
        traversals=("only",),
        condition=np.zeros(size, np.int64) if conditions is None else np.asarray(conditions),
        conditions=CONDITIONS,
    )


def random_case(seed, num_references=30, num_queries=40):
    """Positions on a grid of half metres, so that distances meet thresholds exactly."""
    generator = np.random.default_rng(seed)
    place = np.array([620_000.0, 5_735_000.0])
    references = place + generator.integers(0, 80, (num_references, 2)) / 2
    queries = place + generator.integers(0, 80, (num_queries, 2)) / 2
    queries[0] = references[3] + [6.0, 8.0]  # exactly 10 m
    conditions = generator.choice([0, 1, 3], num_queries)
    conditions[:3] = [0, 1, 3]
    split = Split(references=table_of(references), queries=table_of(queries, conditions))
    embeddings = [
        generator.normal(size=(size, 3)).astype(np.float32)
        for size in (num_references, num_queries)
    ]
    return split, *embeddings


def slow_measures(split, references, queries, options):
    """Return top-1 distances, nearest distances and hits by explicit loops."""
    top, nearest, hits = [], [], []
    for row, query in enumerate(queries.astype(np.float64)):
        order = sorted(
            range(len(references)),
            key=lambda place: np.sum((references[place].astype(np.float64) - query) ** 2),
        )
        metres = [
            math.dist(split.references.positions_m[place], split.queries.positions_m[row])
            for place in order
        ]
        top.append(metres[0])
        nearest.append(min(metres))
        hits.append([distance <= options.recall_radius_m for distance in metres])
    return top, nearest, hits


@given(seed=st.integers(0, 2**32), radius=st.sampled_from([5.0, 10.0, 25.0]))
@settings(max_examples=25, deadline=None)
def test_measures_equal_loops(seed, radius):
    split, references, queries = random_case(seed)
    options = EvaluationOptions(recall_radius_m=radius)
    found = evaluate_split(references, queries, split, options, name="random")
    top, nearest, hits = slow_measures(split, references, queries, options)
    for condition in (None, "overcast", "night", "snow"):
        rows = [
            row
            for row, code in enumerate(split.queries.condition)
            if condition is None or CONDITIONS[code] == condition
        ]
        share = len(rows)
        assert found.num_queries(condition) == share
        for threshold in (5.0, 10.0, 15.0, 0.5):
            assert found.accuracy(threshold, condition) == pytest.approx(
                sum(top[row] < threshold for row in rows) / share
            )
            assert found.upper_bound(threshold, condition) == pytest.approx(
                sum(nearest[row] < threshold for row in rows) / share
            )
        for limit in (10.0, 25.0, 50.0):
            assert found.area(limit, condition) == pytest.approx(
                sum(max(0.0, 1 - top[row] / limit) for row in rows) / share
            )
        for number in (1, 5, 10, 20):
            assert found.recall(number, condition) == pytest.approx(
                sum(any(hits[row][:number]) for row in rows) / share
            )
        curve = found.curve(condition)
        assert len(curve.threshold_m) == 50
        assert (curve.threshold_m[0], curve.threshold_m[-1]) == (0.0, 25.0)
        for point in (0, 1, 20, 49):
            threshold = curve.threshold_m[point]
            assert curve.accuracy[point] == pytest.approx(
                sum(top[row] < threshold for row in rows) / share
            )
            assert curve.upper_bound[point] == pytest.approx(
                sum(nearest[row] < threshold for row in rows) / share
            )


def test_thresholds_are_strict_and_the_recall_radius_is_not():
    split = Split(references=table_of([[0.0, 0.0]]), queries=table_of([[6.0, 8.0]]))
    one = np.ones((1, 2), dtype=np.float32)
    options = EvaluationOptions(recall_radius_m=10.0)
    found = evaluate_split(one, one, split, options, name="only")
    assert found.distance_m.tolist() == [10.0]
    assert (found.accuracy(10.0), found.accuracy(np.nextafter(10.0, 11))) == (0.0, 1.0)
    assert (found.upper_bound(10.0), found.upper_bound(np.nextafter(10.0, 11))) == (0.0, 1.0)
    assert found.recall(1) == 1.0
    closer = replace(options, recall_radius_m=np.nextafter(10.0, 9))
    assert evaluate_split(one, one, split, closer, name="only").recall(1) == 0.0


def test_no_accuracy_is_above_its_bound():
    split, *_ = random_case(0)
    perfect = split.references.positions_m - split.references.positions_m.mean(axis=0)
    queries = split.queries.positions_m - split.references.positions_m.mean(axis=0)
    found = evaluate_split(
        perfect.astype(np.float32),
        queries.astype(np.float32),
        split,
        EvaluationOptions(),
        name="oracle",
    )
    np.testing.assert_array_equal(found.distance_m, found.nearest_m)
    assert (found.curve().accuracy == found.curve().upper_bound).all()


def test_positions_may_have_three_axes():
    split = Split(references=table_of([[0.0, 0.0, 0.0]]), queries=table_of([[0.0, 3.0, 4.0]]))
    one = np.ones((1, 2), dtype=np.float32)
    found = evaluate_split(one, one, split, EvaluationOptions(), name="only")
    assert (found.distance_m.tolist(), found.nearest_m.tolist()) == ([5.0], [5.0])


def test_recall_of_more_than_was_retrieved():
    split, references, queries = random_case(0)
    options = EvaluationOptions(recall_at=(1, 2))
    found = evaluate_split(references, queries, split, options, name="random")
    with pytest.raises(ValueError, match="Recall@3: only 2 were retrieved"):
        found.recall(3)


def test_json_brings_everything_back():
    split, references, queries = random_case(1)
    found = evaluate_split(
        references, queries, split, EvaluationOptions(), name="a", skipped=("x.jpg",)
    )
    text = json.dumps(to_document([found]), allow_nan=False)
    (again,) = from_document(json.loads(text))
    assert json.dumps(to_document([again])) == text
    assert again.protocol == found.protocol
    assert again.protocol.digest == found.protocol.digest
    np.testing.assert_array_equal(again.distance_m, found.distance_m)
    summary = json.loads(text)["evaluations"][0]["summary"]
    assert set(summary["conditions"]) == {"overcast", "night", "snow"}
    assert summary["overall"]["accuracy"]["10"] == found.accuracy(10.0)
    assert summary["overall"]["area"]["25"] == found.area(25.0)


@pytest.mark.parametrize("content", [None, [], {"format": 2}, {"format": 1}])
def test_json_of_something_else(content):
    with pytest.raises(DataError, match="format 1"):
        from_document(content)


def test_json_with_a_missing_column():
    split, references, queries = random_case(1)
    options = EvaluationOptions()
    content = to_document([evaluate_split(references, queries, split, options, name="a")])
    del content["evaluations"][0]["distance_m"]
    with pytest.raises(DataError, match="distance_m"):
        from_document(content)


def test_results_of_different_protocols_are_not_put_side_by_side():
    split, references, queries = random_case(1)
    first, second = (
        evaluate_split(references, queries, split, options, name=name)
        for name, options in (
            ("a", EvaluationOptions()),
            ("b", EvaluationOptions(recall_radius_m=5.0)),
        )
    )
    assert first.protocol.digest != second.protocol.digest
    with pytest.raises(DataError, match=r"'a' and 'b' .* recall_radius_m is 25.0 and 5.0"):
        require_same_protocol([first, second])


def test_table_has_a_row_for_each_condition_and_model():
    split, references, queries = random_case(1)
    found = [
        evaluate_split(references, queries, split, EvaluationOptions(), name=name)
        for name in ("untrained", "trained")
    ]
    rows = result_rows(found, columns(found[0].protocol, "accuracy"))
    assert [(row.condition, row.model) for row in rows] == [
        (condition, model)
        for condition in ("overcast", "night", "snow", "all queries")
        for model in ("untrained", "trained", "upper bound")
    ]
    assert rows[0].values == (
        *(found[0].accuracy(d, "overcast") for d in (5, 10, 15)),
        found[0].area(25.0, "overcast"),
        found[0].recall(1, "overcast"),
    )
    assert rows[-1].values[3:] == (found[0].area_bound(25.0), None)
    assert accuracy_table(found).row_count == 12


def test_the_table_says_how_embeddings_were_whitened():
    split, references, queries = random_case(1)
    plain = evaluate_split(references, queries, split, EvaluationOptions(), name="pixels")
    assert "not whitened (--evaluation.whitening)" in accuracy_table([plain]).title
    whitened = replace(plain, model="trained", whitening="train", whitening_images=400)
    title = accuracy_table([plain, whitened]).title
    assert "whitened to 3 dimensions on 400 training images" in title


def test_evaluating_a_model_on_images(synthetic_dataset):
    embedder = Embedder(model=PixelModel(), input_size=(32, 64))
    options = EvaluationOptions(spacing_m=5.0)
    found = evaluate_model(
        embedder, synthetic_dataset, synthetic_dataset.test, options, name="pixels"
    )
    assert found.protocol.num_references == 20  # a lap of 60 images, 2.09 m apart
    assert found.protocol.data_fingerprint == "synthetic"
    assert (found.whitening, found.whitening_images, found.dimensions) == ("none", 0, 1536)
    assert found.present_conditions == ("sun", "night")
    options = EvaluationOptions()
    found, again = (
        evaluate_model(
            embedder, synthetic_dataset, synthetic_dataset.test, options, name="pixels"
        )
        for _ in range(2)
    )
    assert found.accuracy(10.0, "sun") == 1.0  # brightness alone does not fool pixels
    assert to_document([again]) == to_document([found])


@pytest.mark.parametrize("missing", ["references", "queries"])
def test_a_split_without_images(synthetic_dataset, missing):
    split = synthetic_dataset.test
    split = replace(split, **{missing: getattr(split, missing).take(slice(0))})
    embedder = Embedder(model=PixelModel(), input_size=(32, 64))
    with pytest.raises(DataError, match=f"validation split has no {missing[:4]}"):
        evaluate_model(
            embedder,
            synthetic_dataset,
            split,
            EvaluationOptions(),
            name="pixels",
            split_name="validation",
        )


@pytest.mark.parametrize("available", [False, True])
def test_images_are_embedded_where_the_model_was_trained(monkeypatch, available):
    monkeypatch.setattr("torch.cuda.is_available", lambda: available)
    assert device_of("cpu").type == "cpu"
    if available:
        assert device_of("gpu").type == "cuda"
    else:
        with pytest.raises(ConfigError, match="gpu needs a GPU, and PyTorch finds none"):
            device_of("gpu")
    assert device_of("auto").type == ("cuda" if available else "cpu")
