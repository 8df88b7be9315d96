"""Time and memory of one step of the proposed loss, compared with other pair losses.

Forward and backward from the embeddings to their gradient, float32. The yardstick is
4 B^2 D flop at the rate of one 512-wide tile's matrix product plus 3 B^2 exponentials at
torch's rate, both measured in the same run. pytorch-metric-learning's losses compute
something else, with less arithmetic for each pair: they are what people use.

Each measurement runs in a process of its own and is printed, and with ``--save`` written, when
it ends; one that fails is listed and the rest goes on. On a GPU, times lie between CUDA events,
and TF32 is compared with TF32.

Every time on the CPU is measured under the default allocator and under one that keeps freed
memory (``GLIBC_TUNABLES``), because beyond B = 4,096 dense losses spend most of their time
having pages mapped. Memory: peak resident set over the set just before the step.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import _common as common
from benchmarks import _loss_tables as tables

DURATION = "about 35 minutes"

SETTINGS: dict[str, dict[str, str]] = {
    "default allocator": {},
    "tuned allocator": {
        "GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=4294967296:"
        "glibc.malloc.trim_threshold=4294967296"
    },
}
CUDA_SETTINGS: dict[str, dict[str, str]] = {"fp32": {}, "tf32": {}}
OURS = ["tiled", "tiled, saved", "tiled, filter 0.5", "tiled, mining", "tiled, mining, saved"]
TF32 = ["tiled, tf32", "tiled, mining, tf32", "tiled, bfloat16"]
FUSED = {
    "fp32": ["fused", "fused, mining"],
    "tf32": ["fused, tf32", "fused, mining, tf32", "fused, bfloat16"],
}
DENSE = ["dense", "dense, mining", "dense autograd"]
PML = ["PML MultiSimilarity", "PML SupCon", "PML Contrastive", "PML Circle"]
# Where a step takes seconds, what the others are compared with stands for them.
LARGE = ["tiled", "tiled, mining"]
LARGE_RIVALS = ["dense", "dense autograd", "PML MultiSimilarity"]
DIM = 256
SIZES = [256, 1024, 2048, 4096, 8192, 16384, 32768, 65536]
CUDA_SIZES = [8192, 32768, 1024, 131072]
LARGEST_DENSE = {"cpu": 8192, "cuda": 32768}
REPEATS = {256: 40, 512: 15, 1024: 20, 2048: 9, 4096: 5, 8192: 4, 16384: 3, 32768: 3}
COMPANY_THREADS, COMPANY_BUSY = [1, 2, 4, 8], [0, 1, 2]
COMPANY_NAMES = ["tiled", "tiled, mining", "PML MultiSimilarity"]
CUDA_COMMAND = "python -m benchmarks.loss_step --device cuda --save"


def main(argv: Sequence[str]) -> int:
    """Run the benchmark."""
    parser = common.parser(__file__, __doc__ or "")
    parser.add_argument("--sizes", type=int, nargs="+", help="batch sizes to measure")
    parser.add_argument(
        "--minutes",
        type=float,
        help="stop after this long; what matters most comes first, without PML's losses",
    )
    parser.add_argument("--worker", help="internal: one measurement, as JSON")
    parser.add_argument(
        "--only-company",
        action="store_true",
        help="only the table of threads and busy processes, saved as loss_step_company",
    )
    options = parser.parse_args(argv)
    if options.worker:
        print(json.dumps(_work(json.loads(options.worker))))
        return 0
    rows = _run(
        _jobs(options),
        60.0 * options.minutes if options.minutes else math.inf,
        lambda rows: options.save and _report(rows, options, argv, quiet=True),
    )
    _report(rows, options, argv, quiet=False)
    if options.save and not options.only_company:
        tables.plot(rows, common.RESULTS / "loss_step.png")
    return int(any("error" in row for row in rows))


def _report(
    rows: list[dict[str, Any]], options: Namespace, argv: Sequence[str], *, quiet: bool
) -> None:
    body = tables.body(rows)
    if options.device == "cpu" and not options.only_company:
        body += f"\n\n## GPU\n\nnot measured: `{CUDA_COMMAND}`"
    common.report(
        __file__,
        __doc__ or "",
        body,
        options=options,
        argv=argv,
        method=f"D = {DIM} unless said; 1 warm-up, then rounds in turns "
        f"({REPEATS}, else 1), on the CPU each timed step right after an untimed one of the "
        "same loss (neither beyond 8,192), from 4,096 on again until 2 s have passed; median "
        "[smallest, largest]; beside busy processes, turns of one second",
        result="loss_step_company" if options.only_company else None,
        quiet=quiet,
    )


def _jobs(options: Namespace) -> list[dict[str, Any]]:
    """Return what to measure, in the order of importance."""
    company = _company_jobs(quick=options.quick)
    if options.only_company:
        return company
    all_sizes = SIZES if options.device == "cpu" else CUDA_SIZES
    sizes = options.sizes or ([256] if options.quick else all_sizes)
    with_pml = options.minutes is None
    jobs = _time_jobs(sizes, options.device, quick=options.quick, with_pml=with_pml)
    jobs += _memory_jobs(sizes, options.device, with_pml=with_pml)
    jobs += company if options.device == "cpu" else []
    if options.quick:  # the last of each kind, with everything that it can have
        return list({job["what"]: job for job in jobs}.values())
    return jobs


def _time_jobs(
    sizes: list[int], device: str, *, quick: bool, with_pml: bool
) -> list[dict[str, Any]]:
    kinds = ["route"] if quick else ["dense", "route"]
    cases = [(size, DIM, data) for size in sizes for data in kinds]
    if not quick:
        cases.append((512, 32768, "route"))  # the paper's embedding
    settings = SETTINGS if device == "cpu" else CUDA_SETTINGS
    return [
        {
            "what": "time",
            "size": size,
            "dim": dim,
            "data": data,
            "device": device,
            "setting": setting,
            "environment": environment,
            "names": _names(size, device, setting, with_pml=with_pml),
            "repeats": 2 if quick else REPEATS.get(size, 1),
        }
        for size, dim, data in cases
        for setting, environment in settings.items()
        # Beyond, nothing is left that allocates B x B matrices.
        if device == "cuda" or size <= LARGEST_DENSE[device] or not environment
    ]


def _names(size: int, device: str, setting: str, *, with_pml: bool) -> list[str]:
    fits = size <= LARGEST_DENSE[device]
    if setting == "tf32":
        names = TF32 + (["dense autograd", *PML] if fits else [])
    elif device == "cuda" or size < LARGEST_DENSE[device]:
        names = OURS + (DENSE + PML if fits else [])
    else:
        names = LARGE + (LARGE_RIVALS if fits else [])
    if device == "cuda":
        names = names + FUSED[setting]
    return [name for name in names if with_pml or name not in PML]


def _memory_jobs(sizes: list[int], device: str, *, with_pml: bool) -> list[dict[str, Any]]:
    rivals = ["dense autograd", *(["PML MultiSimilarity"] if with_pml else [])]
    return [
        {
            "what": "memory",
            "size": size,
            "dim": DIM,
            "data": "route",
            "device": device,
            "names": [name],
        }
        for size in sizes
        for name in LARGE + (rivals if size <= LARGEST_DENSE[device] else [])
    ]


def _company_jobs(*, quick: bool) -> list[dict[str, Any]]:
    return [
        {
            "what": "company",
            "size": 256 if quick else 4096,
            "dim": DIM,
            "data": data,
            "device": "cpu",
            "busy": busy,
            "names": COMPANY_NAMES,
            "repeats": 1 if quick else 3,
            "turn_s": 0.0 if quick else 1.0,
        }
        for data in (("route",) if quick else ("dense", "route"))
        for busy in (COMPANY_BUSY[:2] if quick else COMPANY_BUSY)
    ]


def _run(
    jobs: list[dict[str, Any]],
    limit_s: float,
    after_each: Callable[[list[dict[str, Any]]], object],
) -> list[dict[str, Any]]:
    """Return the jobs with their results; those that the time did not allow say so."""
    end = time.monotonic() + limit_s
    rows = []
    for job in jobs:
        left_s = end - time.monotonic()
        row = job | (_spawn(job, left_s) if left_s > 0 else {"skipped": "no time left"})
        rows.append(row)
        print(tables.line(row), flush=True)
        after_each(rows)
    return rows


def _spawn(job: dict[str, Any], limit_s: float) -> dict[str, Any]:
    """Measure in a fresh process; return "error" or "skipped" if there is no result."""
    try:
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "benchmarks.loss_step", "--worker", json.dumps(job)],
            check=False,
            capture_output=True,
            text=True,
            cwd=common.ROOT,
            env={**os.environ, **job.get("environment", {})},
            timeout=None if math.isinf(limit_s) else limit_s,
        )
    except subprocess.TimeoutExpired:
        return {"skipped": "stopped, no time left"}
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:]
        return {"error": f"exit {done.returncode}: {''.join(last)}"}
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _work(job: dict[str, Any]) -> dict[str, Any]:
    from benchmarks import _loss_steps as work

    size, dim, data, device = job["size"], job["dim"], job["data"], job["device"]
    if job["what"] == "memory":
        return {"bytes": work.peak_bytes(job["names"][0], size, dim, data, device)}
    if device == "cuda":
        return work.on_gpu(job["names"], size, dim, data, job["setting"], job["repeats"])
    steps, failed = work.runnable(work.steps(job["names"], size, dim, data, device), device)
    if job["what"] == "company":
        turns = job["repeats"], job["turn_s"]
        seconds = work.beside(job["busy"], steps, COMPANY_THREADS, *turns)
        return {"seconds": seconds, "failed": failed}
    flops, exponentials = work.yardstick(dim, device)
    timings = common.measure(
        steps,
        repeats=job["repeats"],
        warmup=0,  # each has run once
        settle=size <= 8192,  # a step of many seconds has no rivals beside it
        turn_s=2.0 if size >= 4096 else 0.0,
    )
    return {
        "seconds": {name: timing.seconds for name, timing in timings.items()},
        "failed": failed,
        "yardstick": 4 * size**2 * dim / flops + 3 * size**2 / exponentials,
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
