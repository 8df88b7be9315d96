"""Which learning rate each parameter has."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks._networks import network
from mlcore.options.engine import TrainingOptions
from mlcore.training.optimizers import build_optimizer, parameter_groups


def rates(model, **options):
    """Return the learning rate of each parameter of the model, by name."""
    loss = nn.Linear(2, 1)
    groups = parameter_groups(model, loss, TrainingOptions(learning_rate=1.0, **options))
    found = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert groups[0]["lr"] == 1.0
    assert all(found.pop(id(p)) == 1.0 for p in loss.parameters())
    return {name: found.pop(id(p)) for name, p in model.named_parameters() if p.requires_grad}


def test_by_default_all_have_one_rate_in_one_group():
    model = network("small-cnn", width=8)
    assert set(rates(model).values()) == {1.0}
    assert len(parameter_groups(model, nn.Identity(), TrainingOptions())) == 1


def test_blocks_decay_towards_the_input():
    found = rates(network("small-cnn", width=8), backbone_rate=0.5, layer_decay=0.1)
    convolutions = ["backbone.layers.0", "backbone.layers.3", "backbone.layers.6"]
    assert [found[f"{name}.weight"] for name in convolutions] == pytest.approx(
        [0.5e-4, 0.5e-3, 0.5e-2]
    )
    assert found["backbone.layers.12.weight"] == pytest.approx(0.5)
    assert found["pooling.exponent"] == found["projection.weight"] == 1.0


def test_what_is_frozen_is_in_no_group():
    found = rates(network("small-cnn", width=8, trainable_blocks=1))
    assert {name.partition(".")[0] for name in found} == {"backbone", "pooling", "projection"}
    assert not any(name.startswith("backbone.layers.0") for name in found)


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, torch.optim.Adam),
        ({"weight_decay": 0.1}, torch.optim.AdamW),
        ({"optimizer": "sgd"}, torch.optim.SGD),
    ],
)
def test_the_optimizer(options, kind):
    model = network("small-cnn", width=8)
    optimizer = build_optimizer(model, nn.Identity(), TrainingOptions(**options))
    assert type(optimizer) is kind
    assert optimizer.defaults["weight_decay"] == options.get("weight_decay", 0.0)


def test_a_decay_that_grows_is_refused():
    with pytest.raises(ValueError, match="at most 1, got 2"):
        TrainingOptions(layer_decay=2.0)
