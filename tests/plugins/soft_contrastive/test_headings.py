"""Influence of distance and heading: every implementation, and nothing else changes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from mlcore import ConfigError
from mlcore.experiment import assemble
from mlcore.options import parse_run
from mlcore.protocols import HeadingInfluenceFunction
from mlcore.registry.discovery import Registry
from mlcore.sampling.training_images import TrainingImages
from mlcore_soft_contrastive import (
    FieldOfView,
    Linear,
    Sigmoid,
    SoftContrastiveLoss,
    dispatch,
    soft_contrastive_loss,
)
from mlcore_soft_contrastive.cuda.walk import CudaKernels

VIEW = FieldOfView()
CASES = [{}, {"mining": False}, {"aggregation": "plain"}, {"heading_limit_rad": 1.0}]


@dataclass(frozen=True, kw_only=True)
class AnotherView(FieldOfView):
    """The same function, unknown to the compiled tiles."""


def gradient(
    embeddings: Tensor, positions_m: Tensor, headings_rad: Any, **options: Any
) -> tuple[Tensor, Tensor, str]:
    leaf = embeddings.clone().requires_grad_()
    loss, stats = soft_contrastive_loss(
        leaf, positions_m, headings_rad=headings_rad, return_stats=True, **options
    )
    (grad,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), grad, str(stats["implementation"])


@pytest.mark.parametrize("options", CASES)
def test_dense_is_what_loops_say(options: dict[str, Any], route: Any, reference: ModuleType):
    embeddings, positions_m, headings = route(40, 60.0, 3)
    leaf = embeddings.clone().requires_grad_()
    expected = reference.loss(
        leaf, positions_m, reference.field_of_view(), headings_rad=headings, **options
    )
    (expected_grad,) = torch.autograd.grad(expected, leaf)
    loss, grad, name = gradient(embeddings, positions_m, headings, influence=VIEW, **options)
    assert name == "dense"
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    torch.testing.assert_close(grad, expected_grad, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", CASES)
@pytest.mark.parametrize("length_m", [60.0, 2500.0])
def test_tiles_say_the_same(options: dict[str, Any], length_m: float, route: Any, kernels: Any):
    embeddings, positions_m, headings = route(700, length_m, 4)
    batch = positions_m, headings
    expected, expected_grad, _ = gradient(
        embeddings, *batch, influence=VIEW, implementation="dense", **options
    )
    run = partial(gradient, implementation="tiled", **options)
    found = [
        run(embeddings.float(), *batch, influence=VIEW),
        run(embeddings, *batch, influence=VIEW),
        run(embeddings.float(), *batch, influence=AnotherView()),
    ]
    with pytest.MonkeyPatch.context() as patch:
        made = ("kernels", 128, CudaKernels(kernels))
        patch.setattr(dispatch, "choose", lambda *_: made)
        found.append(run(embeddings.float(), *batch, influence=VIEW))
    assert [name for *_, name in found] == [
        "tiled-numba",
        "tiled-torch",
        "tiled-torch",
        "kernels",
    ]
    for loss, grad, _ in found:
        assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
        assert (grad - expected_grad).norm() <= 1e-5 * expected_grad.norm()


def test_equal_headings_change_no_bit(route: Any, kernels: Any):
    """So the sigmoid is computed as before: in all four, a factor of 1 is all that is new."""
    embeddings, positions_m, _ = route(700, 900.0, 5)
    headings = torch.full((700,), 0.7, dtype=torch.float64)
    for values in (embeddings, embeddings.float()):
        for implementation in ("dense", "tiled"):
            run = partial(gradient, values, positions_m, implementation=implementation)
            plain, view = run(None, influence=Sigmoid()), run(headings, influence=VIEW)
            assert torch.equal(plain[0], view[0])
            assert torch.equal(plain[1], view[1])
    found = []
    for influence in (Sigmoid(), VIEW):
        with pytest.MonkeyPatch.context() as patch:
            made = ("kernels", 128, CudaKernels(kernels))
            patch.setattr(dispatch, "choose", lambda *_, made=made: made)
            values = embeddings.float()
            found.append(
                gradient(
                    *(values, positions_m, headings),
                    influence=influence,
                    implementation="tiled",
                )
            )
    assert torch.equal(found[0][0], found[1][0])
    assert torch.equal(found[0][1], found[1][1])


@pytest.mark.parametrize("implementation", ["dense", "tiled"])
def test_a_turn_of_the_whole_view_repels_and_less_attracts(implementation: Any):
    """Two images at one point: at 90 degrees no attraction is left, in float64's opinion."""
    embeddings = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    positions_m = torch.zeros(2, 2, dtype=torch.float64)
    for turn_deg, attracts in ((89.999999, True), (90.0, False), (170.0, False)):
        # Across the wrap at 180 degrees.
        headings = torch.tensor([math.pi - 0.1, math.pi - 0.1 + math.radians(turn_deg)])
        headings = torch.remainder(headings.double() + math.pi, 2 * math.pi) - math.pi
        headings[1] = headings[0] + math.radians(turn_deg)
        output = soft_contrastive_loss(
            embeddings,
            positions_m,
            influence=VIEW,
            headings_rad=headings,
            mining=False,
            implementation=implementation,
            return_stats=True,
        )
        assert (float(output.stats["attraction"]) > 0) == attracts


def test_images_without_headings_are_refused_or_taken_by_distance(route: Any):
    embeddings, positions_m, headings = route(30, 100.0, 6)
    with pytest.raises(
        ConfigError, match="FieldOfView needs headings, and the images have none; choose"
    ):
        soft_contrastive_loss(embeddings, positions_m, influence=VIEW)
    lenient = FieldOfView(without_headings="distance")
    run = partial(gradient, embeddings, positions_m)
    for implementation in ("dense", "tiled"):
        alone, plain = (
            run(None, influence=influence, implementation=implementation)
            for influence in (lenient, Sigmoid())
        )
        assert torch.equal(alone[1], plain[1])
    with pytest.raises(ConfigError, match="needs headings"):
        soft_contrastive_loss(
            embeddings,
            positions_m,
            influence=VIEW,
            headings_rad=headings,
            references=embeddings,
            reference_positions_m=positions_m,
        )


def test_the_rectangular_form_takes_headings_of_both_sides(route: Any):
    embeddings, positions_m, headings = route(60, 120.0, 7)
    whole = soft_contrastive_loss(
        embeddings, positions_m, influence=VIEW, headings_rad=headings, implementation="dense"
    )
    for implementation in ("dense", "tiled"):
        parts = [
            soft_contrastive_loss(
                embeddings[rows],
                positions_m[rows],
                influence=VIEW,
                headings_rad=headings[rows],
                references=embeddings,
                reference_positions_m=positions_m,
                reference_headings_rad=headings,
                self_index=torch.arange(60)[rows],
                implementation=implementation,
            )
            for rows in (slice(0, 25), slice(25, 60))
        ]
        joined = (25 * parts[0] + 35 * parts[1]) / 60
        assert joined.item() == pytest.approx(whole.item(), rel=1e-9)


def test_the_module_takes_headings_third(route: Any):
    embeddings, positions_m, headings = route(30, 100.0, 8)
    module = SoftContrastiveLoss(VIEW)
    wanted = soft_contrastive_loss(
        embeddings, positions_m, influence=VIEW, headings_rad=headings
    )
    assert torch.equal(module(embeddings, positions_m, headings), wanted)
    assert not torch.equal(wanted, SoftContrastiveLoss()(embeddings, positions_m, headings))
    assert isinstance(VIEW, HeadingInfluenceFunction)
    assert not isinstance(Linear(), HeadingInfluenceFunction)


@pytest.mark.usefixtures("synthetic_plugin")
@pytest.mark.parametrize(
    "loss", ["proposed", "similarity-regression", "soft-supcon", "generalized-contrastive"]
)
def test_every_loss_with_an_influence_function_gets_headings(loss: str):
    """Turning all images of a batch but one leaves the one alone."""
    words = ["--dataset", "synthetic", "--loss", loss, "--influence", "field-of-view"]
    words += ["--sampling.tuples_per_batch", "3", "--model.width", "8"]
    experiment = assemble(parse_run(words, Registry.discover()))
    batch = experiment.batches[0].batch
    embeddings = torch.randn(len(batch), 8, generator=torch.Generator().manual_seed(0))
    embeddings = torch.nn.functional.normalize(embeddings)
    whole = experiment.loss(embeddings, batch).loss
    turned = batch.headings_rad + torch.where(torch.arange(len(batch)) % 2 == 0, 3.0, 0.0)
    other = experiment.loss(embeddings, replace(batch, headings_rad=turned)).loss
    same = experiment.loss(embeddings, replace(batch, headings_rad=batch.headings_rad + 1.0))
    assert abs(float(whole - other)) > 1e-4
    assert float(same.loss) == pytest.approx(float(whole), rel=1e-6)
    if loss == "proposed":
        assert experiment.loss.heading_limit_rad is None, "the influence function weighs them"


@pytest.mark.usefixtures("synthetic_plugin")
def test_a_run_without_headings_is_refused_before_it_starts(monkeypatch: pytest.MonkeyPatch):
    of = TrainingImages.of
    monkeypatch.setattr(
        TrainingImages, "of", lambda split: replace(of(split), headings_rad=None)
    )
    words = ["--dataset", "synthetic", "--influence", "field-of-view", "--model.width", "8"]
    with pytest.raises(ConfigError, match="needs headings, and the images have none; choose"):
        assemble(parse_run(words, Registry.discover()))
    lenient = [*words, "--influence.without_headings", "distance"]
    experiment = assemble(parse_run(lenient, Registry.discover()))
    batch = experiment.batches[0].batch
    assert torch.isfinite(experiment.loss(torch.eye(len(batch)), batch).loss)
