"""Compiles the kernels without a GPU, for a named architecture; for tests and benchmarks."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from mlcore.protocols import DeviceCode
from mlcore_soft_contrastive.config import TilePrecision
from mlcore_soft_contrastive.fused import kernels, tuning
from mlcore_soft_contrastive.fused.arguments import RULE_TYPES, SIDE_TYPES
from mlcore_soft_contrastive.fused.evaluation import CHUNK, SPLITS
from mlcore_soft_contrastive.fused.influence_code import triton_function, triton_source

PASSES = ("most_attracting", "mining_extrema", "far", "sums", "gradient near", "gradient far")
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
_OTHERS = {
    "by_row": "*fp32",
    "by_column": "*fp32",
    "largest": "*fp32",
    "out": "*fp32",
    "first": "i32",
    "first_row": "i32",
    "num_rows": "i32",
}
_ALIGNED = [["tt.divisibility", 16]]


@dataclass(frozen=True)
class Code:
    """What a compiled kernel needs.

    Attributes:
        registers: Per thread.
        stack: Bytes per thread; more than 0 are spilled registers.
        shared: Bytes of shared memory per program.
        warps: Per program.
        ptx: The intermediate code.
    """

    registers: int
    stack: int
    shared: int
    warps: int
    ptx: str


def compiled(
    step: str,
    architecture: int,
    precision: TilePrecision,
    code: DeviceCode,
    *,
    dim: int = 256,
    mining: bool = True,
    turns: str = "none",
) -> Code:
    """Compile one of :data:`PASSES` as a launch on a GPU would.

    Args:
        step: Which pass.
        architecture: 80 for sm_80, and so on.
        precision: Of the factors.
        code: Of the influence function.
        dim: Of the embeddings.
        mining: Whether pairs are mined.
        turns: What headings matter for: "none", "limit", "influence" or "both".
    """
    source = triton_source(code)
    assert source is not None, "the influence function has no Triton form"
    constants: dict[str, Any] = {
        "INFLUENCE": triton_function(source),
        "AXES": 2,
        "TURNS": turns,
        "MINING": mining,
        "PLAIN": False,
        "PRECISION": tuning.INPUT_PRECISION[precision],
        "D": dim,
        "FORM": "square",
    }
    kernel: Any
    if step.startswith("gradient"):
        far = step == "gradient far"
        options = tuning.gradient_options(dim, turns)
        constants |= {"SPLITS": SPLITS, "FAR": far}
        kernel = kernels.gradient_strip
    else:
        options = tuning.reduce_options(turns, precision)
        constants |= {"CHUNK": CHUNK, "STEP": step}
        kernel = kernels.reduce_strip
    launch = {k: options.pop(k) for k in ("num_warps", "num_stages", "enable_fp_fusion")}
    constants |= options
    side = SIDE_TYPES._replace(unit="*bf16" if precision == "bfloat16" else "*fp32")
    types = {"rows": side, "columns": side, "rule": RULE_TYPES, **_OTHERS}
    signature = {name: types.get(name, "constexpr") for name in kernel.arg_names}
    built = triton.compile(
        ASTSource(kernel, signature, constexprs=constants, attrs=_aligned(signature)),
        target=GPUTarget("cuda", architecture, 32),
        options=launch,
    )
    registers, stack = _resources(built.asm["cubin"])
    return Code(registers, stack, built.metadata.shared, launch["num_warps"], built.asm["ptx"])


def _aligned(signature: dict[str, Any]) -> dict[tuple[int, ...], Any]:
    """Return the alignment of every pointer, which torch's own allocations have."""
    attributes: dict[tuple[int, ...], Any] = {}
    for k, kind in enumerate(signature.values()):
        if isinstance(kind, tuple):
            attributes |= {(k, m): _ALIGNED for m, t in enumerate(kind) if t[0] == "*"}
        elif kind[0] == "*":
            attributes[(k,)] = _ALIGNED
    return attributes


def _resources(cubin: bytes) -> tuple[int, int]:
    """Return registers and bytes of stack per thread, by the tool that Triton brings."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.cubin"
        file.write_bytes(cubin)
        shown = subprocess.run(  # noqa: S603
            [CUOBJDUMP, "-res-usage", file], check=True, capture_output=True, text=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", shown)
    assert found is not None, shown
    return int(found[1]), int(found[2])
