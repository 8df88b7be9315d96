"""What the loss benchmark runs: batches, losses, yardstick, peak memory."""

from __future__ import annotations

import ctypes
import gc
import math
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mlcore_soft_contrastive import soft_contrastive_loss

Step = Callable[[], object]
CELL_M = 15.0


def batch(size: int, dim: int, data: str, device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return embeddings ``(B, D)`` float32, raw UTM positions and class labels.

    Embeddings are random Fourier features of the position, with noise: near images look
    alike. "dense": all within 80 m, every pair attracts. "route": in random order along a
    winding road of 10 km.
    """
    generator = torch.Generator().manual_seed(size)
    arc = torch.rand(size, generator=generator, dtype=torch.float64)
    if data == "dense":
        other = torch.rand(size, generator=generator, dtype=torch.float64)
        xy = torch.stack([arc, other], dim=1) * (80.0 / math.sqrt(2.0))
    else:
        arc *= 10_000.0
        xy = torch.stack([arc, 60.0 * torch.sin(arc / 200.0)], dim=1)
    waves = torch.randn(2, dim, generator=generator, dtype=torch.float64) / 15.0
    phases = torch.rand(dim, generator=generator, dtype=torch.float64) * 2 * math.pi
    # On the device, in blocks: a million images on the CPU take longer than their step.
    noise = generator if device == "cpu" else torch.Generator(device).manual_seed(size)
    blocks = [
        torch.cos(block.to(device) @ waves.to(device) + phases.to(device)).float()
        + 0.3 * torch.randn(len(block), dim, generator=noise, device=device)
        for block in xy.split(65536)
    ]
    labels = (xy[:, 0] // CELL_M).long() * 1000 + (xy[:, 1] // CELL_M).long()
    positions = xy + torch.tensor([619_873.4, 5_735_211.8], dtype=torch.float64)
    return torch.cat(blocks), positions.to(device), labels.to(device)


def dense_autograd(embeddings: Tensor, positions_m: Tensor) -> Tensor:
    """Return the loss as one would write it in an afternoon: float32, all pairs, sigmoid."""
    x = torch.nn.functional.normalize(embeddings)
    where = (positions_m - positions_m.mean(dim=0)).float()
    distance = (where[:, None] - where[None]).square().sum(dim=2).sqrt()
    attraction = torch.sigmoid(-0.8 * (distance - 15.0))
    similarity = torch.relu(x @ x.T)
    attracts = (distance < 125.90354885) & ~torch.eye(len(x), dtype=torch.bool, device=x.device)
    p, n = attraction * similarity, (1.0 - attraction) * similarity
    attracting = (torch.exp(-2.0 * (p - 1.0)) * attracts).sum(dim=1)
    repelling = torch.exp(50.0 * (n - 1.0)).sum(dim=1)
    return (torch.log1p(attracting) / 2.0 + torch.log1p(repelling) / 50.0).mean()


def steps(names: list[str], size: int, dim: int, data: str, device: str) -> dict[str, Step]:
    """Return forward and backward of each named loss on one batch."""
    embeddings, positions, labels = batch(size, dim, data, device)
    ours: dict[str, dict[str, Any]] = {
        "tiled": {"implementation": "tiled", "mining": False},
        "tiled, saved": {
            "implementation": "tiled",
            "mining": False,
            "save_similarity": True,
        },
        "tiled, filter 0.5": {
            "implementation": "tiled",
            "mining": False,
            "gradient_filter": 0.5,
        },
        "tiled, tf32": {"implementation": "tiled", "mining": False, "tile_precision": "tf32"},
        "tiled, bfloat16": {
            "implementation": "tiled",
            "mining": False,
            "tile_precision": "bfloat16",
        },
        "tiled, mining": {"implementation": "tiled"},
        "tiled, mining, tf32": {"implementation": "tiled", "tile_precision": "tf32"},
        "tiled, mining, saved": {"implementation": "tiled", "save_similarity": True},
        "fused": {"implementation": "fused", "mining": False},
        "fused, mining": {"implementation": "fused"},
        "fused, tf32": {"implementation": "fused", "mining": False, "tile_precision": "tf32"},
        "fused, mining, tf32": {"implementation": "fused", "tile_precision": "tf32"},
        "fused, bfloat16": {
            "implementation": "fused",
            "mining": False,
            "tile_precision": "bfloat16",
        },
        "dense": {"implementation": "dense", "mining": False},
        "dense, mining": {"implementation": "dense"},
    }

    if device == "cuda":
        for options in ours.values():
            if options["implementation"] == "tiled":
                options["implementation"] = "cupy"

    def run(loss: Callable[[Tensor], Tensor]) -> None:
        leaf = embeddings.detach().requires_grad_()
        loss(leaf).backward()  # type: ignore[no-untyped-call]

    made: dict[str, Step] = {}
    for name in names:
        loss: Callable[[Tensor], Tensor]
        if name in ours:
            loss = partial(_ours, positions_m=positions, options=ours[name])
        elif name == "dense autograd":
            loss = partial(dense_autograd, positions_m=positions)
        else:
            loss = partial(_pml_loss(name), labels=labels)
        made[name] = partial(run, loss)
    return made


def _pml_loss(name: str) -> torch.nn.Module:
    """Return "PML MultiSimilarity" and the like; the library is imported only for these."""
    from pytorch_metric_learning import losses

    made: torch.nn.Module = getattr(losses, f"{name.removeprefix('PML ')}Loss")()
    return made


def _ours(embeddings: Tensor, positions_m: Tensor, options: dict[str, Any]) -> Tensor:
    loss: Tensor = soft_contrastive_loss(embeddings, positions_m, **options)
    return loss


def yardstick(dim: int, device: str) -> tuple[float, float]:
    """Return this machine's rates, flop/s of a tile's product and exponentials/s."""
    x = torch.randn(1024, dim, device=device)
    tile = torch.empty(512, 512, device=device)
    product = partial(torch.mm, x[:512], x[512:].T, out=tile)
    flops = 2 * 512 * 512 * dim / _best(product, device)
    small = torch.rand(512, 512, device=device)
    return flops, small.numel() / _best(partial(torch.exp, small, out=tile), device)


def _best(run: Step, device: str) -> float:
    """Return the median seconds of a short run."""
    seconds = []
    for _ in range(30):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return sorted(seconds)[15]


def beside(
    busy: int, steps: dict[str, Step], threads: list[int], repeats: int, turn_s: float
) -> dict[int, dict[str, list[float]]]:
    """Return the seconds of each step, by number of threads, in turns.

    Args:
        busy: How many other processes compute without pause meanwhile.
        steps: What to time.
        threads: Numbers of threads.
        repeats: Turns of each.
        turn_s: Least length of a turn, in which the step is run again and again.
    """
    seconds: dict[int, dict[str, list[float]]] = {
        n: {name: [] for name in steps} for n in threads
    }
    # It ends with this process, however that ends.
    spin = [
        sys.executable,
        "-c",
        "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass",
    ]
    neighbours = [subprocess.Popen(spin) for _ in range(busy)]  # noqa: S603
    try:
        for turn in range(-1, repeats):  # the first is a warm-up
            for n in threads:
                torch.set_num_threads(n)
                for name, run in steps.items():
                    taken = _turn(run, turn_s)
                    seconds[n][name] += taken if turn >= 0 else []
    finally:
        for neighbour in neighbours:
            neighbour.kill()
            neighbour.wait()
    return seconds


def _turn(run: Step, turn_s: float) -> list[float]:
    """Return the seconds of one step after the other."""
    taken: list[float] = []
    while not taken or sum(taken) < turn_s:
        start = time.perf_counter()
        run()
        taken.append(time.perf_counter() - start)
    return taken


def runnable(steps: dict[str, Step], device: str) -> tuple[dict[str, Step], dict[str, str]]:
    """Run each step once; return those that work, and why the others do not."""
    work: dict[str, Step] = {}
    failed: dict[str, str] = {}
    for name, run in steps.items():
        try:
            run()
            synchronize(device)
        except Exception as error:  # noqa: BLE001 - out of memory, a kernel that does not compile
            failed[name] = f"{type(error).__name__}: {error}".splitlines()[0]
        else:
            work[name] = run
    return work, failed


def on_gpu(
    names: list[str], size: int, dim: int, data: str, precision: str, repeats: int
) -> dict[str, Any]:
    """Time steps on the GPU, with other losses' products in ``precision``, fp32 or tf32."""
    torch.backends.cuda.matmul.fp32_precision = "tf32" if precision == "tf32" else "ieee"
    made, failed = runnable(steps(names, size, dim, data, "cuda"), "cuda")
    flops, exponentials = yardstick(dim, "cuda")
    return {
        "seconds": measure_on_gpu(made, repeats),
        "failed": failed,
        "yardstick": 4 * size**2 * dim / flops + 3 * size**2 / exponentials,
    }


def measure_on_gpu(steps: dict[str, Step], repeats: int) -> dict[str, list[float]]:
    """Return the seconds of each step between two CUDA events, in turns, after a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(-1, repeats):
        for name, run in steps.items():
            before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            before.record()  # type: ignore[no-untyped-call]
            run()
            after.record()  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
            if turn >= 0:
                seconds[name].append(1e-3 * before.elapsed_time(after))  # type: ignore[no-untyped-call]
    return seconds


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def peak_bytes(name: str, size: int, dim: int, data: str, device: str) -> int:
    """Return the peak of memory during one step over what was there before it."""
    steps([name], 300, dim, data, device)[name]()
    run = steps([name], size, dim, data, device)[name]
    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")
