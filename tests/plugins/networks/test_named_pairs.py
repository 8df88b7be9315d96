"""Named pairs give the embeddings that they gave when the engine built them itself."""

from __future__ import annotations

import pytest
import torch

from mlcore.networks import build_model
from mlcore.options import parse_run
from mlcore.registry.discovery import Registry

IMAGES = torch.randint(
    0, 256, (2, 3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
)
RANDOM = " --model.weights none"


@pytest.fixture(scope="module")
def registry():
    return Registry.discover()


@pytest.mark.parametrize(
    ("words", "size", "projected"),
    [
        ("small-cnn", 256, 0.521120911304),
        ("small-cnn --model.pooling netvlad", 256, 0.836018072048),
        ("small-cnn --model.pooling average --model.embedding_dim none", 64, 0.921951282274),
        ("resnet18" + RANDOM, 512, 0.019559641940),
        ("resnet50 --model.embedding_dim 16" + RANDOM, 16, 0.132443151413),
        ("vgg16" + RANDOM, 32768, 0.049046122871),
        ("vgg16 --model.pooling gem" + RANDOM, 512, 0.069192654052),
        ("pixels", 1536, 1.868286709294),
    ],
)
def test_the_embeddings_before_networks_were_plugins(registry, words, size, projected):
    """The figures are of the commit before, on the same images and seed."""
    argv = ["--model", *words.split(), "--seed", "5"]
    if not words.startswith("pixels"):
        argv += ["--model.input_height_px", "64", "--model.input_width_px", "96"]
    model = build_model(parse_run(argv, registry)).double().eval()
    with torch.no_grad():
        embeddings = model(IMAGES)
    assert embeddings.shape == (2, size)
    direction = torch.arange(2 * size, dtype=torch.float64).view(2, size).cos()
    assert float((embeddings * direction).sum()) == pytest.approx(projected, abs=1e-9)
