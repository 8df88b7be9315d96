"""How far partial gradients are from the whole batch's: processes, chunks, precision, compile.

The figure is the largest difference of any parameter's gradient, relative to the largest
entry of that gradient (of a thousandth of the largest gradient at least). Processes and
chunks run over every loss that is shipped and one of another package, on a small network,
against plain autograd; precision and compile run the small CNN with the proposed loss.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import _common as common
from benchmarks._joint import (
    DTYPES,
    Gradients,
    Setting,
    difference,
    largest_difference,
    losses,
    spawned,
)
from benchmarks._networks import network
from mlcore.training.gradient_cache import EmbeddedImages, InChunks, WithGraph
from mlcore_soft_contrastive import soft_contrastive_loss

DURATION = "4 minutes"

NUM_IMAGES = 48
SIZE_PX = (96, 128)
CHUNK_SIZE = 16


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    options = common.parser(__file__, __doc__ or "").parse_args(argv)
    counts = (2,) if options.quick else (2, 4)
    body = [
        "## Processes and chunks, over all losses\n",
        in_parts_table(counts),
        f"\n## The small CNN, {NUM_IMAGES} images of {SIZE_PX[0]} x {SIZE_PX[1]} px\n",
        cnn_table(options.device, compiled=not options.quick),
    ]
    common.report(
        __file__,
        __doc__ or "",
        "\n".join(body),
        options=options,
        argv=argv,
        method="no timing; one batch each, gloo processes on the CPU, 1 thread each",
    )
    return 0


def in_parts_table(counts: Sequence[int]) -> str:
    """Return the largest difference over all losses by processes, chunks and dtype."""
    names = list(losses())
    wrong = Setting("soft-contrastive", ignoring=True)
    rows, ignoring = [], 0.0
    for count in (1, *counts):
        chunk_sizes = (4,) if count == 1 else (0, 4)
        settings = [Setting(*one) for one in itertools.product(names, DTYPES, chunk_sizes)]
        if count == 1:
            values = [difference(losses()[s.loss], s) for s in settings]
        else:
            *values, ignoring = spawned(count, [*settings, wrong])
        for chunk_size in chunk_sizes:
            cells = []
            for dtype in DTYPES:
                value, name = max(
                    (value, s.loss)
                    for s, value in zip(settings, values, strict=True)
                    if (s.dtype, s.chunk_size) == (dtype, chunk_size)
                )
                cells.append(f"{value:.1e} ({name})")
            rows.append((count, chunk_size or "-", len(names), *cells))
    rows.append(
        (f"{counts[-1]}, ignoring the others' negatives", "-", 1, f"{ignoring:.1e}", "")
    )
    columns = ["processes", "chunk", "losses", "float64 (worst)", "float32 (worst)"]
    return common.markdown_table(columns, rows)


def cnn_table(device_name: str, *, compiled: bool) -> str:
    """Return differences of the CNN's gradients from those of float32 at once."""
    device = torch.device(device_name)
    ways: dict[str, tuple[str, int, bool]] = {
        f"float32 in chunks of {CHUNK_SIZE}": ("float32", CHUNK_SIZE, False),
        "bf16-mixed": ("bfloat16", 0, False),
        f"bf16-mixed in chunks of {CHUNK_SIZE}": ("bfloat16", CHUNK_SIZE, False),
        "16-mixed": ("float16", 0, False),
    }
    if compiled:
        ways["float32, compiled"] = ("float32", 0, True)
    plain = cnn_gradients(device, "float32", 0)
    exact = cnn_gradients(device, "float64", 0)
    rows = [("float32 against float64", f"{largest_difference(plain, exact):.1e}", "1")]
    for way, (dtype, chunk_size, compile_) in ways.items():
        found = cnn_gradients(device, dtype, chunk_size, compile_=compile_)
        rows.append(
            (
                f"{way} against float32",
                f"{largest_difference(found, plain):.1e}",
                _cosine(found, plain),
            )
        )
    columns = ["way", "largest relative difference", "cosine of the whole gradient"]
    return common.markdown_table(columns, rows)


def cnn_gradients(
    device: torch.device, dtype: str, chunk_size: int, *, compile_: bool = False
) -> Gradients:
    """Return the gradients of one batch; float16 with the loss scaled by 2^10."""
    model: Any = network("small-cnn").to(device).train()
    images = torch.randint(0, 256, (NUM_IMAGES, 3, *SIZE_PX), dtype=torch.uint8).to(device)
    positions = torch.rand(NUM_IMAGES, 2, dtype=torch.float64) * 80
    if dtype == "float64":
        model.double()
    if compile_:
        model.backbone.compile()
    mixed = dtype in ("bfloat16", "float16")

    def precision() -> Any:
        return (
            torch.autocast(device.type, getattr(torch, dtype), cache_enabled=False)
            if mixed
            else nullcontext()
        )

    with precision():
        embedded: EmbeddedImages = (
            InChunks(model, images, chunk_size, device, precision)
            if chunk_size
            else WithGraph(model, images)
        )
    leaf = embedded.embeddings.requires_grad_()
    loss = soft_contrastive_loss(leaf, positions.to(device))
    scale = 1024.0 if dtype == "float16" else 1.0
    (loss * scale).backward()
    assert leaf.grad is not None
    embedded.backward(leaf.grad)
    return _named_gradients(model, scale)


def _named_gradients(model: nn.Module, scale: float) -> Gradients:
    return {
        name: parameter.grad.double() / scale
        for name, parameter in model.named_parameters()
        if parameter.grad is not None
    }


def _cosine(found: Gradients, plain: Gradients) -> str:
    def flat(gradients: Gradients) -> Tensor:
        return torch.cat([gradient.flatten() for gradient in gradients.values()])

    return f"{float(torch.cosine_similarity(flat(found), flat(plain), dim=0)):.6f}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
