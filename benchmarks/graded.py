"""Time and memory of one step of each graded loss, beside PML's multi-similarity.

Forward and backward from the embeddings to their gradient, float32, images along a winding
road of 10 km. Each loss is timed in turns with its rival. Losses of cubic time are timed at
1,024 images only. Memory is measured at 4,096, where 512 MiB are allowed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from benchmarks import _common as common

DURATION = "about 10 minutes"
RIVAL = "PML MultiSimilarity"
CUBIC = ("graded-ap", "smooth-ap", "recall-at-k", "distance-triplet")
VARIANTS = {
    f"soft-supcon {variant}": ("soft-supcon", {"variant": variant})
    for variant in ("y-aware", "threshold", "exponential")
}
DIM = 256
REPEATS = 3


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--peak", nargs=2, metavar=("LOSS", "B"), help="measure one peak only")
    parser.add_argument("--note", default="", help="added to the method, such as the load")
    options = parser.parse_args(argv)
    if options.peak:
        name, size = options.peak
        print(json.dumps(_peak_bytes(name, int(size), options.device)))
        return 0
    sizes = (128,) if options.quick else (1024, 4096)
    lines: list[str] = []
    try:
        weighed = [RIVAL, *_names()][: 2 if options.quick else None]
        for line in _lines(sizes, options.device, weighed):
            print(line, flush=True)
            lines.append(line)
    finally:  # an interrupted run keeps what it has measured
        common.report(
            __file__,
            __doc__ or "",
            "\n".join(lines),
            options=options,
            argv=argv,
            method=f"D = {DIM}; 1 warm-up, then {REPEATS} calls in turns with as many of the "
            "rival; median [smallest, largest], ratio of the medians; each peak of memory in a "
            f"process of its own{options.note and '; ' + options.note}",
        )
    return 0


def _lines(sizes: Sequence[int], device: str, weighed: Sequence[str]) -> Iterator[str]:
    """Yield the result line by line as it is measured; memory of the ``weighed`` losses."""
    smallest, *larger = sizes
    yield from _times(smallest, _names(), device)
    yield f"\n## Peak of memory over the inputs, B = {sizes[-1]}\n"
    yield common.markdown_table(["loss", "peak"], [])
    for name in weighed:
        yield f"| {name} | {_peak_in_own_process(name, sizes[-1], device) / 2**20:.0f} MiB |"
    for size in larger:
        yield ""
        yield from _times(size, [name for name in _names() if name not in CUBIC], device)


def _times(size: int, names: Sequence[str], device: str) -> Iterator[str]:
    yield f"## Time, B = {size}\n"
    yield common.markdown_table(["loss", "time", "rival", "ratio"], [])
    rival = _step(RIVAL, size, device)
    for name in names:
        runs = {name: _step(name, size, device), RIVAL: rival}
        timings = common.measure(
            runs, repeats=REPEATS, synchronize=partial(_synchronize, device)
        )
        own, other = timings[name], timings[RIVAL]
        yield f"| {name} | {own} | {other} | {own.median / other.median:.2f} |"


def _names() -> list[str]:
    from mlcore_graded.plugin import mlcore_losses

    plain = [factory.name for factory in mlcore_losses() if factory.name != "soft-supcon"]
    return [*plain, *VARIANTS]


def _peak_in_own_process(name: str, size: int, device: str) -> int:
    import subprocess

    words = [sys.executable, "-m", "benchmarks.graded", "--device", device]
    done = subprocess.run(  # noqa: S603
        [*words, "--peak", name, str(size)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=common.ROOT,
    )
    return int(json.loads(done.stdout))


def _step(name: str, size: int, device: str) -> Callable[[], object]:
    """Return forward and backward of a loss on one batch."""
    import torch

    from benchmarks._loss_steps import batch, steps
    from mlcore import Batch, BuildContext
    from mlcore_graded.plugin import mlcore_losses
    from mlcore_soft_contrastive import Sigmoid

    if name == RIVAL:
        return steps([name], size, DIM, "route", device)[name]
    factories = {factory.name: factory for factory in mlcore_losses()}
    loss_name, options = VARIANTS.get(name, (name, {}))
    factory = factories[loss_name]
    loss = factory.build(factory.config(**options), BuildContext(influence=Sigmoid()))
    embeddings, positions_m, labels = batch(size, DIM, "route", device)
    zeros = torch.zeros_like(labels)
    images = Batch(
        positions_m=positions_m,
        headings_rad=None,
        tuple_id=zeros,
        role=zeros,
        place_id=labels,
        index=torch.arange(size, device=device),
    )

    def run() -> None:
        leaf = embeddings.detach().requires_grad_()
        loss(leaf, images).loss.backward()  # type: ignore[no-untyped-call]

    return run


def _peak_bytes(name: str, size: int, device: str) -> int:
    """Return the peak of memory during one step over what was there before it."""
    import ctypes
    import gc
    from pathlib import Path

    import torch

    from benchmarks._loss_steps import _status

    _step(name, 100, device)()
    run = _step(name, size, device)
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = _status("VmRSS")
    run()
    return _status("VmHWM") - before


def _synchronize(device: str) -> None:
    from benchmarks._loss_steps import synchronize

    synchronize(device)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
