"""The optimizer, and which learning rate each parameter has."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain
from typing import Any

import torch
from torch import nn
from torch.nn import Parameter
from torch.optim import Optimizer

from mlcore.models.networks import Network
from mlcore.models.tuning import depths
from mlcore.options.engine import TrainingOptions

_MOMENTUM = 0.9


def build_optimizer(model: nn.Module, loss: nn.Module, options: TrainingOptions) -> Optimizer:
    """Return the optimizer of everything that is trained of a model and a loss."""
    groups = parameter_groups(model, loss, options)
    rate, decay = options.learning_rate, options.weight_decay
    if options.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=_MOMENTUM, weight_decay=decay)
    if decay:
        return torch.optim.AdamW(groups, lr=rate, weight_decay=decay)
    return torch.optim.Adam(groups, lr=rate)


def parameter_groups(
    model: nn.Module, loss: nn.Module, options: TrainingOptions
) -> list[dict[str, Any]]:
    """Return parameters by their learning rate; the first group has the full one.

    A backbone of ``n`` blocks has ``backbone_rate * layer_decay^(n - i)`` of it in block
    ``i``, its stem being block 0.
    """
    factors: Mapping[Parameter, float] = {}
    if isinstance(model, Network):
        backbone = model.backbone
        depth, last = depths(backbone), len(backbone.blocks)
        factors = {
            parameter: options.backbone_rate * options.layer_decay ** (last - depth[name])
            for name, parameter in backbone.named_parameters()
        }
    by_factor: dict[float, list[Parameter]] = {1.0: []}
    for parameter in chain(model.parameters(), loss.parameters()):
        if parameter.requires_grad:
            by_factor.setdefault(factors.get(parameter, 1.0), []).append(parameter)
    return [
        {"params": parameters, "lr": options.learning_rate * factor}
        for factor, parameters in by_factor.items()
        if parameters
    ]
