"""The comparison on real photographs: its choice of settings never sees the test."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import photographs
from benchmarks._photograph_tables import Choice, quantities, tabulated
from benchmarks._photographs import NUM_BLOCKS, SETS, TRAINED, WithoutBlock, named
from benchmarks.regimes.rows import Setting
from mlcore.evaluation.results import Evaluation, EvaluationProtocol
from mlcore.experiment import open_dataset
from mlcore.options import parse_run
from mlcore.registry.discovery import Registry


@pytest.fixture(scope="module")
def registry():
    return Registry.discover()


@pytest.fixture(scope="module")
def seneca(registry):
    root = ("--dataset.root", str(photographs.common.ROOT / "examples" / "seneca"))
    return open_dataset(parse_run([*SETS[2].words(), *root], registry))


def test_every_loss_has_as_many_tries_with_options_that_are_known(registry):
    for trained in TRAINED:
        for one in SETS:
            rows = one.rows()
            assert {len(trained.tries(row)) for row in rows} == {4}
            for row in rows:
                for setting in trained.tries(row):
                    words = [*one.words(), *trained.regime.options(), *row.options(setting)]
                    parse_run(words, registry)


def test_losses_fit_the_length_of_the_route():
    rows = {row.name: row for row in SETS[0].rows()}
    assert rows["proposed"].words[-4:] == (
        *("--influence.cutoff_m", "3"),
        *("--influence.steepness_per_m", "4"),
    )
    assert rows["rince"].words[-1] == "1,2,3"
    assert rows["similarity-regression"].values == ("3", "2")


def test_blocks_part_the_training_photographs_and_leave_the_test_alone(seneca):
    parts = [WithoutBlock(seneca, block) for block in range(NUM_BLOCKS)]
    for table in ("references", "queries"):
        every = getattr(seneca.train, table)
        left_out = [getattr(part.validation, table) for part in parts]
        assert sorted(np.concatenate([one.index for one in left_out])) == sorted(every.index)
        for part, one in zip(parts, left_out, strict=True):
            rest = getattr(part.train, table)
            assert sorted([*rest.index, *one.index]) == sorted(every.index)
            assert part.test is seneca.test
    spans_m = [
        (np.concatenate([t.positions_m[:, 0] for t in (p.references, p.queries)]))
        for p in (part.validation for part in parts)
    ]
    assert spans_m[0].max() <= spans_m[1].min() <= spans_m[1].max() <= spans_m[2].min()


def evaluation(distance_m):
    distance_m = np.asarray(distance_m, dtype=np.float64)
    zeros = np.zeros(len(distance_m), dtype=np.int64)
    return Evaluation(
        model="m",
        protocol=EvaluationProtocol(
            data_fingerprint="",
            split="test",
            num_references=9,
            num_queries=len(distance_m),
            spacing_m=0.0,
            thresholds_m=(2.0,),
            auc_limits_m=(25.0,),
            recall_at=(1,),
            recall_radius_m=2.0,
        ),
        whitening="none",
        whitening_images=0,
        dimensions=2,
        conditions=("sun",),
        condition=zeros,
        query_index=zeros,
        reference_index=zeros,
        distance_m=distance_m,
        embedding_distance=distance_m,
        nearest_m=np.zeros(len(distance_m)),
        first_hit_rank=np.where(distance_m <= 2, 0, -1),
    )


def test_measures_are_those_of_the_evaluation():
    one = evaluation([0.0, 2.0, 5.0, 40.0])
    area, recall = (float(q.numerator(one).mean()) for q in quantities(SETS[0]))
    assert area == pytest.approx(one.area(25.0))
    assert recall == one.recall(1) == 0.5


def test_a_table_says_how_many_losses_can_be_told_apart():
    generator = np.random.default_rng(0)
    rows = {row.name: row for row in SETS[0].rows()}
    runs = {
        "proposed": [generator.uniform(0, 20, 60) for _ in range(3)],
        "rince": [generator.uniform(0, 2, 60) for _ in range(3)],
    }
    runs["proposed+step"] = runs["proposed"]
    chosen = {name: Choice(Setting("1e-3", "1.0"), rows[name], 0.9) for name in runs}
    evaluations = {name: [evaluation(m) for m in found] for name, found in runs.items()}
    evaluations["pixels"] = [evaluation(generator.uniform(0, 40, 60))]
    part = tabulated(SETS[0], TRAINED[0], evaluations, chosen, ["pml-nt-xent"])
    assert (part.num_apart, part.num_trained) == (1, 2)
    assert "| proposed+step | 1e-3 | base 1.0 | 90.0 |" in part.text
    assert "+0.0 [+0.0, +0.0] | 1.000 |" in part.text
    assert "Diverged, and not compared: pml-nt-xent." in part.text


def test_a_run_that_is_out_of_time_is_not_begun(tmp_path, registry):
    study = photographs.Study(SimpleNamespace(runs=tmp_path), (0,), 2, -1.0, registry)
    job = photographs.PhotoJob(
        row="x", path=tmp_path / "x.json", options=(), seed=0, splits=("test",)
    )
    with pytest.raises(photographs.OutOfTimeError):
        photographs.done(study, job, TRAINED[0], town=None)
    assert not job.path.exists()


def test_what_is_saved_names_no_folder():
    words = ["--data", "/a", "--save", "--runs", "/b"]
    assert photographs._portable(words) == ["--data", "DATA", "--save", "--runs", "RUNS"]


def test_a_wrong_name_is_refused(capsys):
    assert [one.name for one in named("corridor", SETS)] == ["corridor"]
    with pytest.raises(SystemExit):
        photographs.main(["--sets", "senecca"])
    assert (
        "must be one of stromovka, corridor, seneca, got 'senecca'" in capsys.readouterr().err
    )
    with pytest.raises(SystemExit):
        photographs.main(["--sets", "corridor"])
    assert "give --data for corridor" in capsys.readouterr().err
