"""The first run on a GPU: is the loss right there, and what do kernels and steps cost.

``benchmarks/run_gpu.sh`` runs the stages one after the other, each in a process of its own,
within a time budget. Every stage prints as it goes and stops at its own limit. ``--dry`` runs
the same lines on the CPU in small form, so that no minute on a GPU is lost to an import.
"""

from __future__ import annotations

import itertools
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import _common as common

DURATION = "about 5 minutes"
USUAL_TILE, NARROW_TILE = 2048, 256
"""With tiles this narrow, 3,000 images along 10 km have far tiles too."""


@dataclass
class Run:
    """One call of this script.

    Attributes:
        dry: Whether everything runs on the CPU, in small form.
        limit_s: When a stage with many steps stops.
        results: Figures by name, saved when the process ends.
        wrong: What differed from the dense float64 loss.
    """

    dry: bool
    limit_s: float
    results: dict[str, Any] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    @property
    def device(self) -> str:
        """Where tensors are."""
        return "cpu" if self.dry else "cuda"

    @property
    def implementation(self) -> Any:
        """The one that is tested."""
        return "tiled" if self.dry else "cupy"

    def say(self, *words: object) -> None:
        """Print at once: a process that hangs later has said this."""
        print(*words, flush=True)

    def hold(self, name: str, *, right: bool, found: str) -> None:
        """Print what was found, and remember it if it is wrong."""
        self.say("right" if right else "WRONG", f"{name}: {found}")
        if not right:
            self.wrong.append(name)


def main(argv: Sequence[str]) -> int:
    """Run the stages; return 1 if one failed or found something wrong."""
    from benchmarks import _gpu_first_times as times

    stages: dict[str, Callable[[Run], None]] = {
        "env": env,
        "right": right,
        "kernels": times.kernels,
        "steps": times.steps,
        "pairwise": times.pairwise,
        "million": times.million,
    }
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("stages", nargs="*", help=f"of {', '.join(stages)}; default: all")
    parser.add_argument("--dry", action="store_true", help="on the CPU, in small form")
    parser.add_argument("--limit", type=float, default=90.0, help="seconds of stage 'steps'")
    options = parser.parse_args(argv)
    unknown = set(options.stages) - set(stages)
    if unknown:
        parser.error(f"no stage {', '.join(sorted(unknown))}; choose from {', '.join(stages)}")
    run = Run(dry=options.dry or options.quick, limit_s=options.limit)
    failed = [name for name in options.stages or stages if not _stage(name, stages[name], run)]
    if run.results:
        folder = Path(os.environ.get("OUT", common.ROOT / "build"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "gpu_first.json").write_text(json.dumps(run.results, indent=1))
    if failed or run.wrong:
        run.say("failed:", *failed, "wrong:", *run.wrong)
    return int(bool(failed or run.wrong))


def _stage(name: str, work: Callable[[Run], None], run: Run) -> bool:
    """Run a stage; whatever it raises is printed, and the next stage goes on."""
    start = time.perf_counter()
    run.say(f"== {name}")
    try:
        work(run)
    except Exception:  # noqa: BLE001 - the stages after it may still work
        traceback.print_exc(limit=8)
        return False
    finally:
        run.say(f"== {name}: {time.perf_counter() - start:.1f} s")
    return True


def env(run: Run) -> None:
    """Print device and versions."""
    run.say(common.describe_device(run.device))
    run.say(common.describe_versions())
    if not run.dry:
        import cupy
        import torch

        run.say("NVRTC", cupy.cuda.nvrtc.getVersion(), "toolkit", cupy.cuda.get_cuda_path())
        run.say("free and total bytes", torch.cuda.mem_get_info())


def right(run: Run) -> None:
    """Compare every form of the loss with dense float64, and each run with its repetition."""
    import torch

    from benchmarks import _gpu_first_forms as forms
    from mlcore_soft_contrastive import Linear, Sigmoid, Step, Tanh

    size = 500 if run.dry else 3000
    for tile, data in itertools.product((USUAL_TILE, NARROW_TILE), ("dense", "route")):
        batch = forms.Batch.of(size, 64, data, run.device)
        influences = (Sigmoid(), Linear(), Tanh(), Step())
        for influence, mining, aggregation in itertools.product(
            influences, (True, False), ("log-sum-exp", "plain")
        ):
            options: dict[str, Any] = {
                "influence": influence,
                "mining": mining,
                "aggregation": aggregation,
                "headings_rad": batch.headings,
                "heading_limit_rad": 1.0,
            }
            with gpu_tile(tile):
                got, again = (batch.step(run.implementation, **options) for _ in range(2))
            found = forms.difference(got, batch.double().step("dense", **options))
            same = torch.equal(got.loss, again.loss) and torch.equal(got.grad, again.grad)
            name = f"{type(influence).__name__}, mining {mining}, {aggregation}, {data}"
            run.hold(
                f"{name}, tile {tile}",
                right=found.is_rounding(size) and same,
                found=f"{found}, equal bits {same}",
            )
    with gpu_tile(NARROW_TILE):
        forms.others(run)


@contextmanager
def gpu_tile(width: int) -> Iterator[None]:
    """Give tiles another width, on whichever device."""
    from mlcore_soft_contrastive import dispatch

    before = dispatch.DEVICE_TILE, dispatch.CPU_TILE
    dispatch.DEVICE_TILE = width
    # In small form the batch is small too: as many tiles.
    dispatch.CPU_TILE = width // 4
    try:
        yield
    finally:
        dispatch.DEVICE_TILE, dispatch.CPU_TILE = before


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
