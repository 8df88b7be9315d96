"""Where the gradient of the proposed loss goes, and robustness to dimension and spacing."""

from __future__ import annotations

import math

import pytest
import torch

from benchmarks import dimensions, why
from benchmarks._pull import ZONES, Probe, pull, summary, zone_of
from benchmarks.regimes.research import weights_of
from mlcore.options import parse_run
from mlcore.registry.discovery import Registry
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.dense import normalized
from mlcore_soft_contrastive.influence import Sigmoid, Step
from mlcore_soft_contrastive.loss import BatchLoss
from tests.support.scene import scene


@pytest.mark.parametrize("mining", [True, False])
@pytest.mark.parametrize("influence", [Sigmoid(), Step()])
def test_the_gradient_of_pairs_adds_up_to_that_of_the_loss(mining, influence):
    embeddings, batch = scene()
    config = SoftContrastiveConfig(mining=mining, base=0.8)
    found = pull(
        embeddings, weights_of(BatchLoss(config, influence), embeddings, batch), config
    )

    gradients = []
    for surrogate in (False, True):
        leaf = embeddings.clone().requires_grad_()
        if surrogate:
            x = normalized(leaf)
            value = (x @ x.T * found.gradient).sum()
        else:
            value = BatchLoss(config, influence)(leaf, batch).loss
        value.backward()
        gradients.append(leaf.grad)
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_the_norm_of_a_pair_is_that_of_its_gradient_at_a_unit_embedding():
    embeddings, batch = scene()
    config = SoftContrastiveConfig(mining=False)
    found = pull(
        embeddings, weights_of(BatchLoss(config, Sigmoid()), embeddings, batch), config
    )
    leaf = normalized(embeddings).requires_grad_()
    row, column = 2, 5
    cosine = torch.nn.functional.cosine_similarity(leaf[row], leaf[column].detach(), dim=0)
    (found.gradient[row, column] * cosine).backward()
    assert float(found.norm[row, column]) == pytest.approx(float(leaf.grad[row].norm()))


def test_shares_by_explicit_loops():
    embeddings, batch = scene()
    config = SoftContrastiveConfig(mining=False, base=0.9, beta=20.0)
    found = pull(
        embeddings, weights_of(BatchLoss(config, Sigmoid()), embeddings, batch), config
    )
    figures = summary(found, zone_of(torch.cdist(batch.positions_m, batch.positions_m)))

    x = torch.nn.functional.normalize(embeddings, dim=1)
    similarity = (x @ x.T).clamp(min=0.0).tolist()
    distance_m = torch.cdist(batch.positions_m, batch.positions_m).tolist()
    influence, size = Sigmoid(), len(x)
    weight = influence(torch.cdist(batch.positions_m, batch.positions_m)).tolist()
    far, on, near = [], [], []
    for i in range(size):
        up = {
            j: math.exp(-config.alpha * (weight[i][j] * similarity[i][j] - config.base))
            for j in range(size)
            if j != i
        }
        down = {
            j: math.exp(config.beta * ((1 - weight[i][j]) * similarity[i][j] - config.base))
            for j in range(size)
        }
        far.append(sum(up[j] for j in up if distance_m[i][j] >= 20) / (1 + sum(up.values())))
        on.append(sum(down[j] for j in up) / (1 + sum(down.values())))
        near += [similarity[i][j] for j in up if distance_m[i][j] < 10]
    assert figures["sum far"] == pytest.approx(sum(far) / size)
    assert figures["repulsion"] == pytest.approx(sum(on) / size)
    assert figures["similarity near"] == pytest.approx(sum(near) / len(near))
    shares = [figures[f"{what} {z}"] for what in ("attract", "repel") for z in ZONES]
    assert sum(shares) == pytest.approx(1.0)
    assert figures["kept"] == 1.0


def test_zones():
    distance_m = torch.tensor([0.0, 9.99, 10.0, 19.99, 20.0, 900.0])
    assert zone_of(distance_m).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_probe_changes_nothing_and_records_each_batch():
    embeddings, batch = scene()
    loss, records = BatchLoss(SoftContrastiveConfig(), Sigmoid()), []
    output = Probe(loss, records)(embeddings, batch)
    assert float(output.loss) == float(loss(embeddings, batch).loss)
    assert len(records) == 1


def test_the_options_of_all_runs_are_known():
    registry = Registry.discover()
    for start in why.STARTS:
        for variant in why.VARIANTS:
            words = [*start.regime.options(), "--loss", "proposed", *variant.words]
            words += ["--training.learning_rate", start.learning_rate]
            config = parse_run(words, registry)
            assert config.training.learning_rate == float(start.learning_rate)
            assert ("lambda 0.6" in variant.name) == (config.loss.options.base == 0.6)


def test_means_of_runs_leave_out_steps_without_such_pairs():
    steps = [{"similarity band": value} for value in (0.2, float("nan"), 0.6, 0.9)]
    assert why.Found(0.5, 0.4, steps).mean("similarity band", 0, 3) == pytest.approx(0.4)


def test_the_tables_of_dimensions_show_means_and_shares():
    def figures(scale):
        return {
            kind: {
                "sizes": [2, 250],
                "dimensions": [0.2 * scale, 0.8 * scale],
                "spacings": [0.8 * scale, 0.4 * scale, 0.4, 0.4, 0.4],
                "bound": [1.0, 0.9, 0.8, 0.7, 0.6],
            }
            for kind in dimensions.KINDS
        }

    text = dimensions.tables({"proposed": [figures(1.0), figures(0.5)]})
    assert "| model | 2 | 250 |" in text
    assert "| proposed | 15.0 (25) | 60.0 (100) |" in text
    assert "| proposed | 60.0 (100) | 30.0 (50) |" in text
    assert "| upper bound | 100.0 | 90.0 |" in text
