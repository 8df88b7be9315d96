"""Grad-CAM of a match: against its definition, and on a network whose answer is known."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks._networks import network
from mlcore import Features
from mlcore.errors import DataError
from mlcore.evaluation.evaluate import evaluate_model
from mlcore.evaluation.gradcam import (
    explain_matches,
    explain_results,
    last_convolution,
    worst_and_best,
)
from mlcore.options.engine import EvaluationOptions
from mlcore.retrieval.embedder import Embedder


def build(name, **options):
    return network(name, **options).eval()


def pooled(pooling):
    return {"pooling": pooling} | ({"num_clusters": 3} if pooling == "netvlad" else {})


def slow_maps(model, query, reference):
    """The definition in float64: both maps of one pair, by numeric differences of features."""
    layers = model.backbone.layers
    images = model.backbone.normalisation(torch.stack([query, reference]))
    features = layers[:-1](images)  # up to the last convolution
    assert layers[-2] is model.explained

    def likeness(features):
        """Return y of each of (M, 2, C, h, w), from the rest of the network."""
        vectors = model.projection(model.pooling(Features(layers[-1](features.flatten(0, 1)))))
        if model.normalize:
            vectors = vectors / vectors.norm(dim=1, keepdim=True)
        first, second = vectors.view(len(features), 2, -1).unbind(1)
        return -(first - second).square().sum(1)

    step = 1e-6
    moves = step * torch.eye(features.numel(), dtype=torch.float64)
    moves = moves.view(-1, *features.shape)
    gradient = (likeness(features + moves) - likeness(features - moves)) / (2 * step)
    gradient = gradient.view(features.shape)
    maps = []
    for image in range(2):
        total = torch.zeros(features.shape[2:], dtype=torch.float64)
        for channel in range(features.shape[1]):
            total += gradient[image, channel].mean() * features[image, channel]
        maps.append(total.clamp(min=0))
    return maps


@pytest.mark.parametrize("pooling", ["average", "gem", "netvlad"])
@pytest.mark.parametrize("normalize", [True, False])
def test_against_the_definition(pooling, normalize):
    model = build("small-cnn", width=8, **pooled(pooling), embedding_dim=None)
    model = model.double().to(memory_format=torch.contiguous_format)
    model.normalize = normalize
    generator = torch.Generator().manual_seed(1)
    query, reference = torch.rand(2, 3, 32, 32, generator=generator, dtype=torch.float64)
    found = explain_matches(model, query[None], reference[None])
    with torch.no_grad():
        slow = slow_maps(model, query, reference)
    scale = max(float(one.max()) for one in slow)
    assert scale > 0
    for fast, exact in zip((found.query[0], found.reference[0]), slow, strict=True):
        np.testing.assert_allclose(fast, exact.numpy(), atol=1e-4 * scale)


class OneColour(nn.Module):
    """Embeds the mean red and the mean blue, each by a channel of one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.explained = nn.Conv2d(3, 2, 1, bias=False)
        with torch.no_grad():
            self.explained.weight.copy_(
                torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]).view(2, 3, 1, 1)
            )

    def forward(self, images):
        return self.explained(images).mean((2, 3))


def test_a_network_whose_answer_is_known():
    """y = -(r_q - r_r)^2 - (b_q - b_r)^2 with means r, b over the image.

    dy/dA_q at any place is -2 (r_q - r_r) / hw for red: a channel of which the query has
    less than the reference adds to likeness where it is, one of which it has more takes.
    """
    query, reference = torch.zeros(2, 3, 4, 4)
    query[0, 0, 0] = 1.0  # a red pixel: mean 1/16
    query[2, 3, 3] = 1.0  # a blue pixel: mean 1/16
    reference[0, :2, :2] = 1.0  # four red pixels: mean 4/16, and no blue
    found = explain_matches(OneColour(), query[None], reference[None])
    more_red = 2 * (4 - 1) / 16 / 16
    expected = np.zeros((4, 4))
    expected[0, 0] = more_red  # red brings the query nearer; its blue pixel takes it away
    np.testing.assert_allclose(found.query[0], expected, rtol=1e-6)
    # The reference has too much red and no blue: nothing in it could make it more alike.
    np.testing.assert_array_equal(found.reference[0], 0.0)
    distance = np.hypot(3 / 16, 1 / 16)
    assert found.embedding_distance[0] == pytest.approx(distance)


def test_pairs_do_not_depend_on_each_other():
    model = build("small-cnn", width=8, embedding_dim=6)
    images = torch.randint(0, 256, (6, 3, 32, 48), dtype=torch.uint8)
    together = explain_matches(model, images[:3], images[3:])
    for place in range(3):
        alone = explain_matches(model, images[place : place + 1], images[3 + place : 4 + place])
        scale = together.query[place].max()
        np.testing.assert_allclose(alone.query[0], together.query[place], atol=1e-4 * scale)
    with torch.no_grad():
        first, second = model(images[:3]), model(images[3:])
    np.testing.assert_allclose(
        together.embedding_distance, (first - second).norm(dim=1), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        *product(["small-cnn", "resnet18"], ["average", "gem", "netvlad"]),
        ("resnet50", "gem"),
        ("vgg16", "netvlad"),
    ],
)
def test_every_backbone_and_pooling(name, pooling):
    model = build(name, **pooled(pooling), embedding_dim=None)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    before = [parameter.requires_grad for parameter in model.parameters()]
    found = explain_matches(model, images[:1], images[1:])
    for maps in (found.query, found.reference):
        assert maps.ndim == 3
        assert np.isfinite(maps).all()
        assert maps.min() >= 0
    assert max(found.query.max(), found.reference.max()) > 0
    assert [parameter.requires_grad for parameter in model.parameters()] == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_model_without_convolutions():
    with pytest.raises(DataError, match="needs a convolutional layer, and PixelModel has none"):
        last_convolution(build("pixels"))
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3), nn.Flatten())
    assert last_convolution(plain) is plain[1]


def test_results_are_explained_in_the_order_asked_for(synthetic_dataset):
    dataset = synthetic_dataset
    embedder = Embedder(model=build("small-cnn", width=8), input_size=(32, 64))
    options = EvaluationOptions(whitening="none")
    results = evaluate_model(embedder, dataset, dataset.test, options, name="m")
    rows = worst_and_best(results, 6, 5)
    assert len(set(rows)) == 11
    assert results.distance_m[rows[0]] == results.distance_m.max()
    assert results.distance_m[rows[6]] == results.distance_m.min()
    found = explain_results(embedder, dataset, results, rows, name="m")
    assert [one.query for one in found] == results.query_index[rows].tolist()
    assert [one.reference for one in found] == results.reference_index[rows].tolist()
    for row, one in zip(rows, found, strict=True):
        assert one.distance_m == results.distance_m[row]
        # Nothing was whitened, so the two are the same distance.
        assert one.embedding_distance == pytest.approx(
            results.embedding_distance[row], rel=1e-4
        )


def test_no_query_is_both_worst_and_best(synthetic_dataset):
    dataset = synthetic_dataset
    embedder = Embedder(model=build("small-cnn", width=8), input_size=(32, 64))
    results = evaluate_model(
        embedder, dataset, dataset.test, EvaluationOptions(whitening="none"), name="m"
    )
    rows = worst_and_best(results, 100, 100)
    assert sorted(rows) == list(range(120))
