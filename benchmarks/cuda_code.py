"""Instructions, registers, launches and host time of the CUDA kernels, without a GPU.

Compiles with NVRTC and CuPy's flags, disassembles, and counts the instructions of each loop
over pairs along its usual path: one warp takes 32 lanes x 4 columns per round. Counts launches,
of kernels and of torch's operations, and times the host with a launcher that does nothing.

Needs the packages nvidia-cuda-nvrtc, cuda-bindings and triton (for its disassembler).
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import _common as common
from mlcore_soft_contrastive import Sigmoid, SoftContrastiveConfig, dispatch
from mlcore_soft_contrastive.cuda import sides, walk
from mlcore_soft_contrastive.geometry import Geometry, Places
from mlcore_soft_contrastive.tiled import cupy_launch
from mlcore_soft_contrastive.tiled.kernel_source import tiles_source
from mlcore_soft_contrastive.tiled.products import Products

DURATION = "about 1 minute"

ARCHITECTURES = (80, 90)
PAIR_KERNELS = ("most_attracting", "mining_extrema", "sums", "mined_sums", "far_sums")
PAIR_KERNELS += ("mined_far_sums", "gradient", "mined_gradient")
SIZES = (8192, 1_000_000)


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    options = common.parser(__file__, __doc__ or "").parse_args(argv)
    architectures = ARCHITECTURES[-1:] if options.quick else ARCHITECTURES
    sizes = SIZES[:1] if options.quick else SIZES
    lines = [line for architecture in architectures for line in code_table(architecture)]
    common.report(
        __file__,
        __doc__ or "",
        "\n".join([*lines, *host_table(sizes)]),
        options=options,
        argv=argv,
        method="NVRTC and nvdisasm, nothing measured on a GPU; host time: median of 30 or 5",
    )
    return 0


def code_table(architecture: int) -> list[str]:
    """Return registers, and instructions per 32 pairs, of each kernel over pairs."""
    cubin = compiled(tiles_source(Sigmoid().device_code()), architecture)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "kernels.cubin"
        path.write_bytes(cubin)
        usage = tool("cuobjdump", "-res-usage", str(path))
        sass = tool("nvdisasm", "-c", str(path))
    registers = dict(re.findall(r"Function (\w+):\s+REG:(\d+)", usage))
    lines = [
        f"## sm_{architecture}",
        "",
        "| kernel | registers | near | far | float64 in near, far |",
        "|---|---|---|---|---|",
    ]
    bodies = re.split(r"\n\.text\.(\w+):\n", sass)
    for name, body in zip(bodies[1::2], bodies[2::2], strict=True):
        if name not in PAIR_KERNELS:
            continue
        loops = pair_loops(body)
        near = [loop for loop in loops if loop.near]
        far = [loop for loop in loops if not loop.near]
        cells = [
            f"{min(loop.per_32_pairs for loop in kind):.1f}" if kind else "-"
            for kind in (near, far)
        ]
        doubles = [str(sum(loop.doubles for loop in kind)) for kind in (near, far)]
        lines.append(
            f"| {name} | {registers[name]} | {' | '.join(cells)} | {', '.join(doubles)} |"
        )
    return [*lines, ""]


@dataclass(frozen=True)
class Loop:
    """One loop over rows: instructions per 32 pairs, whether it weighs pairs, float64 in it."""

    per_32_pairs: float
    near: bool
    doubles: int


def pair_loops(body: str) -> list[Loop]:
    """Return the innermost loops that read similarities, of a function's disassembly."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in body.splitlines():
        if label := re.match(r"(\.L_x_\d+):", line):
            labels[label[1]] = len(instructions)
        elif instruction := re.match(r"\s+/\*[0-9a-f]+\*/\s+(.*?);", line):
            instructions.append(instruction[1])
    found: list[tuple[int, int]] = []
    for k, instruction in enumerate(instructions):
        target = re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", instruction)
        if target and labels[target[1]] < k:
            found.append((labels[target[1]], k + 1))
    inner = [
        (a, b)
        for a, b in found
        if not any(a <= c and d <= b and (a, b) != (c, d) for c, d in found)
    ]
    loops = []
    for first, last in inner:
        loop = instructions[first:last]
        rounds = sum(bool(re.search(r"LDG\.E\.128", one)) for one in loop)
        if rounds:
            # A near loop calls float64 out of line; its preparation is counted here too.
            doubles = sum(
                bool(re.search(r"\b(DADD|DMUL|DFMA|DSETP|F2F)\b", one)) for one in loop
            )
            near = any("MUFU.RSQ" in one for one in loop)
            rounds = 1 if near else rounds
            loops.append(Loop(len(loop) / (4 * rounds), near, doubles))
    return loops


def compiled(source: str, architecture: int) -> bytes:
    """Return what NVRTC makes of a source."""
    from cuda.bindings import nvrtc

    _, program = nvrtc.nvrtcCreateProgram(source.encode(), b"kernels.cu", 0, [], [])
    options = [*cupy_launch.OPTIONS, *cupy_launch.CUPY_OPTIONS]
    options.append(f"--gpu-architecture=sm_{architecture}")
    flags = [option.encode() for option in options]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(flags), flags)
    assert status == nvrtc.nvrtcResult.NVRTC_SUCCESS, status
    _, size = nvrtc.nvrtcGetCUBINSize(program)
    cubin = bytes(size + 1)
    nvrtc.nvrtcGetCUBIN(program, cubin)
    return cubin[:size]


def tool(name: str, *arguments: str) -> str:
    """Run one of the tools that come with triton."""
    spec = find_spec("triton")
    assert spec is not None
    assert spec.origin is not None
    program = Path(spec.origin).parent / "backends" / "nvidia" / "bin" / name
    done = subprocess.run(  # noqa: S603 - our own arguments
        [program, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout


class Operations(TorchDispatchMode):
    """Counts torch's operations that compute, each at least one launch; not views or memory."""

    FREE = ("empty", "view", "split", "slice", "select", "t", "transpose", "detach", "alias")
    FREE += ("unsqueeze", "expand", "as_strided", "lift_fresh", "unbind", "permute", "_to_copy")

    def __init__(self) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name.removeprefix("new_").removesuffix("_like") not in self.FREE:
            self.seen[name] += 1
        return func(*args, **(kwargs or {}))


def host_table(sizes: Sequence[int]) -> list[str]:
    """Return launches and host time of evaluations, forward and backward."""
    lines = [
        "## Launches and host time, forward and backward, mining, float32",
        "",
        "From the check of the embeddings to the gradient. Sorting counts as one operation; it",
        "is several kernels. 8,192 images are all near each other; a million stand on a road,",
        "5 m apart, and no far tile's gradient is significant. The time is of one thread of a",
        "CPU: arguments are prepared as for CuPy; kernels, products and sorting do nothing;",
        "torch's other operations are computed on the spot. A product's own launch, some 5 us,",
        "comes on top.",
        "",
        "| images | tiles | kernels | products | torch operations | together | host ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for size in sizes:
        launches: Counter[str] = Counter()

        def count(name: str, *_: Any, seen: Counter[str] = launches) -> None:
            seen[name] += 1

        inputs = _inputs(size)
        with Operations() as operations:
            tiles = evaluate(inputs, count)
        products = launches.pop("product")
        times = []
        for _ in range(30 if size == 8192 else 5):
            start = time.thread_time()
            evaluate(inputs, nothing)
            times.append(time.thread_time() - start)
        kernels, others = sum(launches.values()), sum(operations.seen.values())
        counts = f"{kernels} | {products} | {others} | {kernels + products + others}"
        milliseconds = 1e3 * float(np.median(times))
        lines.append(f"| {size:,} | {tiles} | {counts} | {milliseconds:.2f} |")
        if size == 8192:
            seen = operations.seen.most_common()
            detail = [f"{name} {number}" for name, number in seen]
    return [*lines, "", f"Torch operations at 8,192: {', '.join(detail)}.", ""]


def nothing(name: str, *arguments: Any) -> None:
    """Prepare the arguments as CuPy's launcher does, and launch nothing."""
    if name != "product":
        _, _, *passed = arguments  # after grid and block
        tuple(map(cupy_launch.as_scalar, passed))


class _NoProducts(Products):
    """Products that are counted and not computed."""

    def __init__(self, launch: Any) -> None:
        super().__init__()
        self._launch = launch

    def similarities(self, x: Tensor, y: Tensor, out: Tensor) -> Tensor:
        self._launch("product", x, y.T)
        return out

    def add(self, total: Tensor, tile: Tensor, factor: Tensor) -> None:
        self._launch("product", total, tile, factor)


@dataclass(frozen=True)
class _Counted(walk.CudaKernels):
    """Starts evaluations without products, and keeps them."""

    started: list[walk.CudaEvaluation] = field(default_factory=list)

    def start(self, *arguments: Any, **options: Any) -> walk.CudaEvaluation:
        evaluation = super().start(*arguments, **options)
        evaluation._products = _NoProducts(self.compiled(""))  # noqa: SLF001 - a part of it
        self.started.append(evaluation)
        return evaluation


def _inputs(size: int) -> tuple[Tensor, Geometry, Tensor]:
    """Return embeddings, where they are, and the order that sorting would find."""
    places = Places(torch.zeros(size, 2, dtype=torch.float64), None)
    order = torch.arange(size)
    geometry = Geometry(
        rows=places,
        columns=places,
        self_index=order,
        influence=Sigmoid(),
        heading_limit_rad=None,
    )
    return torch.zeros(size, 2, requires_grad=True), geometry, order


def evaluate(inputs: tuple[Tensor, Geometry, Tensor], launch: Any) -> int:
    """Run one evaluation whose kernels do nothing; return the number of tiles."""
    torch.set_num_threads(1)
    leaf, geometry, order = inputs
    config = SoftContrastiveConfig()
    kernels = _Counted(lambda _: launch)
    width = walk.tile_width(len(order), dispatch.DEVICE_TILE)
    # What the host reads, which nothing has computed here.
    patched: dict[tuple[Any, str], Any] = {
        (sides.Side, "read_boxes"): _boxes_of_a_route,
        (walk.CudaEvaluation, "_significant"): lambda *_: [],
        (dispatch, "mean"): torch.mean,  # as on a GPU
        (torch, "argsort"): lambda *_, **__: order + 0,
        (dispatch, "choose"): lambda *_: ("cupy", width, kernels),
    }
    before = {key: getattr(*key) for key in patched}
    for (owner, name), value in patched.items():
        setattr(owner, name, value)
    try:
        dispatch.evaluate(leaf, None, geometry, config).loss.backward()
    finally:
        for (owner, name), value in before.items():
            setattr(owner, name, value)
    return len(kernels.started[0]._tiles)  # noqa: SLF001 - what is counted here


def _boxes_of_a_route(side: sides.Side) -> None:
    """Place the blocks along a straight road: an image every 5 m, or all in one place."""
    blocks = side.padded // sides.BLOCK
    step_m = 0.0 if side.size <= 8192 else 5.0 * sides.BLOCK
    boxes = np.zeros((blocks, 2, 4), dtype=np.float32)
    boxes[:, 0, 0] = step_m * np.arange(blocks)
    boxes[:, 1, 0] = step_m * np.arange(1, blocks + 1)
    side.boxes = boxes


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
