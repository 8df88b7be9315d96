"""The kernels compile as CuPy compiles them, without a warning, for every architecture."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from mlcore_soft_contrastive import FieldOfView, Linear, Sigmoid, Step, Tanh
from mlcore_soft_contrastive.tiled.cupy_launch import CUPY_OPTIONS, OPTIONS
from mlcore_soft_contrastive.tiled.kernel_source import Variant, pairwise_source, tiles_source

ARCHITECTURES = (75, 80, 89, 90, 100, 120)
VARIANTS = [
    Variant(),
    *(
        Variant(coordinates, headings, regions=True, repulsion_starts=True, plain=plain)  # type: ignore[arg-type]
        for coordinates, headings, plain in itertools.product(
            (2, 3), ("none", "limit"), (False, True)
        )
    ),
]


def compiler_log(source: str, architecture: int) -> str:
    """Compile with CuPy's flags; return what the compiler says of it."""
    nvrtc: Any = pytest.importorskip("cuda.bindings.nvrtc", reason="no cuda-bindings here")
    _, program = nvrtc.nvrtcCreateProgram(source.encode(), b"kernels.cu", 0, [], [])
    options = [*OPTIONS, *CUPY_OPTIONS, f"--gpu-architecture=sm_{architecture}"]
    flags = [option.encode() for option in options]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    # NVRTC writes into this object: one byte longer than it needs, so that it is never the
    # interpreter's own shared one-byte string.
    log = bytes(size + 1)
    nvrtc.nvrtcGetProgramLog(program, log)
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()
    nvrtc.nvrtcDestroyProgram(program)
    return log.decode()


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_for_every_architecture(architecture: int) -> None:
    assert "warning" not in compiler_log(tiles_source(Sigmoid().device_code()), architecture)
    assert "warning" not in compiler_log(pairwise_source(), architecture)


@pytest.mark.slow
@pytest.mark.parametrize("influence", [Linear(), Tanh(), Step()], ids=repr)
def test_every_other_influence_function(influence: Any) -> None:
    assert "warning" not in compiler_log(tiles_source(influence.device_code()), 90)


@pytest.mark.slow
@pytest.mark.parametrize("variant", VARIANTS, ids=repr)
def test_every_variant(variant: Variant) -> None:
    assert "warning" not in compiler_log(tiles_source(Sigmoid().device_code(), variant), 90)


@pytest.mark.parametrize("turns", [True, False])
def test_headings_weighed(turns: bool) -> None:
    variant = Variant(headings="weigh" if turns else "none")
    assert "warning" not in compiler_log(
        tiles_source(FieldOfView().device_code(), variant, turns=turns), 90
    )
