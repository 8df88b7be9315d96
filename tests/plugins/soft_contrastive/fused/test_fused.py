"""What of the fused kernels needs no interpreter: translation, choice, code ahead of time."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from typing import Any

import pytest
import torch

from mlcore import ConfigError, DeviceCode
from mlcore_soft_contrastive import (
    FieldOfView,
    Linear,
    Sigmoid,
    SoftContrastiveConfig,
    Step,
    Tanh,
    soft_contrastive_loss,
)
from mlcore_soft_contrastive.fused import choice
from mlcore_soft_contrastive.fused.influence_code import triton_source
from mlcore_soft_contrastive.fused.layout import curve_blocks
from mlcore_soft_contrastive.fused.sides import turns
from mlcore_soft_contrastive.geometry import Geometry, Places
from mlcore_soft_contrastive.inputs import checked_geometry

ARCHITECTURES = (80, 90, 100)
PASSES = ("most_attracting", "mining_extrema", "far", "sums", "gradient near", "gradient far")
PRECISIONS = ("float32", "tf32", "bfloat16")
CASES = [
    (step, mining)
    for step, mining in itertools.product(PASSES, (True, False))
    if mining or step in {"sums", "far", "gradient near", "gradient far"}
]
# Of sm_86, sm_89 and sm_120, the least of all from sm_80 on.
SHARED_BYTES = 99 * 1024


@pytest.mark.parametrize("influence", [Sigmoid(), Linear(), Tanh(), Step(), FieldOfView()])
def test_every_function_of_ours_has_a_triton_form(influence: Any) -> None:
    assert triton_source(influence.device_code()) is not None


def test_translation_keeps_the_meaning_of_c() -> None:
    code = DeviceCode("d < a ? 1.0f - d * -d / 2 : fmaxf(0, a - d)", {"a": 3.0})
    assert triton_source(code) == (
        "def influence(d, h, parameters):\n"
        "    a = tl.load(parameters + 0)\n"
        "    return tl.where((d < a), (1.0 - ((d * (-d)) / 2.0)), tl.maximum(0.0, (a - d)))\n"
    )


@pytest.mark.parametrize(
    "expression",
    [
        "powf(d, 2.0f)",
        "d && 1",
        "1 / 2 * d",
        "fmaxf(d)",
        "d +",
        "(d",
        "unknown * d",
        "d; d",
        "__import__('os')",
    ],
)
def test_beyond_the_grammar_there_is_no_form(expression: str) -> None:
    assert triton_source(DeviceCode(expression, {})) is None


def test_needs_a_gpu() -> None:
    pytest.importorskip("triton", reason="Triton comes with torch on Linux only")
    with pytest.raises(ConfigError, match="needs tensors on a GPU, got cpu"):
        soft_contrastive_loss(
            torch.randn(4, 3), torch.rand(4, 2).double(), implementation="fused"
        )


def test_needs_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ConfigError, match="Triton, which torch installs on Linux only"):
        choice.require(torch.device("cpu"))


def test_needs_sm_80(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton", reason="Triton comes with torch on Linux only")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.raises(ConfigError, match=r"8\.0 or later, got 7\.5"):
        choice.require(torch.device("cuda"))


def geometry(influence: Any, looks: torch.Tensor) -> Geometry:
    positions = torch.rand(len(looks), 2).double()
    return checked_geometry(looks, positions, None, influence=influence, heading_limit_rad=None)


def test_covers() -> None:
    class Odd:
        support_m, repulsion_start_m = 15.0, 0.0

        def __call__(self, distance_m: torch.Tensor) -> torch.Tensor:
            return (1.0 - distance_m / 15.0).clamp(min=0.0).square()

        def device_code(self) -> DeviceCode:
            return DeviceCode("powf(fmaxf(0.0f, 1.0f - d / 15.0f), 2.0f)", {})

    config, looks = SoftContrastiveConfig(), torch.randn(5, 256)
    assert choice.covers(geometry(Sigmoid(), looks), config, looks)
    assert not choice.covers(geometry(Odd(), looks), config, looks)
    assert not choice.covers(geometry(Sigmoid(), looks), config, looks.double())
    wide = torch.randn(5, 257)
    assert not choice.covers(geometry(Sigmoid(), wide), config, wide)


def test_the_choice_imports_no_triton() -> None:
    code = (
        "import sys, mlcore_soft_contrastive.plugin; assert 'torch' not in sys.modules;"
        "import mlcore_soft_contrastive.dispatch; assert 'triton' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_blocks_hold_one_region_each() -> None:
    generator = torch.Generator().manual_seed(0)
    positions = torch.rand(700, 2, generator=generator, dtype=torch.float64)
    region = torch.randint(0, 3, (700,), generator=generator)
    blocks = curve_blocks(Places(positions, None, region))
    assert sorted(blocks.order.tolist()) == list(range(700))
    for first, stop, code, lower, upper in zip(
        blocks.first, blocks.stop, blocks.region, blocks.lower_m, blocks.upper_m, strict=True
    ):
        rows = blocks.order[first:stop]
        assert 0 < len(rows) <= 128
        assert set(region[rows].tolist()) == {int(code)}
        assert torch.equal(lower, positions[rows].amin(dim=0))
        assert torch.equal(upper, positions[rows].amax(dim=0))
    assert blocks.stop[:-1].tolist() == blocks.first[1:].tolist()


def test_turns_wrap() -> None:
    degrees = torch.tensor([0.0, 359.0, 180.0, 1.0, -1.0], dtype=torch.float64)
    units = turns(torch.deg2rad(degrees))
    one = 2**64 / 360
    assert abs(int(units[3] - units[1]) / one - 2.0) < 1e-12
    assert abs(abs(int(units[2] - units[0])) / one - 180.0) < 1e-12
    assert abs(int(units[4] - units[1])) / one < 1e-12


def compiled(*arguments: Any, **options: Any) -> Any:
    pytest.importorskip("triton", reason="Triton comes with torch on Linux only")
    from mlcore_soft_contrastive.fused import ahead

    if not ahead.CUOBJDUMP.is_file():
        pytest.skip("this build of Triton has no cuobjdump to read registers with")
    return ahead.compiled(*arguments, **options)


def assert_fits(code: Any) -> None:
    assert code.registers <= 255
    assert code.stack == 0
    assert code.shared <= SHARED_BYTES


def test_float64_is_rounded_as_everywhere() -> None:
    code = compiled("sums", 90, "float32", Sigmoid().device_code())
    assert_fits(code)
    used = set(re.findall(r"\b(\w+)\.(?:rn\.)?f64\b", code.ptx))
    assert {"add", "mul", "sqrt", "sub"} <= used
    assert "fma" not in used


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_registers_without_spills(architecture: int, precision: str) -> None:
    """Every pass on every architecture and in every precision, not in every pair of these."""
    first = ARCHITECTURES.index(architecture) + PRECISIONS.index(precision)
    for step, mining in CASES[first % 3 :: 3]:
        code = Sigmoid().device_code()
        assert_fits(compiled(step, architecture, precision, code, mining=mining))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("turns", ["limit", "influence", "both"])
def test_registers_with_headings(turns: str) -> None:
    influence = Sigmoid() if turns == "limit" else FieldOfView()
    for step in ("sums", "gradient near"):
        assert_fits(compiled(step, 90, "float32", influence.device_code(), turns=turns))
