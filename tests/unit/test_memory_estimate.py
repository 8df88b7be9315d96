"""What a run is told to take, against what it holds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mlcore.factories import LossFactory
from mlcore.registry.discovery import Registry
from mlcore.testing.cases import loss_case_of, standard
from mlcore.testing.losses.memory import peak_bytes
from mlcore.training.memory_estimate import _loss_bytes, activation_bytes


class Flat(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float().flatten(1)


def test_the_graph_of_one_image_is_counted():
    # A linear layer keeps its input, a sigmoid its output; the weights are no activation.
    model = nn.Sequential(Flat(), nn.Linear(3 * 4 * 5, 7), nn.Sigmoid())
    assert activation_bytes(model, (4, 5)) == 4 * (3 * 4 * 5 + 7)


def test_counting_leaves_the_model_and_the_generators_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).eval()
    reads = nn.Sequential(_ToFloat(), model)
    before, state = model[1].running_mean.clone(), torch.get_rng_state()
    assert activation_bytes(reads, (4, 5)) > 0
    assert torch.equal(model[1].running_mean, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training


def test_a_model_that_cannot_take_one_image_is_unknown():
    model = nn.Sequential(Flat(), nn.BatchNorm1d(60))
    assert activation_bytes(model, (4, 5)) == 0


class _ToFloat(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.float()


@pytest.mark.parametrize("loss", ["multi-similarity-paper", "pml-circle", "pml-triplet-margin"])
def test_the_matrices_of_a_dense_loss_are_estimated_as_they_are_measured(loss):
    factory = Registry.discover().resolve(LossFactory, loss)
    assert factory.memory == "quadratic"
    case = loss_case_of(factory, standard(num_tuples=40))
    size, dimensions = case.embeddings.shape
    estimated = _loss_bytes("quadratic", size, size, dimensions)
    assert 1.0 <= estimated / peak_bytes(factory, 40) <= 1.6


def test_the_estimate_of_a_loss_by_its_declared_growth():
    linear = 10 * 100 * 16 * 4
    assert _loss_bytes("linear", 100, 100, 16) == linear
    assert _loss_bytes("quadratic", 100, 100, 16) == linear + 12 * 100**2 * 4
    assert _loss_bytes("cubic", 100, 100, 16) == linear + 12 * 100**2 * 4 + 100**3
