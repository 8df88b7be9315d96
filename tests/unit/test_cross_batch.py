"""Cross-batch memory: what is remembered, what it adds to a loss, and exact resuming."""

from __future__ import annotations

import json
import math

import pytest
import torch

from mlcore.errors import ConfigError, NonFiniteLossError
from mlcore.experiment import assemble
from mlcore.factories import LossFactory
from mlcore.geometry import between_m
from mlcore.options import parse_run, run_to_toml
from mlcore.protocols import Batch, LossOutput, Pairs, RowwiseLoss, Triplets
from mlcore.registry.discovery import Registry
from mlcore.run_folder import RunFolder
from mlcore.testing.cases import loss_case_of, standard
from mlcore.training import fit
from mlcore.training.cross_batch import Memory, after_batch, of_current
from mlcore.training.joint import joint_loss
from mlcore.training.memory_estimate import estimate
from mlcore.training.replay import replay
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.influence import Linear
from mlcore_soft_contrastive.loss import BatchLoss

pytestmark = pytest.mark.usefixtures("synthetic_plugin")

TINY = [
    *("--dataset", "synthetic", "--model.width", "8", "--model.embedding_dim", "16"),
    *("--sampling.tuples_per_batch", "2", "--sampling.near_per_tuple", "3"),
    *("--sampling.far_per_tuple", "3", "--training.schedule", "constant"),
    *("--training.optimizer", "sgd", "--training.learning_rate", "0.1"),
    *("--training.log_every", "1", "--training.checkpoint_every", "2"),
]
BATCH = 14  # two tuples of seven images


def config_of(*words):
    return parse_run([*TINY, *words], Registry.discover())


def trained(path, *words):
    experiment = assemble(config_of(*words))
    folder = RunFolder(path)
    if not path.exists():
        folder = RunFolder.create(path, run_to_toml(experiment.config))
    assert fit(experiment, folder) == "finished"
    return experiment, folder


def rows_of(folder):
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def state_of(folder):
    return RunFolder.load_checkpoint(folder.newest_checkpoint())


def batch_of(along_m, region=None, tuple_id=None):
    size = len(along_m)
    positions = torch.zeros(size, 2, dtype=torch.float64)
    positions[:, 0] = torch.tensor(along_m, dtype=torch.float64)
    numbers = torch.arange(size)
    return Batch(
        positions_m=positions,
        headings_rad=None,
        tuple_id=numbers if tuple_id is None else torch.tensor(tuple_id),
        role=torch.zeros_like(numbers),
        place_id=numbers,
        index=numbers,
        region=None if region is None else torch.tensor(region),
        extras={"height_m": positions[:, :1]},
    )


def remembering(remembered_region):
    """Return the loss of images at 0 and 40 m, with one at 4 m remembered, and its inputs."""
    region = None if remembered_region is None else [0, 0]
    other = None if remembered_region is None else [remembered_region]
    current = torch.tensor([[1.0, 0.0], [0.6, 0.8]], dtype=torch.float64, requires_grad=True)
    past = torch.tensor([[0.8, 0.6]], dtype=torch.float64)
    memory = Memory(past, batch_of([4.0], other))
    embeddings, batch = memory.behind(current, batch_of([0.0, 40.0], region))
    config = SoftContrastiveConfig(mining=False, aggregation="plain")
    loss = BatchLoss(config, Linear(cutoff_m=10.0), heading_limit_rad=None)
    return joint_loss(loss, embeddings, batch, None, num_current=2), current


# Similarities: 0.6 of both current images, 0.8 and 0.96 with the remembered one, which attracts
# the first by 1 - 4/10 and repels it by 4/10.
@pytest.mark.parametrize(
    ("region", "expected"),
    [
        (None, ((0.6 - 0.6 * 0.8 + 0.4 * 0.8) + (0.6 + 0.96)) / 2),
        (0, ((0.6 - 0.6 * 0.8 + 0.4 * 0.8) + (0.6 + 0.96)) / 2),
        (1, ((0.6 + 0.8) + (0.6 + 0.96)) / 2),
    ],
    ids=["no regions", "same city", "another city"],
)
def test_the_loss_with_a_memory_is_that_computed_by_hand(region, expected):
    output, current = remembering(region)
    assert float(output.total) == pytest.approx(expected, rel=1e-12)
    assert sum(map(float, (output.stats["attraction"], output.stats["repulsion"]))) == (
        pytest.approx(expected, rel=1e-12)
    )
    output.mine.backward()
    # d(cosine)/d(embedding) of the second image: what it is compared with, without its own part.
    own = current.detach()[1]
    others = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.8, 0.6]], dtype=torch.float64)
    sideways = others - (others @ own)[:, None] * own
    torch.testing.assert_close(current.grad[1], sideways.sum(dim=0) / 2)


def test_another_city_is_infinitely_far():
    memory = Memory(torch.zeros(1, 2), batch_of([0.0], [1]))
    _, batch = memory.behind(torch.zeros(2, 2), batch_of([0.0, 0.0], [0, 1]))
    assert between_m(batch).tolist() == [
        [0.0, math.inf, math.inf],
        [math.inf, 0.0, 0.0],
        [math.inf, 0.0, 0.0],
    ]


def test_the_newest_images_are_remembered():
    first, second = torch.full((3, 2), 1.0), torch.full((3, 2), 2.0)
    memory = after_batch(None, first, batch_of([0, 1, 2], tuple_id=[0, 0, 1]), size=5)
    memory = after_batch(memory, second, batch_of([5, 6, 7], tuple_id=[0, 1, 1]), size=5)
    assert memory.embeddings[:, 0].tolist() == [2, 2, 2, 1, 1]
    assert memory.batch.positions_m[:, 0].tolist() == [5, 6, 7, 0, 1]
    assert memory.batch.extras["height_m"][:, 0].tolist() == [5, 6, 7, 0, 1]
    assert memory.batch.tuple_id.tolist() == [0, 1, 1, 2, 2]
    assert memory.embeddings.untyped_storage().nbytes() == 5 * 2 * 4
    assert after_batch(memory, second, batch_of([5, 6, 7]), size=0) is None


def test_only_current_images_are_anchors():
    a, p, n = torch.tensor([0, 4, 1]), torch.tensor([5, 0, 0]), torch.tensor([2, 1, 6])
    assert [c.tolist() for c in of_current(Triplets(a, p, n), 2)] == [[0, 1], [5, 0], [2, 6]]
    pairs = Pairs(a, p, torch.tensor([6, 1]), torch.tensor([0, 6]))
    assert [c.tolist() for c in of_current(pairs, 2)] == [[0, 1], [5, 0], [1], [6]]
    assert of_current(None, 2) is None


def test_every_loss_that_compares_images_takes_a_memory():
    """With the gradient to the current rows alone, and by rows as by all rows."""
    taken = 0
    for _, factory in Registry.discover().factories(LossFactory):
        if factory.needs & {"tuples", "other-far"}:
            continue
        case = loss_case_of(factory, standard(num_tuples=5), dtype=torch.float64)
        if list(case.loss.parameters()):
            continue
        num = len(case.batch) // 2
        memory = Memory(case.embeddings[num:].detach(), case.batch.take(slice(num, None)))
        leaf = case.embeddings[:num].detach().requires_grad_()
        embeddings, batch = memory.behind(leaf, case.batch.take(slice(0, num)))
        tuples = of_current(case.tuples, num)
        output = joint_loss(case.loss, embeddings, batch, tuples, num)
        output.mine.backward()
        assert leaf.grad.isfinite().all(), factory.name
        assert leaf.grad.any(), factory.name
        if tuples is None and isinstance(case.loss, RowwiseLoss):
            share: LossOutput = case.loss.forward_rows(embeddings, batch, slice(0, num))
            expected = float(share.loss.detach()) * len(batch) / num
            assert float(output.total) == pytest.approx(expected, rel=1e-12)
        taken += 1
    assert taken >= 20


@pytest.mark.parametrize("words", [(), ("--training.chunk_size", "4")], ids=["whole", "chunks"])
def test_training_compares_with_past_batches(tmp_path, words):
    """Against a loop that keeps the embeddings of past batches in a list."""
    words = ["--training.max_steps", "4", "--training.memory", "20", *words]
    words += ["--training.memory_start", "1"]
    experiment, folder = trained(tmp_path / "run", *words)
    by_hand = assemble(config_of(*words))
    optimizer = torch.optim.SGD(by_hand.model.parameters(), lr=0.1, momentum=0.9)
    past, losses, sizes = [], [], []
    for step in range(4):
        item = by_hand.batches[step]
        embeddings = by_hand.model.train()(item.images)
        batches = [item.batch, *(batch for _, batch in past)]
        memory = torch.cat([embeddings.detach()[:0], *(kept for kept, _ in past)])[:20]
        positions = torch.cat([batch.positions_m for batch in batches])
        headings = torch.cat([batch.headings_rad for batch in batches])
        num = len(embeddings) + len(memory)
        columns = [torch.zeros(num, dtype=torch.int64)] * 3
        batch = Batch(
            positions_m=positions[:num],
            headings_rad=headings[:num],
            tuple_id=torch.arange(num),
            role=columns[0],
            place_id=columns[1],
            index=columns[2],
        )
        rows = slice(0, len(embeddings))
        share = by_hand.loss.forward_rows(torch.cat([embeddings, memory]), batch, rows)
        loss = share.loss * num / len(embeddings)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        sizes.append(len(memory))
        if step >= 1:
            past = [(embeddings.detach(), item.batch), *past]
    assert sizes == [0, 0, BATCH, 20]
    rows = rows_of(folder)
    assert [row["remembered"] for row in rows] == sizes
    assert [row["loss"] for row in rows] == pytest.approx(losses, rel=1e-5)
    for found, expected in zip(
        experiment.model.parameters(), by_hand.model.parameters(), strict=True
    ):
        torch.testing.assert_close(found.detach(), expected.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss", ["proposed", "pml-triplet-margin", "rank-n-contrast"])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, loss):
    words = ["--training.memory", "20", "--training.accumulate", "2", "--loss", loss]
    _, folder = trained(tmp_path / "whole", *words, "--training.max_steps", "4")
    trained(tmp_path / "parts", *words, "--training.max_steps", "3")
    _, other = trained(tmp_path / "parts", *words, "--training.max_steps", "4")
    assert folder.metrics.read_text() == other.metrics.read_text()
    one, two = state_of(folder), state_of(other)
    assert all(torch.equal(one["state_dict"][k], v) for k, v in two["state_dict"].items())
    assert torch.equal(one["memory"]["embeddings"], two["memory"]["embeddings"])
    assert len(one["memory"]["embeddings"]) == 20


def test_a_run_without_a_memory_has_none_in_its_files(tmp_path):
    _, folder = trained(tmp_path / "run", "--training.max_steps", "2")
    assert "memory" not in state_of(folder)
    assert "remembered" not in rows_of(folder)[0]


def test_images_that_cannot_be_read_are_not_remembered(tmp_path):
    broken = [3, 17, 40, 61, 100, 150]
    words = ["--dataset.broken", ",".join(map(str, broken)), "--training.skip_unreadable"]
    words += ["true", "--training.memory", "100", "--training.max_steps", "5"]
    _, folder = trained(tmp_path / "run", *words)
    memory = state_of(folder)["memory"]
    assert folder.skipped.read_text()
    assert len(memory["embeddings"]) == len(memory["batch"]["index"]) < 5 * BATCH
    assert not set(memory["batch"]["index"].tolist()) & {*broken}


def test_a_failed_batch_is_replayed_with_what_it_was_compared_with(tmp_path):
    words = ["--training.memory", "20", "--training.max_steps", "4", "--loss", "exploding"]
    experiment = assemble(config_of(*words))
    folder = RunFolder.create(tmp_path / "run", run_to_toml(experiment.config))
    with pytest.raises(NonFiniteLossError):
        fit(experiment, folder)
    kept = torch.load(folder.failed_batch, weights_only=True)
    assert kept["step"] == 2
    assert len(kept["memory"]["embeddings"]) == 20
    again = assemble(config_of(*words))
    item, embeddings = again.batches[2], kept["memory"]["embeddings"]
    again.model.load_state_dict(kept["model"])
    current = again.model.train()(item.images)
    found = replay(again, folder.failed_batch, torch.device("cpu"))
    # The loss "exploding" is the mean of all that it is given.
    expected = torch.cat([current, embeddings]).mean()
    assert found.loss == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_estimate_counts_what_is_remembered():
    """By rows, the pairs of the proposed loss; of all rows, those of a loss without rows."""
    plain, remembering = (
        estimate(assemble(config_of("--training.memory", size))) for size in ("0", "1000")
    )
    assert remembering.loss - plain.loss == 1000 * 16 * 4 + 10 * 1000 * 16 * 4
    assert remembering.checkpoint - plain.checkpoint == 1000 * 16 * 4
    dense = ["--loss", "pml-triplet-margin"]
    more = estimate(assemble(config_of(*dense, "--training.memory", "1000")))
    assert more.loss > 12 * 1000**2 * 4


@pytest.mark.parametrize("loss", ["triplet", "quadruplet"])
def test_losses_of_tuples_are_refused(loss):
    with pytest.raises(ConfigError, match=rf"memory 8 cannot be combined with --loss {loss}, "):
        config_of("--training.memory", "8", "--loss", loss)


def test_losses_with_proxies_are_refused():
    with pytest.raises(ConfigError, match=r"--loss pml-proxy-anchor, which compares images"):
        assemble(config_of("--training.memory", "8", "--loss", "pml-proxy-anchor"))
