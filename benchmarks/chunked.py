"""Memory and time of a training step in chunks, and of the joint loss by processes.

A step is: embed, soft contrastive loss, differentiate (no optimizer). Peak memory is what
the process held at most beyond what it held before the first step: resident memory on the
CPU, allocated memory on a GPU; each row is a process of its own. The second table shows the
loss alone, of random embeddings along a street, each process computing its own rows.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import _common as common
from benchmarks._joint import run_in_processes
from benchmarks._networks import network
from mlcore.distributed import num_processes
from mlcore.protocols import Batch
from mlcore.training.gradient_cache import EmbeddedImages, InChunks, WithGraph
from mlcore.training.joint import embedding_gradient, joint_loss
from mlcore.training.memory_estimate import activation_bytes
from mlcore_soft_contrastive import soft_contrastive_loss
from mlcore_soft_contrastive.config import SoftContrastiveConfig
from mlcore_soft_contrastive.influence import Sigmoid
from mlcore_soft_contrastive.loss import BatchLoss

DURATION = "5 minutes"

SIZE_PX = (180, 240)
STEPS = 3


def main(argv: Sequence[str]) -> int:
    """Run the benchmark; ``--one`` is one row, for itself."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--model", choices=["small-cnn", "vgg16"], default="small-cnn")
    parser.add_argument("--images", type=int, default=512)
    parser.add_argument("--one", type=int, metavar="CHUNK", help="measure one chunk size")
    options = parser.parse_args(argv)
    num_images = 32 if options.quick else options.images
    if options.one is not None:
        print(json.dumps(one_row(options.model, options.device, num_images, options.one)))
        return 0
    sizes = (0, 8) if options.quick else (0, 256, 64, 16)
    body = [
        f"## {options.model}, {num_images} images of {SIZE_PX[0]} x {SIZE_PX[1]} px\n",
        chunk_table(options, num_images, sizes),
    ]
    if options.device == "cpu":
        counts = (1, 2) if options.quick else (1, 2, 4)
        size = 512 if options.quick else 8192
        body += [
            f"\n## The loss of {size} embeddings of 256 dimensions by processes\n",
            loss_table(counts, size),
        ]
    common.report(
        __file__,
        __doc__ or "",
        "\n".join(body),
        options=options,
        argv=argv,
        method=f"{STEPS} steps after 1 warm-up, the fastest; 1 thread a process for the loss",
    )
    return 0


def chunk_table(options: Any, num_images: int, sizes: Sequence[int]) -> str:
    """Return memory and time by chunk size, each measured in a process of its own."""
    an_image = activation_bytes(network(options.model), SIZE_PX)
    rows = []
    plain = 0.0
    for chunk in sizes:
        found = _measured(options, num_images, chunk)
        plain = plain or found["seconds"]
        rows.append(
            (
                chunk or "whole batch",
                f"{found['bytes'] / 1e6:.0f} MB",
                f"{an_image * (chunk or num_images) / 1e6:.0f} MB",
                f"{found['seconds']:.2f} s",
                f"{found['seconds'] / plain:.2f}",
            )
        )
    columns = ["chunk", "peak memory", "activations by estimate", "step", "against plain"]
    return common.markdown_table(columns, rows)


def _measured(options: Any, num_images: int, chunk: int) -> dict[str, float]:
    words = ["--model", options.model, "--device", options.device, "--one", str(chunk)]
    words += ["--quick"] if options.quick else ["--images", str(num_images)]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "benchmarks.chunked", *words],
        cwd=common.ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: dict[str, float] = json.loads(done.stdout)
    return found


def one_row(model_name: str, device_name: str, num_images: int, chunk: int) -> dict[str, float]:
    """Return peak bytes and seconds of a step."""
    device = torch.device(device_name)
    model: Any = network(model_name).to(device).train()
    images = torch.randint(0, 256, (num_images, 3, *SIZE_PX), dtype=torch.uint8)
    images = images if chunk else images.to(device)
    positions = (torch.rand(num_images, 2, dtype=torch.float64) * 2000).to(device)

    def step() -> None:
        embedded: EmbeddedImages = (
            InChunks(model, images, chunk, device) if chunk else WithGraph(model, images)
        )
        leaf = embedded.embeddings.requires_grad_()
        soft_contrastive_loss(leaf, positions).backward()
        assert leaf.grad is not None
        embedded.backward(leaf.grad)
        model.zero_grad(set_to_none=True)

    before = _held(device)
    seconds = []
    for _ in range(1 + STEPS):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return {"bytes": _most_held(device) - before, "seconds": min(seconds[1:])}


def _held(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def _most_held(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def loss_table(counts: Sequence[int], size: int) -> str:
    """Return time and memory of the joint loss and its gradient by number of processes."""
    rows = []
    alone = 0.0
    for count in counts:
        seconds, held = run_in_processes(count, loss_step, (size,))
        alone = alone or seconds
        cells = (f"{seconds:.2f} s", f"{alone / seconds:.2f}", f"{held / 1e6:.0f} MB")
        rows.append((count, *cells))
    return common.markdown_table(["processes", "step", "speed-up", "peak memory of one"], rows)


def loss_step(size: int) -> tuple[float, float]:
    """Return seconds and peak bytes of this process's part of the loss and its gradient."""
    generator = torch.Generator().manual_seed(0)
    along = torch.rand(size, generator=generator, dtype=torch.float64) * 10_000
    positions = torch.stack([along, torch.zeros_like(along)], dim=1)
    rows = torch.randn(size, 256, generator=generator)
    nothing = torch.zeros(size, dtype=torch.int64)
    batch = Batch(
        positions_m=positions,
        headings_rad=None,
        tuple_id=nothing,
        role=nothing,
        place_id=nothing,
        index=nothing,
    )
    loss = BatchLoss(SoftContrastiveConfig(), Sigmoid())
    embeddings: Tensor = torch.nn.functional.normalize(rows)
    before = _held(torch.device("cpu"))
    seconds = []
    for _ in range(1 + STEPS):
        leaf = embeddings.clone().requires_grad_()
        if num_processes() > 1:
            torch.distributed.barrier()
        start = time.perf_counter()
        output = joint_loss(loss, leaf, batch, None)
        output.mine.backward()  # type: ignore[no-untyped-call]
        embedding_gradient(leaf, output.in_shares)
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:]), _most_held(torch.device("cpu")) - before


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
