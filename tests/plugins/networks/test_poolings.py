"""Each pooling against the formula, written as loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import normalize

from mlcore import BuildContext, ConfigError, Features, FeatureShape
from mlcore_networks import config
from mlcore_networks.plugin import mlcore_poolings
from mlcore_networks.poolings.salad import transport

FACTORIES = {factory.name: factory for factory in mlcore_poolings()}
SHAPE = FeatureShape(num_channels=6, has_token=True, height=4, width=5)


def build(name, shape=SHAPE, **options):
    factory = FACTORIES[name]
    torch.manual_seed(0)
    built = factory.build(factory.config(**options), BuildContext(seed=0, features=shape))
    return built.double().eval()


def features(shape=SHAPE, num_images=2):
    generator = torch.Generator().manual_seed(1)
    size = (num_images, shape.num_channels, shape.height, shape.width)
    maps = torch.randn(size, generator=generator, dtype=torch.float64)
    return Features(maps, torch.randn(size[:2], generator=generator, dtype=torch.float64))


def unit(vector):
    return vector / vector.norm()


def linear(layer, vector):
    rows = [sum(w * x for w, x in zip(row, vector, strict=True)) for row in layer.weight]
    return torch.stack(rows) + layer.bias


def layer_norm(layer, vector):
    centred = vector - vector.mean()
    scaled = centred / (centred.square().mean() + layer.eps).sqrt()
    return scaled * layer.weight + layer.bias


def largest_error(pooling, batch, slow):
    """Return how far vectors are from ``slow(maps, token)``, in units of 1e-11 + 1e-9 |slow|."""
    with torch.no_grad():
        found = pooling(batch)
        wanted = torch.stack([slow(maps, token) for maps, token in zip(*batch, strict=True)])
    assert found.shape == wanted.shape == (len(batch.maps), pooling.output_dim)
    return float(((found - wanted).abs() / (1e-11 + 1e-9 * wanted.abs())).max())


def cell_means(maps, rows, columns):
    """The mean of each cell; ``floor`` and ``ceil`` let any size be divided."""
    _, height, width = maps.shape
    cells = torch.zeros(len(maps), rows, columns, dtype=maps.dtype)
    for row in range(rows):
        for column in range(columns):
            top, bottom = row * height // rows, math.ceil((row + 1) * height / rows)
            left, right = column * width // columns, math.ceil((column + 1) * width / columns)
            for channel in range(len(maps)):
                part = maps[channel, top:bottom, left:right]
                cells[channel, row, column] = part.sum() / part.numel()
    return cells


def test_average_and_token():
    assert (
        largest_error(build("average"), features(), lambda maps, _: maps.flatten(1).mean(1))
        <= 1.0
    )
    assert largest_error(build("cls"), features(), lambda _, token: token) <= 1.0


@pytest.mark.parametrize(("rows", "columns"), [(2, 4), (1, 1), (4, 5), (3, 2)])
def test_grid(rows, columns):
    pooling = build("grid", rows=rows, columns=columns)
    assert (
        largest_error(
            pooling, features(), lambda maps, _: cell_means(maps, rows, columns).flatten()
        )
        <= 1.0
    )


def test_cosplace():
    pooling = build("cosplace", dimensions=7)

    def slow(maps, _):
        local = [unit(place).clamp(min=1e-4) for place in maps.flatten(1).T]
        power = sum(place**3 for place in local) / len(local)
        return unit(linear(pooling.linear, power ** (1 / 3)))

    assert largest_error(pooling, features(), slow) <= 1.0


def test_convap():
    pooling = build("convap", channels=3, rows=2, columns=2)
    weight = pooling.convolution.weight[:, :, 0, 0]

    def slow(maps, _):
        mixed = (
            torch.einsum("oc,chw->ohw", weight, maps) + pooling.convolution.bias[:, None, None]
        )
        return unit(cell_means(mixed, 2, 2).flatten())

    assert largest_error(pooling, features(), slow) <= 1.0


def test_mixvpr():
    pooling = build("mixvpr", channels=3, rows=2, depth=2, expansion=0.5)

    def slow(maps, _):
        vectors = list(maps.flatten(1))
        for norm, first, _relu, second in pooling.mixers:
            vectors = [
                x + linear(second, linear(first, layer_norm(norm, x)).clamp(min=0))
                for x in vectors
            ]
        places = [linear(pooling.channels, place) for place in torch.stack(vectors).T]
        channels = [linear(pooling.places, channel) for channel in torch.stack(places).T]
        return unit(torch.cat(channels))

    assert largest_error(pooling, features(), slow) <= 1.0


def perceptron(layers, vector):
    return linear(layers[2], linear(layers[0], vector).clamp(min=0))


@pytest.mark.parametrize("has_token", [True, False])
def test_salad(has_token):
    shape = FeatureShape(num_channels=6, has_token=has_token, height=4, width=5)
    pooling = build("salad", shape, num_clusters=3, channels=4, token_dim=5, hidden=8)
    assert pooling.output_dim == 3 * 4 + (5 if has_token else 0)

    def slow(maps, token):
        places = list(maps.flatten(1).T)
        scores = torch.zeros(4, len(places), dtype=torch.float64)
        for column, place in enumerate(places):
            scores[:3, column] = perceptron(pooling.scores, place)
            scores[3, column] = pooling.dustbin
        plan = slow_sinkhorn(scores)
        parts = [unit(perceptron(pooling.token, token))] if has_token else []
        for cluster in range(3):
            total = sum(
                plan[cluster, column] * perceptron(pooling.local, place)
                for column, place in enumerate(places)
            )
            parts.append(unit(total))
        return unit(torch.cat(parts))

    assert largest_error(pooling, features(), slow) <= 1.0


def slow_sinkhorn(scores):
    """Three rounds of scaling rows, then columns, of exp(scores); no logarithms."""
    plan = scores.exp()
    masses = [1.0] * (len(scores) - 1) + [scores.shape[1] - len(scores) + 1.0]
    for _ in range(3):
        for row, mass in enumerate(masses):
            plan[row] *= mass / plan[row].sum()
        for column in range(plan.shape[1]):
            plan[:, column] /= plan[:, column].sum()
    return plan


def test_transport_survives_scores_that_exp_does_not():
    scores = 2000 * torch.randn(1, 4, 20, dtype=torch.float64)
    plan = transport(scores)
    assert plan.isfinite().all()
    torch.testing.assert_close(plan.sum(1), torch.ones(1, 20, dtype=torch.float64))


@pytest.mark.parametrize(("height", "width"), [(8, 8), (1, 5)])
def test_salad_refuses_no_more_features_than_clusters(height, width):
    small = FeatureShape(num_channels=6, height=height, width=width)
    with pytest.raises(ConfigError, match=rf"{height} x {width} features do not exceed 64"):
        build("salad", small)
    pooling = build("salad", FeatureShape(num_channels=6, height=5, width=13))
    with pytest.raises(ConfigError, match=r"do not exceed 64 clusters.*longest_side_px"):
        pooling(features(small))


def test_boq():
    pooling = build("boq", channels=64, num_queries=3, num_blocks=2, rows=2)

    def attention(layer, queries, tokens):
        """Multi-head attention of each query over the tokens, head by head."""
        size = layer.embed_dim
        parts = zip(
            layer.in_proj_weight.split(size), layer.in_proj_bias.split(size), strict=True
        )
        (wq, bq), (wk, bk), (wv, bv) = parts
        q, k, v = queries @ wq.T + bq, tokens @ wk.T + bk, tokens @ wv.T + bv
        per_head = size // layer.num_heads
        heads = []
        for head in range(layer.num_heads):
            part = slice(head * per_head, (head + 1) * per_head)
            weights = (q[:, part] @ k[:, part].T / math.sqrt(per_head)).softmax(1)
            heads.append(weights @ v[:, part])
        return torch.cat(heads, dim=1) @ layer.out_proj.weight.T + layer.out_proj.bias

    def norm(layer, rows):
        return torch.stack([layer_norm(layer, row) for row in rows])

    def slow(maps, _):
        convolved = torch.nn.functional.conv2d(
            maps[None], pooling.convolution.weight, pooling.convolution.bias, padding=1
        )[0]
        tokens = norm(pooling.norm, convolved.flatten(1).T)
        outputs = []
        for block in pooling.blocks:
            layer = block.encoder
            tokens = norm(layer.norm1, tokens + attention(layer.self_attn, tokens, tokens))
            hidden = (tokens @ layer.linear1.weight.T + layer.linear1.bias).clamp(min=0)
            out = hidden @ layer.linear2.weight.T + layer.linear2.bias
            tokens = norm(layer.norm2, tokens + out)
            queries = block.queries[0]
            looked = attention(block.query_attention, queries, queries)
            queries = norm(block.query_norm, queries + looked)
            outputs.append(norm(block.output_norm, attention(block.attention, queries, tokens)))
        combined = [linear(pooling.combination, channel) for channel in torch.cat(outputs).T]
        return unit(torch.cat(combined))

    assert largest_error(pooling, features(), slow) <= 1.0


@pytest.mark.parametrize("name", ["cosplace", "convap", "mixvpr", "salad", "boq", "netvlad"])
def test_learned_poolings_give_unit_vectors(name):
    shape = FeatureShape(num_channels=6, has_token=True, height=9, width=8)
    found = build(name, shape)(features(shape))
    torch.testing.assert_close(normalize(found, dim=1), found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((config.GridConfig, {"rows": 0}), "rows must be at least 1, got 0"),
        ((config.BoqConfig, {"channels": 40}), "multiple of 32, got 40"),
        (
            (config.MixVprConfig, {"expansion": 0.0}),
            "expansion must be greater than 0, got 0.0",
        ),
        ((config.SmallCnnBackboneConfig, {"width": 12}), "multiple of 8, got 12"),
    ],
)
def test_options_that_make_no_sense(options, message):
    kind, values = options
    with pytest.raises(ValueError, match=message):
        kind(**values)
