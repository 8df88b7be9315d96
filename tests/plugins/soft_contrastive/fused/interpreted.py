"""The fused kernels in Triton's CPU interpreter, against dense float64.

Run by ``test_interpreter.py`` in a process of its own: Triton decides at its import whether it
interprets.
"""

from __future__ import annotations

import importlib.util
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import triton.language as tl
from torch import Tensor
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from mlcore_soft_contrastive import (
    FieldOfView,
    Linear,
    Sigmoid,
    Step,
    Tanh,
    soft_contrastive_loss,
)
from mlcore_soft_contrastive.fused import evaluation, kernels, layout, pairs, tuning

UTM_ORIGIN_M = torch.tensor([619_873.4, 5_735_211.8], dtype=torch.float64)
LAUNCH = {"num_warps": 4, "num_stages": 1, "enable_fp_fusion": False}

pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered in exp:RuntimeWarning")


@pytest.fixture(autouse=True)
def whole_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take whole blocks at once: the interpreter's time is in its steps, not their size."""
    monkeypatch.setattr(tuning, "reduce_options", lambda *_: {"BN": 128, "BK": 32, **LAUNCH})
    monkeypatch.setattr(
        tuning,
        "gradient_options",
        lambda dim, _: {"BM": 128, "BN": 128, "WIDTH": tuning.width(dim), **LAUNCH},
    )
    monkeypatch.setattr(evaluation, "SPLITS", 1)


def road(size: int, length_m: float, dim: int = 24) -> tuple[Tensor, Tensor, Tensor]:
    """Return embeddings, raw UTM positions and headings in whole degrees along a road."""
    generator = torch.Generator().manual_seed(size)
    arc = torch.rand(size, generator=generator, dtype=torch.float64) * length_m
    xy = torch.stack([arc, 40.0 * torch.sin(arc / 150.0)], dim=1)
    waves = torch.randn(2, dim, generator=generator, dtype=torch.float64) / 20.0
    looks = torch.cos(xy @ waves)
    looks += 0.3 * torch.randn(size, dim, generator=generator, dtype=torch.float64)
    degrees = torch.randint(0, 360, (size,), generator=generator).double()
    return looks, xy + UTM_ORIGIN_M, torch.deg2rad(degrees)


def walk_in_ties(size: int) -> Tensor:
    """Return positions whose neighbours are 15 m apart, but for rounding."""
    steps = torch.tensor([(15.0, 0.0), (9.0, 12.0)], dtype=torch.float64)
    chosen = torch.randint(0, 2, (size,), generator=torch.Generator().manual_seed(0))
    return steps[chosen].cumsum(dim=0)


def step(looks: Tensor, positions: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """Return loss and gradient of the fused kernels."""
    leaf = looks.clone().requires_grad_()
    loss, stats = soft_contrastive_loss(
        leaf, positions, return_stats=True, **{"implementation": "fused", **options}
    )
    assert stats["implementation"] == options.get("implementation", "fused")
    (grad,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), grad


def errors(looks: Tensor, positions: Tensor, **options: Any) -> tuple[float, float]:
    """Return errors of loss and gradient relative to dense float64."""
    loss, grad = step(looks.float(), positions, **options)
    options.pop("gradient_filter", None)
    options.pop("tile_precision", None)
    expected, expected_grad = step(
        looks.float().double(), positions, **options, implementation="dense"
    )
    off = (grad - expected_grad).norm() / expected_grad.norm()
    return abs(loss.item() - expected.item()) / abs(expected.item()), off.item()


def assert_rounding(found: tuple[float, float]) -> None:
    assert found[0] < 1e-6
    assert found[1] < 1e-6


INFLUENCES = [Sigmoid(), Linear(), Tanh(), Step(), FieldOfView()]
# Every two of the three choices meet.
OPTIONS = [
    (influence, mining, "log-sum-exp" if mining == bool(number % 2) else "plain")
    for number, influence in enumerate(INFLUENCES)
    for mining in (True, False)
]


@pytest.mark.parametrize(("influence", "mining", "aggregation"), OPTIONS)
def test_options(influence: Any, mining: bool, aggregation: Any) -> None:
    looks, positions, headings = road(150, 400.0)
    options: dict[str, Any] = {"mining": mining, "aggregation": aggregation}
    if isinstance(influence, FieldOfView):
        options["headings_rad"] = headings
    assert_rounding(errors(looks, positions, influence=influence, **options))


@pytest.mark.parametrize("influence", [Sigmoid(), FieldOfView()])
def test_heading_limit_in_whole_degrees(influence: Any) -> None:
    looks, positions, headings = road(150, 100.0)
    limit = {"headings_rad": headings, "heading_limit_rad": math.radians(60.0)}
    assert_rounding(errors(looks, positions, influence=influence, **limit))


@pytest.mark.parametrize("size", [5, 127, 128, 129])
def test_odd_sizes(size: int) -> None:
    _, positions, _ = road(size, 100.0)
    looks = torch.randn(size, 17, generator=torch.Generator().manual_seed(size))
    assert_rounding(errors(looks, positions))


def test_one_image() -> None:
    looks, positions, _ = road(1, 100.0)
    loss, grad = step(looks.float(), positions)
    assert loss < 1e-20
    assert torch.equal(grad, torch.zeros_like(grad))


@pytest.mark.parametrize("mining", [True, False])
@pytest.mark.parametrize("base", [1.0, 0.3])
def test_far_blocks(mining: bool, base: float) -> None:
    looks, positions, _ = road(300, 20_000.0)
    assert_rounding(errors(looks, positions, mining=mining, base=base))


def test_far_blocks_that_matter_are_visited(monkeypatch: pytest.MonkeyPatch) -> None:
    looks, positions, _ = road(300, 20_000.0)
    monkeypatch.setattr(
        evaluation.FusedEvaluation,
        "_limit_far",
        lambda self, *_: _set_limits(self, math.inf),
    )
    assert errors(looks, positions, mining=False, base=0.3)[1] > 1e-3


def _set_limits(fused: evaluation.FusedEvaluation, limit: float) -> None:
    limits = torch.full((fused._rows.blocks,), limit)
    fused._rows = fused._columns = fused._rows._replace(limit=limits)


def test_gradient_filter_bounds_the_error() -> None:
    looks, positions, _ = road(300, 20_000.0)
    looks = torch.nn.functional.normalize(looks)
    options: dict[str, Any] = {"mining": False, "base": 0.3}
    # Nothing reaches it, but for a pair of far images that look alike.
    _, filtered = step(looks.float(), positions, gradient_filter=0.99, **options)
    _, whole = step(looks.float(), positions, **options)
    assert not torch.equal(filtered, whole)
    bound = 2 * math.exp(50.0 * (0.99 - 0.3)) / len(looks)
    assert (filtered - whole).norm(dim=1).max() < bound


@pytest.mark.parametrize("influence", [Linear(), Tanh(), Sigmoid()])
def test_coincident_points(influence: Any) -> None:
    looks, positions, _ = road(140, 50.0)
    positions = positions[torch.arange(140) // 3]
    assert_rounding(errors(looks, positions, influence=influence))


@pytest.mark.parametrize(
    "influence",
    [Step(), Step(cutoff_m=12.3, support_limit_m=15.0), Sigmoid(support_limit_m=15.0)],
)
@pytest.mark.parametrize("origin_m", [(0.0, 0.0), (619_873.4, 5_735_211.8), (1 / 3, -1 / 7)])
def test_ties_are_decided_in_float64(influence: Any, origin_m: tuple[float, float]) -> None:
    positions = walk_in_ties(60) + torch.tensor(origin_m, dtype=torch.float64)
    looks = torch.randn(60, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    options = {"influence": influence, "mining": False, "aggregation": "plain"}
    assert_rounding(errors(looks, positions, **options))


@pytest.mark.parametrize("mining", [True, False])
def test_rectangular(mining: bool) -> None:
    looks, positions, _ = road(200, 6_000.0)

    def gradients(dtype: torch.dtype, implementation: Any) -> list[Tensor]:
        rows = looks[:70].to(dtype).requires_grad_()
        columns = looks[50:].to(dtype).requires_grad_()
        loss = soft_contrastive_loss(
            rows,
            positions[:70],
            references=columns,
            reference_positions_m=positions[50:],
            self_index=(torch.arange(70) - 50).clamp(min=-1),
            mining=mining,
            base=0.5,
            implementation=implementation,
        )
        return [loss, *torch.autograd.grad(loss, (rows, columns))]

    found = gradients(torch.float32, "fused")
    for got, expected in zip(found, gradients(torch.float64, "dense"), strict=True):
        assert (got - expected).norm() < 1e-6 * expected.norm()


def test_regions_three_axes_and_half_precision() -> None:
    looks, positions, _ = road(150, 200.0, dim=100)
    region = torch.arange(150) % 2
    assert_rounding(errors(looks, positions, region=region))
    solid = torch.cat([positions, positions[:, :1] % 7.0], dim=1)
    assert_rounding(errors(looks, solid))
    half = looks.bfloat16()
    loss, grad = step(half, positions)
    expected, expected_grad = step(half.double(), positions, implementation="dense")
    assert grad.dtype == torch.bfloat16
    assert abs(loss - expected) < 1e-6 * expected
    assert (grad.double() - expected_grad).norm() < 2**-8 * expected_grad.norm()


def test_bfloat16_factors(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = InterpreterBuilder.create_dot

    def product(self: Any, a: Any, b: Any, *others: Any) -> Any:
        """Triton 3.9's interpreter multiplies the bits of bfloat16 as if they were integers."""
        a, b = (
            TensorHandle((x.data.astype("uint32") << 16).view("float32"), tl.float32)
            if x.data.dtype == "uint16"
            else x
            for x in (a, b)
        )
        return plain(self, a, b, *others)

    monkeypatch.setattr(InterpreterBuilder, "create_dot", product)
    looks, positions, _ = road(150, 200.0)
    of_loss, of_grad = errors(looks, positions, mining=False, tile_precision="bfloat16")
    assert 1e-6 < of_grad < 5e-2
    assert of_loss < 1e-2


@pytest.mark.parametrize("mining", [True, False])
def test_strips_chunks_and_splits(mining: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    looks, positions, _ = road(400, 4_000.0)
    whole = step(looks.float(), positions, mining=mining)
    again = step(looks.float(), positions, mining=mining)
    assert torch.equal(whole[0], again[0])
    assert torch.equal(whole[1], again[1])
    monkeypatch.setattr(layout, "STRIP_BLOCKS", 3)
    monkeypatch.setattr(evaluation, "CHUNK", 1)
    monkeypatch.setattr(evaluation, "SPLITS", 3)
    loss, grad = step(looks.float(), positions, mining=mining)
    assert abs(loss - whole[0]) < 1e-6 * whole[0]
    assert (grad - whole[1]).norm() < 1e-6 * whole[1].norm()


def test_tiles_narrower_than_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "reduce_options", lambda *_: {"BN": 64, "BK": 16, **LAUNCH})
    monkeypatch.setattr(
        tuning,
        "gradient_options",
        lambda dim, _: {"BM": 64, "BN": 32, "WIDTH": tuning.width(dim), **LAUNCH},
    )
    looks, positions, _ = road(140, 200.0, dim=40)
    assert_rounding(errors(looks, positions))


MUTANTS = {
    "distance in float32 alone": ("while c < NOWHERE:", "while c < -1:"),
    "no support": ("near = (d < rule.support) & valid", "near = (d < 1e9) & valid"),
    "a pair with itself attracts": (
        "return plus, minus, near & ~same, repels",
        "return plus, minus, near, repels",
    ),
    "columns' sums kept by rows": (
        "e = tl.where(p < tl.load(columns.below + at_column)[None, :], e, 0.0)",
        "e = e_row",
    ),
    "mining ignored in backward": (
        "if MINING:\n            column",
        "if False:\n            column",
    ),
    "half of the rows' factors": (
        "row = tl.load(of_rows + at_row)\n",
        "row = 0.5 * tl.load(of_rows + at_row)\n",
    ),
}


@pytest.mark.parametrize("name", MUTANTS)
def test_mutants_fail(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old, new = MUTANTS[name]
    mutant = _changed(pairs, old, new, tmp_path)
    for function in vars(kernels):
        if hasattr(mutant, function) and hasattr(pairs, function) and function[0] != "_":
            monkeypatch.setattr(kernels, function, getattr(mutant, function))
    looks, positions, _ = road(150, 300.0)
    ties = walk_in_ties(150) + torch.tensor([1 / 3, -1 / 7], dtype=torch.float64)
    worst = max(
        *errors(looks, positions),
        *errors(looks, ties, influence=Step(), aggregation="plain", mining=False),
    )
    assert worst > 1e-5


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("if j > i:", "if j >= i:"),
        ("range(split, columns.blocks, SPLITS)", "range(split + 1, columns.blocks, SPLITS)"),
        ("tl.maximum(begin, i)", "begin"),
    ],
)
def test_mutants_of_the_walk_fail(
    old: str, new: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(evaluation, "kernels", _changed(kernels, old, new, tmp_path))
    looks, positions, _ = road(150, 300.0)
    assert max(errors(looks, positions, mining=False)) > 1e-5


def _changed(module: ModuleType, old: str, new: str, folder: Path) -> ModuleType:
    """Return a module with a part of its text replaced."""
    assert module.__file__ is not None
    text = Path(module.__file__).read_text(encoding="utf-8")
    assert text.count(old) >= 1
    file = folder / "mutant.py"
    file.write_text(text.replace(old, new), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(f"mutant_{abs(hash((old, new)))}", file)
    assert spec is not None
    assert spec.loader is not None
    mutant = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(mutant)
    return mutant
