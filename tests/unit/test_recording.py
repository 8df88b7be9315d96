"""Results of several protocols in one run folder: side by side, and none lost."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mlcore.errors import DataError
from mlcore.evaluation.documents import to_document
from mlcore.evaluation.evaluate import evaluate_split
from mlcore.evaluation.recording import record, recorded
from mlcore.options.engine import EvaluationOptions
from mlcore.protocols import PlaceTable, Split
from mlcore.run_folder import RunFolder


def results(*names, seed=0, data="data-1", **options):
    """Results that depend on the name and the seed alone."""

    def table(first):
        generator = np.random.default_rng(first)
        return PlaceTable(
            index=np.arange(12),
            positions_m=generator.uniform(0, 30, (12, 2)),
            traversal=np.zeros(12, dtype=np.int64),
            traversals=("t",),
            condition=np.zeros(12, dtype=np.int64),
            conditions=("c",),
        )

    split = Split(references=table(1), queries=table(2))
    found = []
    for name in names:
        generator = np.random.default_rng([seed, *name.encode()])
        embeddings = [generator.normal(size=(12, 3)).astype(np.float32) for _ in range(2)]
        found.append(
            evaluate_split(
                *embeddings, split, EvaluationOptions(**options), name=name,
                data_fingerprint=data, whitening="none" if name == "pixels" else "train",
            )
        )  # fmt: skip
    return found


def written(found):
    """Return results as their file holds them."""
    return json.loads(json.dumps(to_document(found)))


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path)


def test_the_first_results_are_the_run_s_own(run):
    first = results("untrained", "pixels", "trained")
    assert record(run, first) == run.evaluation
    assert json.loads(run.evaluation.read_text()) == written(first)


@pytest.mark.parametrize(
    "other",
    [
        results("trained", data="data-2"),
        results("trained", recall_radius_m=5.0),
        results("trained", seed=1),
        [replace(one, whitening="none") for one in results("trained")],
        [replace(one, whitening="references") for one in results("untrained")],
    ],
    ids=["data", "options", "weights", "whitening", "another model's whitening"],
)
def test_other_results_get_a_file_of_their_own(run, other):
    record(run, results("pixels", "trained"))
    before = run.evaluation.read_bytes()
    path = record(run, other)
    assert path.parent == run.evaluations
    assert run.evaluation.read_bytes() == before
    assert json.loads(path.read_text()) == written(other)
    assert record(run, other) == path
    assert [one.path for one in recorded(run)] == [run.evaluation, path]


def test_equal_protocols_with_other_numbers_do_not_replace_each_other(run):
    paths = [record(run, results("trained", seed=seed)) for seed in range(4)]
    assert len(set(paths)) == 4
    assert paths[2].name == paths[1].name.replace(".json", "-2.json")
    for seed, one in enumerate(recorded(run)):
        assert written(one.results) == written(results("trained", seed=seed))


def test_models_are_added_to_results_of_the_same_protocol(run):
    record(run, results("trained"))
    assert record(run, results("untrained", "pixels", "trained")) == run.evaluation
    (only,) = recorded(run)
    assert [one.model for one in only.results] == ["trained", "untrained", "pixels"]
    before = run.evaluation.read_bytes()
    record(run, results("pixels"))
    assert run.evaluation.read_bytes() == before


def test_training_takes_the_place_of_its_own_results_and_keeps_the_older(run):
    record(run, results("trained", seed=0), own=True)
    assert record(run, results("trained", seed=1), own=True) == run.evaluation
    assert [written(one.results) for one in recorded(run)] == [
        written(results("trained", seed=seed)) for seed in (1, 0)
    ]
    # Trained back to where it was: these are its own results again, and still none is lost.
    record(run, results("trained", seed=0), own=True)
    assert written(recorded(run)[0].results) == written(results("trained", seed=0))
    kept = [written(one.results) for one in recorded(run)]
    assert written(results("trained", seed=1)) in kept


def test_a_file_that_is_no_evaluation_is_named(run):
    run.evaluation.write_text("{}")
    with pytest.raises(DataError, match=r"evaluation\.json: expected an evaluation"):
        record(run, results("trained"))
