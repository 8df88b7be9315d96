"""What kernels, products and steps cost, for the first run on a GPU."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from benchmarks import _loss_steps as work
from benchmarks._gpu_first_forms import Batch
from mlcore_soft_contrastive import Sigmoid, SoftContrastiveConfig, pairwise_distance
from mlcore_soft_contrastive.cuda.walk import CudaEvaluation, CudaKernels
from mlcore_soft_contrastive.inputs import checked_geometry
from mlcore_soft_contrastive.tiled import cupy_launch

if TYPE_CHECKING:
    from benchmarks.gpu_first import Run

STEPS = ("most_attracting", "mining_extrema", "mined_sums", "mined_far_sums", "mined_gradient")
DENSE_UP_TO = 32768
DATA = ("dense", "route")
"""All blocks of 128 x 128 images near, and almost all far."""


def kernels(run: Run) -> None:
    """Time each kernel on one tile, the host's part of a launch, and the tile's products."""
    width = 128 if run.dry else 2048
    if not run.dry:
        large = torch.empty(2**29, device=run.device)
        other = torch.empty_like(large)
        seconds = _seconds(run, lambda: other.copy_(large), 5)
        run.say(f"copy {8 * 2**29 / seconds / 1e12:.2f} TB/s")
        del large, other
    for headings, data in itertools.product((False, True), DATA):
        batch = Batch.of(2 * width, 256, data, run.device)
        evaluation = _evaluation(batch, width, run, headings=headings)
        for step in STEPS:
            seconds = _seconds(run, partial(evaluation.run, step, 1))
            run.say(
                f"{step:16s} {data:5s} headings {headings}: {1e6 * seconds:.1f} us per tile"
            )
        start = time.perf_counter()
        for _ in range(300):
            evaluation.run("mined_sums", 1)
        run.say(f"host, per launch: {1e6 * (time.perf_counter() - start) / 300:.1f} us")
        work.synchronize(run.device)
    for precision in ("ieee", "tf32"):
        torch.backends.cuda.matmul.fp32_precision = precision
        for size in (width,) if run.dry else (2048, 4096, 8192):
            _products(run, precision, size)
    torch.backends.cuda.matmul.fp32_precision = "none"


def _evaluation(batch: Batch, width: int, run: Run, *, headings: bool) -> CudaEvaluation:
    """Return an evaluation after its forward pass; in small form its kernels do nothing."""
    geometry = checked_geometry(
        batch.embeddings,
        batch.positions,
        batch.headings if headings else None,
        influence=Sigmoid(),
        heading_limit_rad=1.0 if headings else None,
    )
    compiled: Any = cupy_launch.cupy_kernels
    if run.dry:
        compiled = lambda _: lambda *_: None  # noqa: E731
    evaluation = CudaKernels(compiled).start(geometry, SoftContrastiveConfig(), width)
    evaluation.forward(batch.embeddings, None)
    return evaluation


def _products(run: Run, precision: str, size: int) -> None:
    a, b = (torch.randn(size, 256, device=run.device) for _ in range(2))
    tile = torch.empty(size, size, device=run.device)
    total = torch.zeros(size, 256, device=run.device)
    products: dict[str, Callable[[], Tensor]] = {
        "x y^T": lambda: torch.mm(a, b.T, out=tile),
        "H x": lambda: total.addmm_(tile, b),
        "H^T x": lambda: total.addmm_(tile.T, b),
    }
    for name, product in products.items():
        seconds = _seconds(run, product)
        rate = 2e-12 * size * size * 256 / seconds
        run.say(f"{precision}, {size}: {name} {1e6 * seconds:.1f} us ({rate:.0f} TFLOP/s)")


def steps(run: Run) -> None:
    """Time steps of the loss against dense autograd, by size, data and precision."""
    end = time.perf_counter() + run.limit_s
    sizes = (300,) if run.dry else (8192, 32768, 1024, 131072)
    for size, data in itertools.product(sizes, ("dense", "route")):
        repeats = 1 if run.dry else 15 if size <= 8192 else 5 if size <= DENSE_UP_TO else 2
        for precision in ("ieee",) if run.dry else ("ieee", "tf32"):
            if time.perf_counter() > end:
                run.say("steps: out of time")
                return
            torch.backends.cuda.matmul.fp32_precision = precision
            names = ["tiled", "tiled, mining"]
            if precision == "tf32":
                names = ["tiled, tf32", "tiled, mining, tf32", "tiled, bfloat16"]
            if size <= DENSE_UP_TO:
                names.append("dense autograd")
            made = work.steps(names, size, 256, data, run.device)
            working, failed = work.runnable(made, run.device)
            for name, why in failed.items():
                run.say(f"FAILED B = {size}, {data}, {name}: {why}")
            timed = {name: _step_seconds(run, s, repeats) for name, s in working.items()}
            for name, seconds in timed.items():
                ratio = timed.get("dense autograd", float("nan")) / seconds
                run.results[f"{size} {data} {precision} {name}"] = seconds
                run.say(
                    f"B = {size}, {data}, {precision}, {name}: {1e3 * seconds:.2f} ms, "
                    f"dense autograd takes {ratio:.2f} times as long"
                )
    torch.backends.cuda.matmul.fp32_precision = "none"


def pairwise(run: Run) -> None:
    """Time pairwise distances against writing as many floats."""
    for dim in (2, 256):
        size = 300 if run.dry else 16384
        points = torch.randn(size, dim, device=run.device)
        written = torch.empty(size, size, device=run.device)
        ours = _seconds(run, partial(pairwise_distance, points), 3)
        floor = _seconds(run, lambda out=written: out.fill_(1.0), 3)
        leaf = points.requires_grad_()
        distances = pairwise_distance(leaf)
        by_distance = torch.ones_like(distances)
        work.synchronize(run.device)
        start = time.perf_counter()
        distances.backward(by_distance)
        work.synchronize(run.device)
        backward = time.perf_counter() - start
        run.say(
            f"N = {size}, D = {dim}: forward {1e3 * ours:.2f} ms, writing N x N floats "
            f"{1e3 * floor:.2f} ms, backward {1e3 * backward:.1f} ms"
        )
    many = torch.randn(500 if run.dry else 5_000_000, 2, device=run.device)
    run.say("rows beyond 65,535 blocks:", tuple(pairwise_distance(many, many[:1]).shape))


def million(run: Run) -> None:
    """Take one step of a million images on a route."""
    size = 2000 if run.dry else 1_000_000
    name = "tiled, mining" if run.dry else "tiled, mining, tf32"
    step = work.steps([name], size, 256, "route", run.device)[name]
    work.synchronize(run.device)
    start = time.perf_counter()
    step()
    host = time.perf_counter() - start
    work.synchronize(run.device)
    seconds = time.perf_counter() - start
    run.results["million"] = seconds
    run.say(f"{size} images: {seconds:.2f} s, Python done after {host:.2f} s")
    if not run.dry:
        run.say(f"peak {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def _step_seconds(run: Run, step: work.Step, repeats: int) -> float:
    if run.dry:
        return _seconds(run, step)
    return sorted(work.measure_on_gpu({"step": step}, repeats)["step"])[repeats // 2]


def _seconds(run: Run, work_on: Callable[[], object], repeats: int = 20) -> float:
    """Return the seconds of a call: the median of five rounds of ``repeats``."""
    work_on()
    work.synchronize(run.device)
    if run.dry:
        start = time.perf_counter()
        work_on()
        return time.perf_counter() - start
    rounds = work.measure_on_gpu({"": lambda: [work_on() for _ in range(repeats)]}, 5)
    return sorted(rounds[""])[2] / repeats
