"""Every option of every backbone, pooling and model changes the network, or is refused.

What may change are the shapes of the weights, which of them are trained, the embedding of an
image, the size of the input, what is kept in memory, or the message of an error. A new option
without a row fails here.
"""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
import torch

from mlcore.errors import MlcoreError
from mlcore.factories import BackboneFactory, ModelFactory, PoolingFactory
from mlcore.models.config import input_size
from mlcore.networks import build_model, load_initial_weights
from mlcore.options import read_argv, require_effect, resolve_run
from mlcore.options.config import model_input_size
from mlcore.registry.discovery import Registry

NETWORK = {
    "input_height_px": "64",
    "input_width_px": "64",
    "longest_side_px": "48",
    "weights": "nowhere.pth",
    "trainable_blocks": "1",
    "embedding_dim": "7",
    "feature_cache_mib": "0 --model.trainable_blocks none",
}
PRETRAINED = {
    **NETWORK,
    "pooling": "average",
    "num_clusters": "3 --model.pooling netvlad",
}
ROWS = {
    "backbone": {
        "small-cnn": ("", {"width": "8"}),
        "resnet18": ("", {}),
        "resnet50": ("", {}),
        "vgg16": ("", {}),
        "timm": ("--backbone.model test_resnet", {"model": "test_vit", "stride": "4"}),
        "efficientnet-lite0": ("", {"stride": "8"}),
    },
    "pooling": {
        "gem": ("", {}),
        "average": ("", {}),
        "cls": ("", {}),
        "netvlad": ("", {"num_clusters": "3"}),
        "grid": ("", {"rows": "1", "columns": "3"}),
        "cosplace": ("", {"dimensions": "5"}),
        "convap": ("", {"channels": "5", "rows": "1", "columns": "3"}),
        "mixvpr": ("", {"channels": "5", "rows": "3", "depth": "1", "expansion": "2"}),
        "salad": (
            "--backbone timm --backbone.model test_vit --pooling.num_clusters 4",
            {"num_clusters": "5", "channels": "6", "token_dim": "7", "hidden": "9"},
        ),
        "boq": ("", {"channels": "64", "num_queries": "5", "num_blocks": "1", "rows": "3"}),
    },
    "model": {
        "pixels": (
            "",
            {
                "input_height_px": "64",
                "input_width_px": "64",
                "longest_side_px": "48",
                "columns": "9",
                "rows": "9",
            },
        ),
        "composed": ("--backbone small-cnn", NETWORK),
        "small-cnn": (
            "",
            {
                **NETWORK,
                "pooling": "average",
                "num_clusters": "3 --model.pooling netvlad",
                "width": "8",
            },
        ),
        "resnet18": ("", PRETRAINED),
        "resnet50": ("", PRETRAINED),
        "vgg16": ("", {**PRETRAINED, "num_clusters": "3"}),
    },
}
"""For each component the words it is built with, and for each option a value and what it needs."""
LARGE = ("resnet50", "vgg16")
NO_WEIGHTS = "--model.weights none"
IMAGE = (96, 128)


@pytest.fixture(scope="module")
def registry(module_synthetic_plugin):
    return Registry.discover(block=["synthetic"])


def test_every_option_of_every_network_has_a_row(registry):
    kinds = {"backbone": BackboneFactory, "pooling": PoolingFactory, "model": ModelFactory}
    for kind, factory in kinds.items():
        named = {
            one.name: {field.name for field in fields(one.config)}
            for _, one in registry.factories(factory)
        }
        assert {name: {*rows} for name, (_, rows) in ROWS[kind].items()} == named


def outcome(words, registry):
    """Return what can be seen of a network."""
    given = read_argv(words.split())
    try:
        config = resolve_run(given, registry)
        require_effect([config], given)
        config = with_size(config)
        model = build_model(config)
        load_initial_weights(model, config)
    except MlcoreError as error:
        return str(error)
    size = model_input_size(config)
    image = torch.randint(0, 256, (1, 3, *size), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        embedding = model.eval().embed(image.to(torch.uint8)).tolist()
    weights = {n: (tuple(p.shape), p.requires_grad) for n, p in model.named_parameters()}
    return size, weights, embedding, getattr(model, "_feature_cache", None) is not None


def with_size(config):
    height, width = input_size(config.model.options, IMAGE)
    options = replace(config.model.options, input_height_px=height, input_width_px=width)
    return replace(config, model=replace(config.model, options=options))


def rows():
    for kind, components in ROWS.items():
        for name, (base, options) in components.items():
            for option, words in options.items():
                marks = [pytest.mark.walk] if name in LARGE else []
                value, _, others = words.partition(" ")
                known = (
                    f"--{kind} {name} {NO_WEIGHTS if name != 'pixels' else ''} {base} {others}"
                )
                flag = f"--{kind}.{option} {value}"
                yield pytest.param(known, flag, id=f"{name} {option}", marks=marks)


@pytest.mark.parametrize(("others", "option"), list(rows()))
def test_an_option_of_a_network_has_an_effect(registry, others, option):
    before = outcome(others, registry)
    assert not isinstance(before, str), before
    assert before != outcome(f"{others} {option}", registry)
    assert before == outcome(f"{others} ", registry)
