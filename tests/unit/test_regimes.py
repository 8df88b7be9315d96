"""The comparison of losses in three regimes: its runs, its statistics, its order of work."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks import localization
from benchmarks.regimes import main as regimes
from benchmarks.regimes import plan, runs, statistics, towns
from benchmarks.regimes.research import Change, ChangedLoss, Cutoffs, Spread
from benchmarks.regimes.rows import BY_NAME, REGIMES, ROWS, Setting
from benchmarks.regimes.variants import MOST_RUNS, SEARCH_TOWNS, VARIANTS
from mlcore.cli.main import main as mlcore
from mlcore.evaluation.documents import from_document
from mlcore.evaluation.results import Evaluation, EvaluationProtocol
from mlcore.factories import BuildContext
from mlcore.options import parse_run
from mlcore.protocols import LossOutput
from mlcore.registry.discovery import Registry
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.influence import Sigmoid
from mlcore_soft_contrastive.loss import BatchLoss
from tests.support.scene import scene

TOWN = (
    *("--dataset.train_length_m", "200", "--dataset.validation_length_m", "60"),
    *("--dataset.test_length_m", "60", "--dataset.num_processes", "1"),
)
SETTING = Setting("1e-3", "0.8")


@pytest.fixture(scope="module")
def registry():
    return Registry.discover()


def small(blocks):
    """A regime with a network of random weights, the same for one seed of training."""
    trained = {None: "all", 0: "none", 2: "2"}[blocks]
    network = (
        ("--model", "small-cnn") if blocks is None else ("--backbone", "efficientnet-lite0")
    )
    return replace(
        REGIMES["frozen"],
        words=(
            *(*network, "--model.weights", "none", "--model.embedding_dim", "16"),
            *("--model.trainable_blocks", trained),
            *(("--training.batch_norm", "frozen") if blocks else ()),
        ),
        blocks=blocks,
        augment=blocks is None,
        towns=(1,),
        seeds=(0,),
    )


def comparison(folder, registry, **changes):
    return plan.Comparison(
        folder=folder,
        rows=(BY_NAME["proposed"], BY_NAME["pml-triplet-margin"]),
        max_steps=changes.pop("max_steps", 3),
        extra=TOWN,
        noise_m=0.0,
        deadline=changes.pop("deadline", time.monotonic() + 600),
        registry=registry,
    )


def test_there_are_as_many_losses_and_tries_as_the_comparison_asks_for(registry):
    assert len(ROWS) >= 24
    assert sum(row.graded for row in ROWS) >= 9
    assert {len(row.settings) for row in ROWS} == {6}
    assert len(VARIANTS) * len(SEARCH_TOWNS) <= MOST_RUNS
    for row in ROWS:
        for setting in row.settings:
            parse_run([*REGIMES["frozen"].options(), *row.options(setting)], registry)
    for variant in VARIANTS:
        config = parse_run([*variant.row.options(Setting("1e-3", ""))], registry)
        chosen = config.influence
        influence = chosen.factory.build(chosen.options, BuildContext(has_headings=True))
        context = BuildContext(has_headings=True, influence=influence)
        config.loss.factory.build(config.loss.options, context)
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "blocks"),
    [("pml-triplet-margin", None), ("pml-proxy-anchor", 0), ("proposed", 0), ("proposed", 2)],
)
def test_a_run_is_that_of_mlcore_train(name, blocks, registry, tmp_path):
    regime, work = small(blocks), comparison(tmp_path, registry)
    row = BY_NAME[name]
    job = work.job(regime, row, Setting("1e-3", row.values[1]), town=1, seed=0)
    found = runs.run(job, regime, work.town(job, regime), registry)

    options = [*job.options, "--seed", "0", "--dataset.town_seed", "1"]
    options += ["--evaluation.whitening", "train", "--training.accelerator", "cpu"]
    assert mlcore(["train", *options, "--out", str(tmp_path / "run")]) == 0
    document = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    (product,) = (one for one in from_document(document) if one.model == "trained")
    own = found.evaluations["test", runs.WHITENED]
    assert own.protocol == product.protocol
    np.testing.assert_allclose(own.embedding_distance, product.embedding_distance, rtol=1e-3)
    np.testing.assert_array_equal(own.distance_m, product.distance_m)


def test_work_stops_between_runs_continues_and_repeats_to_the_digit(registry, tmp_path):
    regime = small(0)
    late = comparison(tmp_path, registry, deadline=time.monotonic() - 1)
    settings = {row.name: Setting("1e-3", row.values[0]) for row in late.rows}
    jobs = plan.jobs_of(late, regime, late.rows, settings)
    with pytest.raises(plan.OutOfTimeError):
        late.do(jobs, regime)
    assert not jobs[0].path.exists()

    work = comparison(tmp_path, registry)
    first = work.do(jobs[:1], regime)
    assert late.do(jobs[:1], regime)[0].seconds == first[0].seconds  # read, not done again
    assert plan.repeat(work, regime, jobs[:1]) == []
    assert plan.repeat(work, regime, jobs[1:]) == [f"{jobs[1].path} is not there"]

    other = replace(jobs[0], options=(*jobs[0].options, "--loss.base", "0.5"))
    with pytest.raises(ValueError, match="remove it or use another --runs"):
        runs.kept(other)
    assert runs.differences(first[0], first[0]._replace(failure="x", evaluations={})) == [
        "failure",
        *(" ".join(key) for key in sorted(first[0].evaluations)),
    ]


def test_a_run_that_diverges_is_kept_as_such(registry, tmp_path):
    regime, work = small(0), comparison(tmp_path, registry)

    class Infinite(torch.nn.Module):
        def forward(self, embeddings, batch, tuples=None):
            return LossOutput(embeddings.sum() * float("inf"))

    job = work.job(regime, work.rows[0], SETTING, town=1, seed=0)
    (result,) = work.do([replace(job, adapt=lambda _: Infinite())], regime)
    assert "at step 0" in result.failure
    assert runs.kept(job) == result
    assert plan.best({Setting("1e-3", "a"): -1.0, Setting("1e-3", "b"): 0.2}).value == "b"


def test_noise_moves_training_positions_only(registry, tmp_path):
    regime, work = small(0), comparison(tmp_path, registry)
    job = work.job(regime, work.rows[0], SETTING, town=1, seed=0)
    plain, noisy, again = (
        towns.open_town(job.config(registry), regime, tmp_path, noise_m)
        for noise_m in (0.0, 5.0, 5.0)
    )
    moved_m = [
        getattr(noisy.dataset.train, part).positions_m
        - getattr(plain.dataset.train, part).positions_m
        for part in ("references", "queries")
    ]
    assert np.concatenate(moved_m).std() == pytest.approx(5.0, rel=0.1)
    np.testing.assert_array_equal(
        noisy.dataset.train.queries.positions_m, again.dataset.train.queries.positions_m
    )
    for split in ("validation", "test"):
        for part in ("references", "queries"):
            one, other = (
                getattr(getattr(town.dataset, split), part) for town in (plain, noisy)
            )
            np.testing.assert_array_equal(one.positions_m, other.positions_m)
    torch.testing.assert_close(plain.cached, noisy.cached)


def evaluation(distance_m):
    distance_m = np.asarray(distance_m, dtype=np.float64)
    size = len(distance_m)
    protocol = EvaluationProtocol(
        data_fingerprint="",
        split="test",
        num_references=9,
        num_queries=size,
        spacing_m=0.0,
        thresholds_m=(5.0,),
        auc_limits_m=(25.0,),
        recall_at=(1,),
        recall_radius_m=25.0,
    )
    zeros = np.zeros(size, dtype=np.int64)
    return Evaluation(
        model="m",
        protocol=protocol,
        whitening="none",
        whitening_images=0,
        dimensions=2,
        conditions=("sun",),
        condition=zeros,
        query_index=zeros,
        reference_index=zeros,
        distance_m=distance_m,
        embedding_distance=distance_m,
        nearest_m=np.zeros(size),
        first_hit_rank=zeros,
    )


def test_differences_are_paired_and_adjusted():
    generator = np.random.default_rng(0)
    reference = [[evaluation(generator.uniform(0, 30, 80)) for _ in range(3)] for _ in "abcd"]
    nearer = [[evaluation(0.8 * one.distance_m) for one in town] for town in reference]
    same, better, single = statistics.against(
        reference, [reference, nearer, [town[:1] for town in nearer]], statistics.AREA
    )
    assert same == (0.0, 0.0, 0.0, 1.0)
    areas = [
        np.mean([one.area(25.0) for town in rows for one in town])
        for rows in (reference, nearer)
    ]
    assert better.mean == pytest.approx(areas[1] - areas[0])
    assert 0 < better.low < better.mean < better.high
    assert better.p == pytest.approx(3 * 2 / (statistics.RESAMPLES + 1))
    firsts = np.mean([town[0].area(25.0) for town in nearer])
    assert single.mean == pytest.approx(firsts - areas[0])


def test_the_interval_of_a_difference_is_that_of_its_spread():
    generator = np.random.default_rng(1)
    queries = 400
    reference = [[evaluation(np.full(queries, 10.0))]]
    other = [[evaluation(generator.uniform(0, 20, queries))]]
    (found,) = statistics.against(reference, [other], statistics.AREA)
    deviation = (other[0][0].distance_m / 25.0).std() / np.sqrt(queries)
    assert found.high - found.low == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_holm():
    found = statistics.holm(np.array([0.04, 0.01, 0.03, 0.5]))
    assert found.tolist() == pytest.approx([0.09, 0.04, 0.09, 0.5])


@pytest.mark.parametrize("mining", [True, False])
def test_without_a_change_it_is_the_proposed_loss(mining):
    embeddings, batch = scene()
    original = BatchLoss(SoftContrastiveConfig(mining=mining), Sigmoid())
    gradients = []
    for loss in (original, ChangedLoss(original, Change())):
        leaf = embeddings.clone().requires_grad_()
        value = loss(leaf, batch).loss
        value.backward()
        gradients.append((value.detach(), leaf.grad))
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


def test_a_cutoff_goes_from_one_to_another_and_stays():
    embeddings, batch = scene()
    config = SoftContrastiveConfig()
    loss = ChangedLoss(BatchLoss(config, Sigmoid()), Change(cutoffs=Cutoffs(25.0, 5.0, 3)))
    for cutoff_m in (25.0, 15.0, 5.0, 5.0):
        expected = BatchLoss(config, Sigmoid(cutoff_m=cutoff_m))(embeddings, batch).loss
        torch.testing.assert_close(loss(embeddings, batch).loss, expected)


@pytest.mark.parametrize("divides", [True, False])
def test_changes_by_explicit_loops(divides):
    embeddings, batch = scene()
    config, influence = SoftContrastiveConfig(mining=False), Sigmoid()
    change = Change(Spread(above=1.0, sharpness=5.0), divides=divides)
    found = ChangedLoss(BatchLoss(config, influence), change)(embeddings, batch).loss

    x = torch.nn.functional.normalize(embeddings, dim=1)
    similarity, size = (x @ x.T).relu().tolist(), len(x)
    pairs = [similarity[i][j] for i in range(size) for j in range(size) if i != j]
    deviation = np.std(pairs, ddof=1)
    lambda_, beta = np.mean(pairs) + deviation, 5.0 / deviation
    distance_m = torch.cdist(batch.positions_m, batch.positions_m)
    weight = influence(distance_m).tolist()
    rows = []
    for i in range(size):
        others = [j for j in range(size) if j != i]
        attracting = sum(
            np.exp(-config.alpha * (weight[i][j] * similarity[i][j] - lambda_)) for j in others
        )
        if divides:
            attracting /= sum(weight[i][j] for j in others)
        repelling = sum(
            np.exp(beta * ((1 - weight[i][j]) * similarity[i][j] - lambda_))
            for j in range(size)
        )
        rows.append(np.log1p(attracting) / config.alpha + np.log1p(repelling) / beta)
    assert float(found) == pytest.approx(np.mean(rows), rel=1e-9)


def test_options_that_change_no_result_are_left_out_of_the_command():
    words = ["--regime", "frozen", "--runs", "/tmp/x", "--minutes=5", "--save"]
    assert regimes._reproducible(words) == ["--regime", "frozen", "--save"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--regime", "tuned", "--position-noise", "2"],
            "--position-noise needs --regime frozen",
        ),
        (["--repeat", "proposed"], "--repeat needs --regime"),
        (["--regime", "frozen", "--search-ours"], "not both"),
        (["--regime", "frozen", "--losses", "propsed"], "no row is called 'propsed'"),
    ],
)
def test_options_that_do_not_go_together(words, message, capsys):
    with pytest.raises(SystemExit):
        localization.main(words)
    assert message in capsys.readouterr().err
