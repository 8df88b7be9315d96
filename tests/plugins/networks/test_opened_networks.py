"""A network that is opened with its weights is the one that was trained, without drawing any."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch
from torch import nn

from mlcore import ConfigError, DataError
from mlcore.models.zeros import ZeroParameters, assign
from mlcore.networks import build_model, model_with
from mlcore.options import parse_run
from mlcore.registry.discovery import Registry

NETWORKS = {
    "small-cnn": ["--backbone", "small-cnn"],
    "vgg16": ["--backbone", "vgg16", "--pooling", "netvlad"],
    "resnet18": ["--backbone", "resnet18"],
    "efficientnet-lite0": ["--backbone", "efficientnet-lite0"],
    "transformer": ["--backbone", "timm", "--backbone.model", "test_vit", "--pooling", "cls"],
    **{
        f"small-cnn and {pooling}": ["--backbone", "small-cnn", "--pooling", pooling]
        for pooling in (
            "average",
            "boq",
            "convap",
            "cosplace",
            "gem",
            "grid",
            "mixvpr",
            "salad",
        )
    },
}
DRAWS = (
    *(nn.init.uniform_, nn.init.normal_, nn.init.trunc_normal_),
    *(nn.init.kaiming_uniform_, nn.init.kaiming_normal_),
    *(nn.init.xavier_uniform_, nn.init.xavier_normal_, timm.layers.trunc_normal_),
)
SIZE = ["--model.input_height_px", "96", "--model.input_width_px", "112"]


def config_of(*words):
    return parse_run(["--model.weights", "none", *SIZE, *words], Registry.discover())


@pytest.mark.parametrize("name", NETWORKS)
def test_an_opened_network_is_the_one_that_was_built(name):
    """Embeddings, memory layout and what is frozen; the seed of the other one differs."""
    config = config_of(*NETWORKS[name], "--seed", "3")
    built = build_model(config).eval()
    weights = {key: value.contiguous() for key, value in built.state_dict().items()}
    opened = model_with(replace(config, seed=4), weights, "a test")
    images = torch.randint(0, 256, (2, 3, 96, 112), dtype=torch.uint8)
    with torch.inference_mode():
        assert torch.equal(opened(images), built(images))
    assert {n: p.stride() for n, p in opened.named_parameters()} == {
        n: p.stride() for n, p in built.named_parameters()
    }
    assert {n: p.requires_grad for n, p in opened.named_parameters()} == {
        n: p.requires_grad for n, p in built.named_parameters()
    }
    assert not opened.training


def test_parameters_are_not_drawn_but_buffers_are_computed():
    class Layer(nn.Module):
        def __init__(self):
            super().__init__()
            weights = [nn.Parameter(torch.ones(2, 2)) for _ in DRAWS]
            for weight, draw in zip(weights, DRAWS, strict=True):
                draw(weight)
            self.drawn = nn.ParameterList(weights)
            self.constant = nn.Parameter(torch.ones(2))
            self.register_buffer("table", torch.full((2,), 7.0).normal_().mul_(0).add_(3))

    with ZeroParameters():
        layer = Layer()
    assert all(torch.equal(weight, torch.zeros(2, 2)) for weight in layer.drawn)
    assert torch.equal(layer.constant, torch.ones(2))
    assert torch.equal(layer.table, torch.full((2,), 3.0))
    assert all(bool(weight.any()) for weight in Layer().drawn)


def test_a_tensor_of_another_dtype_takes_the_networks():
    layer = nn.Linear(2, 2, bias=False)
    assign(layer, {"weight": torch.ones(2, 2, dtype=torch.float16)})
    assert layer.weight.dtype == torch.float32
    assert torch.equal(layer.weight, torch.ones(2, 2))


def test_a_network_that_needs_its_initial_weights_is_built_with_them(monkeypatch):
    """Such as one that inverts a matrix of them; the failure is not the user's to see."""
    config = config_of("--backbone", "small-cnn")
    drawn = []

    def build(config):
        probe = nn.Parameter(torch.zeros(1))
        nn.init.normal_(probe)
        drawn.append(bool(probe != 0))
        if not drawn[-1]:
            raise ConfigError("the matrix is singular")
        return build_model(config)

    weights = build_model(config).state_dict()
    monkeypatch.setattr("mlcore.networks.build_model", build)
    assert model_with(config, weights, "a test").embedding_dim
    assert drawn == [False, True]


def test_weights_of_another_network_are_refused():
    weights = build_model(config_of("--backbone", "small-cnn")).state_dict()
    config = config_of("--backbone", "small-cnn", "--backbone.width", "40")
    with pytest.raises(DataError, match=r"x\.safetensors holds the weights of another network"):
        model_with(config, weights, "x.safetensors")
