"""Sweeps agree with evaluating each setting by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks._networks import network
from mlcore.errors import ConfigError
from mlcore.evaluation.evaluate import evaluate_model
from mlcore.evaluation.sweeps import embed_split, mean_accuracy, sweep
from mlcore.options.engine import EvaluationOptions
from mlcore.reporting.figures.sweeps import (
    save_dimensions,
    save_spacings,
    sweep_document,
    sweep_table,
)
from mlcore.retrieval.embedder import Embedder

OPTIONS = EvaluationOptions(dimensions=24, thresholds_m=(5.0,))


def embedder_of(name, **options):
    model = network(name, **options)
    return Embedder(model=model.eval(), input_size=(32, 64))


@pytest.fixture
def small_cnn():
    return embedder_of("small-cnn", width=8, embedding_dim=24)


def test_each_setting_is_what_evaluating_it_alone_gives(small_cnn, synthetic_dataset):
    dataset = synthetic_dataset
    embedded = embed_split(small_cnn, dataset, dataset.test, OPTIONS)
    found = sweep(
        embedded,
        OPTIONS,
        dimensions=(4, 12, 24),
        spacings_m=(0.0, 5.0),
        name="model",
        data_fingerprint=dataset.fingerprint,
    )
    assert [(one.protocol.spacing_m, one.dimensions) for one in found] == [
        *((0.0, size) for size in (4, 12, 24)),
        *((5.0, size) for size in (4, 12, 24)),
    ]
    for one in found:
        options = replace(OPTIONS, dimensions=one.dimensions, spacing_m=one.protocol.spacing_m)
        alone = evaluate_model(small_cnn, dataset, dataset.test, options, name="model")
        assert one.protocol == alone.protocol
        np.testing.assert_array_equal(one.reference_index, alone.reference_index)
        np.testing.assert_array_equal(one.distance_m, alone.distance_m)
        np.testing.assert_allclose(one.embedding_distance, alone.embedding_distance, rtol=1e-5)


def test_images_are_embedded_once(small_cnn, synthetic_dataset):
    embedded_images = []
    counting = replace(
        small_cnn,
        progress=lambda what, done, *_: embedded_images.append((what, done)),
    )
    embed_split(counting, synthetic_dataset, synthetic_dataset.test, OPTIONS, name="m")
    assert [done for what, done in embedded_images if what == "m: queries"] == [64, 120]
    before = len(embedded_images)
    embedded = embed_split(small_cnn, synthetic_dataset, synthetic_dataset.test, OPTIONS)
    sweep(embedded, OPTIONS, dimensions=(2, 8), spacings_m=(0.0, 3.0, 9.0), name="m")
    assert len(embedded_images) == before


def test_progress_counts_settings(small_cnn, synthetic_dataset):
    embedded = embed_split(small_cnn, synthetic_dataset, synthetic_dataset.test, OPTIONS)
    seen = []
    sweep(
        embedded,
        OPTIONS,
        dimensions=(2, 8),
        spacings_m=(0.0, 3.0, 9.0),
        name="m",
        progress=lambda *report: seen.append(report),
    )
    assert seen == [("m: sweep", done, 6) for done in range(1, 7)]


def test_dimensions_that_whitening_does_not_have_are_judged_once(small_cnn, synthetic_dataset):
    embedded = embed_split(
        small_cnn, synthetic_dataset, synthetic_dataset.test, replace(OPTIONS, dimensions=256)
    )
    found = sweep(embedded, OPTIONS, dimensions=(8, 64, 256), spacings_m=(0.0,), name="m")
    assert [one.dimensions for one in found] == [8, 24]


def test_pixels_have_no_order_of_dimensions(synthetic_dataset):
    embedded = embed_split(
        embedder_of("pixels"), synthetic_dataset, synthetic_dataset.test, OPTIONS
    )
    (only,) = sweep(embedded, OPTIONS, dimensions=(8, 16), spacings_m=(0.0,), name="m")
    assert only.dimensions == 64 * 24
    assert (only.whitening, only.whitening_images) == ("none", 0)


def test_the_mean_weighs_conditions_alike(small_cnn, synthetic_dataset):
    embedded = embed_split(small_cnn, synthetic_dataset, synthetic_dataset.test, OPTIONS)
    (one,) = sweep(embedded, OPTIONS, dimensions=(24,), spacings_m=(0.0,), name="m")
    few = np.flatnonzero((one.condition == 0) | (np.arange(len(one.condition)) % 4 == 0))
    fewer = replace(
        one,
        condition=one.condition[few],
        # Right in one condition and wrong in the other, whatever the network does.
        distance_m=np.where(one.condition == 0, 0.0, 100.0)[few],
        nearest_m=one.nearest_m[few],
    )
    by_condition = [fewer.accuracy(5.0, name) for name in fewer.present_conditions]
    assert mean_accuracy(fewer, 5.0) == pytest.approx(sum(by_condition) / 2)
    assert mean_accuracy(fewer, 5.0) != pytest.approx(fewer.accuracy(5.0))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"dimensions": (0, 4), "spacings_m": (0.0,)},
            "--dimensions must be at least 1, got 0",
        ),
        ({"dimensions": (4,), "spacings_m": (-1.0,)}, "spacing_m must not be negative, got -1"),
    ],
)
def test_settings_that_make_no_sense(small_cnn, synthetic_dataset, settings, message):
    embedded = embed_split(small_cnn, synthetic_dataset, synthetic_dataset.test, OPTIONS)
    with pytest.raises(ConfigError, match=message):
        sweep(embedded, OPTIONS, name="m", **settings)


def test_pictures_table_and_document(small_cnn, synthetic_dataset, tmp_path):
    embedded = embed_split(small_cnn, synthetic_dataset, synthetic_dataset.test, OPTIONS)
    found = [
        one
        for name in ("untrained", "$trained_{")
        for one in sweep(
            embedded, OPTIONS, dimensions=(4, 23, 24), spacings_m=(0.0, 5.0), name=name
        )
    ]
    save_dimensions(
        [one for one in found if not one.protocol.spacing_m], tmp_path / "d.png", threshold_m=5
    )
    save_spacings(
        [one for one in found if one.dimensions == 24], tmp_path / "s.png", threshold_m=5
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d.png", "s.png"]
    assert sweep_table(found, threshold_m=5).row_count == 12
    row = sweep_document(found, threshold_m=5)["rows"][0]
    assert (row["dimensions"], row["num_references"], row["whitening"]) == (4, 60, "train")
    assert row["mean_accuracy"] == mean_accuracy(found[0], 5)
    assert set(row["conditions"]) == {"sun", "night"}
