"""When an answer can be trusted: thresholds from validation, and answers by them."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mlcore.errors import DataError
from mlcore.retrieval.confidence import (
    Confidence,
    distance_elsewhere,
    fit_confidence,
    read_confidence,
    save_confidence,
)

THRESHOLDS = Confidence(
    distance=1.0,
    ratio=0.9,
    distance_alone=0.5,
    elsewhere_m=10.0,
    num_queries=20,
    num_sure=5,
    num_right=5,
)


def found(distance, easting_m=0.0, region=None):
    position = None if easting_m is None else (easting_m, 0.0)
    return SimpleNamespace(embedding_distance=distance, position_m=position, region=region)


@pytest.mark.parametrize(
    ("references", "confidence", "reason"),
    [
        ([found(0.5), found(0.52, 10.0), found(0.6, 11.0)], "sure", ""),
        ([found(0.9), found(1.0, 11.0)], "sure", ""),  # both thresholds are inclusive
        (
            [found(1.1), found(9.0, 50.0)],
            "unsure",
            "embedding distance of 1.100, which is more",
        ),
        ([found(0.5), found(0.52, 11.0)], "unsure", "ratio of the distances is 0.962"),
        ([found(0.5, 0.0, "a"), found(0.52, 0.0, "b")], "unsure", "0.962"),
        ([found(0.5), found(0.52, 1.0)], "unsure", "0.962"),  # the last stands for elsewhere
        ([found(0.5, None), found(0.501, None)], "sure", ""),
        ([found(0.51, None), found(5.0, None)], "unsure", "0.510, which is more than 0.500"),
        ([], "unsure", "no reference"),
    ],
)
def test_an_answer_is_sure_if_near_and_alone(references, confidence, reason):
    answer = THRESHOLDS.answer(references)
    assert answer.confidence == confidence
    assert reason in answer.reason
    assert bool(answer.reason) == (confidence == "unsure")


def test_altitude_counts_only_where_both_have_one():
    first = SimpleNamespace(embedding_distance=1.0, position_m=(0.0, 0.0, 0.0), region=None)
    above = SimpleNamespace(embedding_distance=2.0, position_m=(0.0, 0.0, 99.0), region=None)
    beside = SimpleNamespace(embedding_distance=3.0, position_m=(50.0, 0.0), region=None)
    assert distance_elsewhere([first, above, beside], 10.0) == 2.0
    assert distance_elsewhere([first, beside, above], 10.0) == 3.0


def test_thresholds_keep_the_most_right_answers_at_the_precision():
    """Queries are wrong beyond a distance of 1 or a ratio of 0.8, and nowhere else."""
    rng = np.random.default_rng(0)
    distance = rng.uniform(0.2, 2.0, 400)
    ratio = rng.uniform(0.2, 1.0, 400)
    is_right = (distance < 1.0) & (ratio < 0.8)
    made = fit_confidence(distance, distance / ratio, is_right, 25.0)
    assert made.distance == pytest.approx(distance[is_right].max(), abs=0.02)
    assert made.ratio == pytest.approx(ratio[is_right].max(), abs=0.01)
    assert made.num_queries == 400
    assert made.num_right >= 0.99 * made.num_sure
    assert made.num_right >= 0.97 * is_right.sum()


def test_one_wrong_answer_in_a_hundred_is_allowed():
    distance, elsewhere = np.linspace(0.1, 0.9, 100), np.full(100, 1.0)
    one_wrong, two_wrong = np.ones(100, bool), np.ones(100, bool)
    one_wrong[50], two_wrong[50:52] = False, False
    assert fit_confidence(distance, elsewhere, one_wrong, 25.0).num_sure == 100
    assert fit_confidence(distance, elsewhere, two_wrong, 25.0).num_sure == 50


def test_equal_distances_are_sure_together_or_not_at_all():
    distance, elsewhere = np.array([0.1, 0.5, 0.5]), np.ones(3)
    made = fit_confidence(distance, elsewhere, np.array([True, True, False]), 25.0)
    assert (made.distance, made.num_sure) == (0.1, 1)


def test_nothing_is_sure_where_every_answer_is_wrong():
    made = fit_confidence(np.array([0.2, 0.4]), np.ones(2), np.zeros(2, bool), 25.0)
    assert (made.distance, made.distance_alone, made.num_sure) == (0.0, 0.0, 0)
    assert made.answer([found(0.2), found(1.0, 50.0)]).confidence == "unsure"
    assert str(made) == "of 2 validation queries 0 are sure (within 25 m)"


def test_they_are_kept_in_a_file(tmp_path):
    assert read_confidence(tmp_path) is None
    save_confidence(tmp_path, THRESHOLDS)
    assert read_confidence(tmp_path) == THRESHOLDS
    save_confidence(tmp_path, None)
    assert read_confidence(tmp_path) is None
    (tmp_path / "confidence.json").write_text("{")
    with pytest.raises(DataError, match=r"confidence\.json cannot be read"):
        read_confidence(tmp_path)
