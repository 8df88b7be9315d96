"""The shipped networks: shapes, input, precision, and what each is made of."""

from __future__ import annotations

import copy
import subprocess
import sys

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from benchmarks._networks import network as build
from mlcore import Features
from mlcore.errors import ConfigError, DataError
from mlcore.models import Network, NetworkConfig
from mlcore.models.config import ModelConfig, input_size
from mlcore.models.pixels import PixelModel
from mlcore_networks.backbones import small_cnn
from mlcore_networks.poolings.means import AveragePooling, GemPooling
from mlcore_networks.poolings.netvlad import NetVlad


def images_of(num_images=3, height=64, width=96, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (num_images, 3, height, width)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


MODELS_AND_DIMS = [
    ("small-cnn", {"width": 8}, 256),
    ("small-cnn", {"width": 8, "embedding_dim": None}, 32),
    ("small-cnn", {"width": 8, "pooling": "netvlad", "embedding_dim": None}, 512),
    ("resnet18", {}, 512),
    ("resnet50", {"pooling": "average", "embedding_dim": 10}, 10),
    ("vgg16", {}, 64 * 512),
    ("pixels", {}, 64 * 24),
]


@pytest.mark.parametrize(("name", "options", "dimensions"), MODELS_AND_DIMS)
def test_embeddings_have_the_declared_shape_and_length(name, options, dimensions):
    model = build(name, **options).eval()
    with torch.inference_mode():
        embeddings = model(images_of())
        model.normalize = False
        raw = model(images_of())
    assert model.embedding_dim == dimensions
    assert embeddings.shape == raw.shape == (3, dimensions)
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(cosine_similarity(raw, embeddings), torch.ones(3))


@pytest.mark.parametrize("name", ["small-cnn", "resnet18", "pixels"])
def test_bytes_and_floats_are_the_same_image(name):
    model = build(name).eval()
    with torch.inference_mode():
        torch.testing.assert_close(model(images_of()), model(images_of() / 255.0))


@pytest.mark.parametrize("name", ["small-cnn", "pixels"])
def test_an_embedding_depends_on_its_image_alone(name):
    model = build(name).train()
    together = model(images_of())
    alone = torch.cat([model(image[None]) for image in images_of()])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("name", ["small-cnn", "vgg16"])
def test_the_seed_decides_the_weights(name):
    images = images_of(1)
    with torch.inference_mode():
        first, same, other = (build(name, seed=seed).eval()(images) for seed in (1, 1, 2))
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("pooling", ["average", "gem", "netvlad"])
def test_every_weight_of_the_small_network_is_trained(pooling):
    model = build("small-cnn", width=8, pooling=pooling)
    model(images_of()).square().mul(torch.arange(256)).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("name", ["small-cnn", "resnet18", "vgg16"])
def test_the_last_layer_gives_the_local_features(name):
    model = build(name).eval()
    seen = []
    model.explained.register_forward_hook(lambda *words: seen.append(words[2]))
    with torch.inference_mode():
        features = model.features(images_of(1)).maps
    assert seen[0].shape == features.shape
    if name != "small-cnn":  # whose last layer is followed by a norm
        assert torch.equal(seen[0], features)
    copied = copy.deepcopy(model)
    assert copied.explained is not model.explained
    assert any(copied.explained is module for module in copied.modules())


def test_vgg16_ends_before_the_last_relu():
    model = build("vgg16").eval()
    with torch.inference_mode():
        features = model.features(images_of(1, 64, 96)).maps
    assert features.shape == (1, 512, 4, 6)
    assert features.min() < 0
    assert sum(isinstance(m, torch.nn.Conv2d) for m in model.modules()) == 13


def test_double_precision_goes_all_the_way():
    model = build("small-cnn", width=8).double()
    assert model(images_of()).dtype == torch.float64


def test_mixed_precision_pools_in_float32():
    model = build("small-cnn", width=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.features(images_of()).maps.dtype == torch.bfloat16
        embeddings = model(images_of())
    assert embeddings.dtype == torch.float32
    assert cosine_similarity(embeddings, model(images_of())).min() > 0.99


@pytest.mark.parametrize("gain", [0.4, 1.3])
def test_the_small_network_sees_little_of_exposure(gain):
    model = build("small-cnn").eval()
    images = 0.2 + 0.5 * images_of(4) / 255.0
    with torch.inference_mode():
        normal = model.backbone.normalisation(images)
        changed = model.backbone.normalisation(gain * images)
    # Pixels change by |gain - 1| of their size; what is left of it is less than a third.
    assert (changed - normal).abs().mean() < abs(gain - 1) / 3 * normal.abs().mean()


def test_pixels_are_compared_by_normalised_correlation():
    model = PixelModel(rows=6, columns=8)
    images = images_of(2, 48, 64).float() / 255.0
    grey = (images * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1)
    small = torch.nn.functional.interpolate(
        grey[:, None], (6, 8), mode="bilinear", antialias=True
    ).numpy()
    expected = np.corrcoef(small[0].ravel(), small[1].ravel())[0, 1]
    first, second = model(images)
    assert float(first @ second) == pytest.approx(expected, abs=1e-5)
    brighter = model(0.3 + 0.5 * images)
    torch.testing.assert_close(brighter, model(images), atol=1e-5, rtol=0)
    assert not model(torch.full((1, 3, 48, 64), 7, dtype=torch.uint8)).any()
    assert not any(model.parameters())


def test_gem_equals_its_formula_and_stays_finite():
    pooling = GemPooling(4)
    features = torch.rand(2, 4, 3, 5) + 0.1
    expected = features.pow(3).mean((2, 3)).pow(1 / 3)
    torch.testing.assert_close(pooling(Features(features)), expected)
    for exponent in (-5.0, 1.0, 8.0, 100.0):
        pooling.exponent.data.fill_(exponent)
        for scale in (1e-6, 1.0, 1e4):
            hard = (scale * torch.randn(2, 4, 3, 5)).requires_grad_()
            pooled = pooling(Features(hard))
            pooled.sum().backward()
            assert pooled.isfinite().all()
            assert hard.grad is not None
            assert hard.grad.isfinite().all()


def test_netvlad_equals_loops():
    pooling = NetVlad(5, 3)
    features = torch.randn(2, 5, 2, 4)
    weight, bias = pooling.assignment.weight, pooling.assignment.bias
    for number, image in enumerate(features):
        vlad = torch.zeros(3, 5)
        for place in image.flatten(1).T:
            local = place / place.norm()
            assigned = (weight @ local + bias).softmax(0)
            for word in range(3):
                vlad[word] += assigned[word] * (local - pooling.words[word])
        vlad = vlad / vlad.norm(dim=1, keepdim=True)
        expected = vlad.flatten() / vlad.norm()
        torch.testing.assert_close(pooling(Features(features))[number], expected)


def test_netvlad_starts_from_clusters_and_assigns_sharply():
    generator = torch.Generator().manual_seed(0)
    centres = torch.nn.functional.normalize(torch.randn(4, 16, generator=generator), dim=1)
    local = centres.repeat(60, 1) + 0.1 * torch.randn(240, 16, generator=generator)
    features = local.view(6, 40, 16).transpose(1, 2).reshape(6, 16, 5, 8)
    pooling = NetVlad(16, 4, seed=3)
    pooling.initialise([Features(features[:3]), Features(features[3:])])
    unit = torch.nn.functional.normalize(local, dim=1)
    nearest = torch.cdist(unit, pooling.words.detach()).argmin(dim=1)
    for word in range(4):  # a word of k-means is the mean of what is nearest to it
        mean = unit[nearest == word].mean(dim=0)
        torch.testing.assert_close(pooling.words[word], mean, atol=1e-3, rtol=0)
    with torch.inference_mode():
        scores = pooling.assignment(unit)
    first, second = scores.softmax(1).topk(2, dim=1).values.log().mean(dim=0)
    assert float(first - second) == pytest.approx(np.log(100), rel=1e-3)
    again = NetVlad(16, 4, seed=3)
    again.initialise([Features(features)])
    assert torch.equal(again.words, pooling.words)


def test_netvlad_needs_features_enough():
    model = build("small-cnn", width=8, pooling="netvlad", num_clusters=200)
    assert model.needs_initialisation
    with pytest.raises(DataError, match=r"at least 200 .*--model.num_clusters"):
        model.initialise([images_of(1, 32, 32)])
    with pytest.raises(DataError, match="no image"):
        model.initialise([])


def test_other_poolings_need_no_initialisation():
    assert not build("small-cnn").needs_initialisation
    with pytest.raises(ConfigError, match=r"--model.pooling: unknown pooling 'gen'.*'gem'"):
        build("small-cnn", pooling="gen")


@pytest.mark.parametrize(
    ("options", "image", "expected"),
    [
        ({}, (960, 1280), (180, 240)),
        ({}, (64, 160), (64, 160)),
        ({"longest_side_px": 320}, (480, 640), (240, 320)),
        ({"input_height_px": 48}, (480, 640), (48, 64)),
        ({"input_width_px": 320}, (480, 640), (240, 320)),
        ({"input_height_px": 100, "input_width_px": 50}, (480, 640), (100, 50)),
    ],
)
def test_input_size(options, image, expected):
    assert input_size(ModelConfig(**options), image) == expected


def test_an_input_too_small():
    with pytest.raises(ConfigError, match=r"30 x 240 px .* --model.longest_side_px"):
        input_size(NetworkConfig(), (200, 1600))


def test_listing_models_imports_no_torch():
    program = (
        "import sys; from mlcore.models.catalogue import BUILTIN; "
        "from mlcore_networks import plugin; "
        "found = [*BUILTIN, *plugin.mlcore_models(), *plugin.mlcore_backbones()]; "
        "[factory.config() for factory in found]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_a_model_is_put_together_from_parts():
    model = Network(small_cnn(8), AveragePooling(32), 5)
    assert model(images_of()).shape == (3, 5)
